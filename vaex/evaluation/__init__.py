"""Evaluation of trained models: likelihood, latents, generation, prediction, and figure records of them.

Functions take arrays or a model's own pure functions; ``vaex.runs`` applies them to a run, batch by batch.
"""
