"""Tables of predictions, single-label and multi-label, and their Parquet files."""
