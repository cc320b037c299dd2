"""Results as text: the table of a run, and runs side by side."""
