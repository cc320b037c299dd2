"""Python's front door: train, build and load, the run they return, and its members."""
