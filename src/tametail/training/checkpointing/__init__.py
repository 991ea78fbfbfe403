"""Checkpoints, when they are written, and interruption by signals."""
