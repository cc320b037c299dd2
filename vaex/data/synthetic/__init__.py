"""Data sets rendered from known factors inside the training step."""
