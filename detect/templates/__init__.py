"""Log lines to templates with ids derived from content."""
