"""Models that penalise the KL divergence, the total correlation or the aggregate posterior."""
