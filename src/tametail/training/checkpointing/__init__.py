"""Checkpoints, when they are written, and requests to stop."""
