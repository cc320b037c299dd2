"""Autoencoders: the VAE, point codes with and without a penalty, and the linear models."""
