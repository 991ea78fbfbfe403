"""Image files → pixels, and the cache of them."""
