"""The report of methods ranked over several data sets."""
