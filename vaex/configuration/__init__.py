"""Options and hyperparameters: declared once, read from text, resolved to settings."""
