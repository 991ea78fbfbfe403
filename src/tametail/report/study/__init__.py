"""The report of a study or an evaluation."""
