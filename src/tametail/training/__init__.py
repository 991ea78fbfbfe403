"""Training: recipes, data, the training loop, and the runs of a study with their checkpoints."""
