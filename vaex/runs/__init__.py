"""A run from settings to results: set up, train, evaluate."""
