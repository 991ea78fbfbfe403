"""Checks of a table of images before training: what is in it, how imbalanced it is, and what is wrong with it."""

from __future__ import annotations

from tametail.audit.audit import INSPECT_SCHEMA, AuditResult, audit
from tametail.audit.class_distribution import ClassDistribution, ClassSummary, class_distribution
from tametail.audit.duplicates import BLANK, Duplicates, find_duplicates, merge_groups
from tametail.audit.finding import LEAKS, SEVERITIES, Finding
from tametail.audit.image_stats import ImageStats, collect_stats, stats_of_pixels, thumbnail_of

__all__ = [
    "BLANK",
    "INSPECT_SCHEMA",
    "LEAKS",
    "SEVERITIES",
    "AuditResult",
    "ClassDistribution",
    "ClassSummary",
    "Duplicates",
    "Finding",
    "ImageStats",
    "audit",
    "class_distribution",
    "collect_stats",
    "find_duplicates",
    "merge_groups",
    "stats_of_pixels",
    "thumbnail_of",
]
