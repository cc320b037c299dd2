"""Models with other priors and posteriors than diagonal Gaussians."""
