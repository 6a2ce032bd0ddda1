"""Root causes from alerts alone: no series, only who raised what in which signal."""
