"""Pixels → training batches: samplers, loaders, augmentation, mixing."""
