"""Models whose codes are maps of integers."""
