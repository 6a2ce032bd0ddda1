"""The shell: composes the stages, stores, serves, and talks to people."""
