"""From arrays to batches: order, streaming, evaluation batches, few labels."""
