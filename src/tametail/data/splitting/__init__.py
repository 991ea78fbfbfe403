"""Test set and folds: stratified and group-aware."""
