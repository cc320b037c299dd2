"""Decoded arrays on disk and in memory: written once, checked at every start, larger than memory."""
