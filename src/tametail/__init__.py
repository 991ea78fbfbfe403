"""tametail: compare methods for long-tailed medical image classification.

    import tametail as tt

    study = tt.compare("skin/", methods=["alpa", "ce"], label_col="dx", out="runs/skin")
    study.results
    tt.load("runs/skin").predict_proba(["a.jpg"])

Importing the package is quick: each public name is loaded when it is first used. The losses in `tametail.losses` need torch
alone.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from tametail.core.errors import DataError, TametailError, UsageError
from tametail.core.version import __version__

if TYPE_CHECKING:
    from tametail.audit.audit import AuditResult, audit
    from tametail.data.packed import pack
    from tametail.data.readers.read_images import read_images
    from tametail.data.readers.reader import register_reader
    from tametail.data.splitting.subsample import subsample
    from tametail.data.table import ImageTable
    from tametail.deployment.classifier import Classifier
    from tametail.deployment.export import export
    from tametail.deployment.load import load
    from tametail.deployment.monitor import Monitoring, monitor
    from tametail.deployment.train import train
    from tametail.evaluation.metric_registry import register_metric
    from tametail.external.evaluate import EvaluationResult, evaluate
    from tametail.losses import create_loss, list_losses, register_loss
    from tametail.models.backbones import register_backbone
    from tametail.recommend.recommend import Recommendation, recommend
    from tametail.report.audit.labels import LabelInspection, inspect_labels
    from tametail.report.ranks.rank import Ranking, rank
    from tametail.report.sections import register_report_section
    from tametail.report.study.write import write_report as report
    from tametail.search.search import SearchResult, search
    from tametail.storage.unlock import unlock
    from tametail.study.share import share
    from tametail.study.status import status
    from tametail.study.study import Study, compare, evaluate_test_set, resume
    from tametail.study.worker import work
    from tametail.training.recipe import Recipe
    from tametail.training.strategies import list_strategies
    from tametail.training.strategies.strategy import register_strategy

_PLACES = {
    "AuditResult": "tametail.audit.audit.AuditResult",
    "Classifier": "tametail.deployment.classifier.Classifier",
    "EvaluationResult": "tametail.external.evaluate.EvaluationResult",
    "ImageTable": "tametail.data.table.ImageTable",
    "LabelInspection": "tametail.report.audit.labels.LabelInspection",
    "Monitoring": "tametail.deployment.monitor.Monitoring",
    "Ranking": "tametail.report.ranks.rank.Ranking",
    "Recipe": "tametail.training.recipe.Recipe",
    "Recommendation": "tametail.recommend.recommend.Recommendation",
    "SearchResult": "tametail.search.search.SearchResult",
    "Study": "tametail.study.study.Study",
    "audit": "tametail.audit.audit.audit",
    "compare": "tametail.study.study.compare",
    "create_loss": "tametail.losses.create_loss",
    "evaluate": "tametail.external.evaluate.evaluate",
    "evaluate_test_set": "tametail.study.study.evaluate_test_set",
    "export": "tametail.deployment.export.export",
    "inspect_labels": "tametail.report.audit.labels.inspect_labels",
    "list_losses": "tametail.losses.list_losses",
    "list_strategies": "tametail.training.strategies.list_strategies",
    "load": "tametail.deployment.load.load",
    "monitor": "tametail.deployment.monitor.monitor",
    "pack": "tametail.data.packed.pack",
    "rank": "tametail.report.ranks.rank.rank",
    "read_images": "tametail.data.readers.read_images.read_images",
    "recommend": "tametail.recommend.recommend.recommend",
    "register_backbone": "tametail.models.backbones.register_backbone",
    "register_loss": "tametail.losses.registry.register_loss",
    "register_metric": "tametail.evaluation.metric_registry.register_metric",
    "register_reader": "tametail.data.readers.reader.register_reader",
    "register_report_section": "tametail.report.sections.register_report_section",
    "register_strategy": "tametail.training.strategies.strategy.register_strategy",
    "report": "tametail.report.study.write.write_report",
    "resume": "tametail.study.study.resume",
    "search": "tametail.search.search.search",
    "share": "tametail.study.share.share",
    "status": "tametail.study.status.status",
    "subsample": "tametail.data.splitting.subsample.subsample",
    "train": "tametail.deployment.train.train",
    "unlock": "tametail.storage.unlock.unlock",
    "work": "tametail.study.worker.work",
}

__all__ = [
    "AuditResult",
    "Classifier",
    "DataError",
    "EvaluationResult",
    "ImageTable",
    "LabelInspection",
    "Monitoring",
    "Ranking",
    "Recipe",
    "Recommendation",
    "SearchResult",
    "Study",
    "TametailError",
    "UsageError",
    "__version__",
    "audit",
    "compare",
    "create_loss",
    "evaluate",
    "evaluate_test_set",
    "export",
    "inspect_labels",
    "list_losses",
    "list_strategies",
    "load",
    "monitor",
    "pack",
    "rank",
    "read_images",
    "recommend",
    "register_backbone",
    "register_loss",
    "register_metric",
    "register_reader",
    "register_report_section",
    "register_strategy",
    "report",
    "resume",
    "search",
    "share",
    "status",
    "subsample",
    "train",
    "unlock",
    "work",
]


class _Package(ModuleType):
    """The package: public functions stay functions, also those with the name of a folder, such as ``search``."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (isinstance(value, ModuleType) and name in _PLACES):  # set by the import of a folder
            super().__setattr__(name, value)


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module 'tametail' has no attribute {name!r}")
    try:
        module, _, attribute = _PLACES[name].rpartition(".")
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"tametail.{name} needs {error.name}, which is not installed: pip install 'tametail[train]'",
            name=error.name,
        ) from error


def __dir__() -> list[str]:
    return sorted(__all__)


sys.modules[__name__].__class__ = _Package
