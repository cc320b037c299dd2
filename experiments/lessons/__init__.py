"""Lessons on variational inference, for ``experiments/inference.py``: each returns figure records and a table."""
