"""Recommend a method for a data set: cross-entropy, post-hoc adjustments, other losses or re-training of the head."""
