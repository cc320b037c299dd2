"""vaex."""
