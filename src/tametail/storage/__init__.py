"""Folders of studies, searches and evaluations on disk."""
