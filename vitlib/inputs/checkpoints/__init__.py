"""Checkpoints as people have them: read without running any code, and fitted to an architecture by name."""
