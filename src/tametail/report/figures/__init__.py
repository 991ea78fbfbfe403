"""Figures, inline and as files."""
