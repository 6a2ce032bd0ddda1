"""Providers by name. A new one is a module here and a line in `registry`."""
