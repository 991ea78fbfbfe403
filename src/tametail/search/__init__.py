"""Hyper-parameter search by nested cross-validation: the images that evaluate a selection took no part in it."""
