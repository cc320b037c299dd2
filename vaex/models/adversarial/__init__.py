"""Autoencoders trained against a discriminator, of codes or of examples."""
