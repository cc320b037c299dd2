"""Readers of data sets: files of the user's own, published originals, TensorFlow Datasets."""
