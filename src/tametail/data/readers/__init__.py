"""Sources of labelled images → `ImageTable`."""
