"""What is fitted to the training examples of a run: states of stages, and samplers of codes."""
