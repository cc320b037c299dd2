"""Models trained by bounds of several importance samples."""
