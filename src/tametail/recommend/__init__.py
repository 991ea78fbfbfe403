"""From a table to what to use on it: plain cross-entropy, what is cheap after it, other losses, and how sure that is."""
