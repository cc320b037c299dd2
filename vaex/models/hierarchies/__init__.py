"""Models with layers of latents."""
