"""A trained run of two members, and the data that it was trained on."""

from helpers.two_members import digits, run, trained

__all__ = ["digits", "run", "trained"]
