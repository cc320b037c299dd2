"""Connections between the processes of one run: where they meet, and what they say to each other."""
