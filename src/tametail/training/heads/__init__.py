"""Many heads on the same frozen features, trained at once."""
