"""The fault lab: a small shop of real processes that breaks and is repaired. See docs/lab.md."""
