"""Training: knows the records of vaex.core, never a model."""
