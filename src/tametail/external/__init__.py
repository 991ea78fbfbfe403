"""Evaluation of predictions made elsewhere, and of a study's models on other images."""
