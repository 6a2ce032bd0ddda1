"""Signals to incidents."""
