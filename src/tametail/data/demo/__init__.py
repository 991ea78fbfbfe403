"""The built-in synthetic demo set."""
