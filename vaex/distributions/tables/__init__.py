"""Distributions of the columns of tables: heavy tails, positive values, inflated zeros, categories, and all of them in one."""
