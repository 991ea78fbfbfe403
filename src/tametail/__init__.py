"""tametail: honest comparison of losses for long-tailed medical image classification.

Importing the package loads nothing heavy; each public name is fetched when it is first used.
The losses live in `tametail.losses` and need torch alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from tametail.core.version import __version__

__all__ = [
    "Classifier",
    "ImageTable",
    "Search",
    "Study",
    "__version__",
    "compare",
    "evaluate_test_set",
    "load",
    "read_images",
    "recommend",
    "search",
]

_HOMES = {
    "Classifier": "tametail.deployment.classifier",
    "ImageTable": "tametail.data",
    "Search": "tametail.search.search",
    "Study": "tametail.study.study",
    "compare": "tametail.study.study",
    "load": "tametail.deployment.classifier",
    "evaluate_test_set": "tametail.study.study",
    "read_images": "tametail.data",
    "recommend": "tametail.recommend.recommend",
    "search": "tametail.search.search",
}

if TYPE_CHECKING:
    from tametail.data import ImageTable, read_images
    from tametail.deployment.classifier import Classifier, load
    from tametail.recommend.recommend import recommend
    from tametail.search.search import Search, search
    from tametail.study.study import Study, compare, evaluate_test_set


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'tametail' has no attribute {name!r}")
    try:
        return getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"tametail.{name} needs {error.name}, which is not installed: pip install 'tametail[train]'",
            name=error.name,
        ) from error


def __dir__() -> list[str]:
    return sorted(__all__)
