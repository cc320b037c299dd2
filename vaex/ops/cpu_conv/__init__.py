"""Convolutions on CPU as matrix products, with gradients by hand."""
