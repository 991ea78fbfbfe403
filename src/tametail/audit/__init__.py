"""What is in a set of images, how long its tail is, and what is wrong with it, before it is trusted."""

from __future__ import annotations

from tametail.audit.audit import SCHEMA, Audit, audit_table
from tametail.audit.duplicates import Duplicates, find_duplicates, group_duplicates
from tametail.audit.finding import SEVERITIES, Finding
from tametail.audit.image_stats import ImageStats, collect, of_pixels
from tametail.audit.tail import ClassFacts, Tail, tail_of

__all__ = [
    "SCHEMA",
    "SEVERITIES",
    "Audit",
    "ClassFacts",
    "Duplicates",
    "Finding",
    "ImageStats",
    "Tail",
    "audit_table",
    "collect",
    "find_duplicates",
    "group_duplicates",
    "of_pixels",
    "tail_of",
]
