"""Pixels → batches: samplers, loaders, augmentation, mixing."""
