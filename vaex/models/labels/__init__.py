"""Models that read labels."""
