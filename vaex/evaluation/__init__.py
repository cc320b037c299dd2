"""Evaluation of trained models: likelihood, latents, generation, and the pictures of them."""
