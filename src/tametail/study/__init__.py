"""The main job: methods × folds × seeds → runs → results."""
