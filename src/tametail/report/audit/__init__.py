"""The page of `tametail inspect`."""
