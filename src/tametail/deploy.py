"""A study's chosen model, to use: load it, give it images, get probabilities.

The model is the mean of the fold models of one loss: the best out of fold unless another is named.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tametail import study_file
from tametail.console import Console
from tametail.data import DICOM_SUFFIXES, IMAGE_SUFFIXES, decode_image
from tametail.errors import DataError, TametailError, UsageError
from tametail.models import BackboneSpec, Standardise, channels_last, describe_backbone
from tametail.predictions import exclusive, for_prevalence, scores
from tametail.preparation import restore_backbone
from tametail.report import best_loss
from tametail.training.hardware import make_accelerator
from tametail.training.inference import evaluating
from tametail.training.material import Rows, evaluation_transform
from tametail.training.recipe import Recipe
from tametail.training.run import all_runs, is_finished, trained_counts, trained_model
from tametail.training.strategies import Judgement, Method, parse_method

if TYPE_CHECKING:
    import pandas as pd

_BATCH = 32


@dataclass(frozen=True)
class Member:
    """One fold model, how its outputs are read, and the images per class (C,) that it was trained on."""

    model: nn.Module
    judgement: Judgement
    class_counts: NDArray[np.float64]


@dataclass(frozen=True)
class Classifier:
    """Fold models of one loss that answer together, by the mean of their probabilities.

    Attributes:
        loss: text of the loss they were trained with.
        class_names: C names, in the order of the probabilities.
        spec: the backbone and the images it takes.
        backbone: maps images to what ``members`` take: a shared frozen backbone, or the identity.
        members: the fold models.
    """

    loss: str
    class_names: tuple[str, ...]
    spec: BackboneSpec
    backbone: nn.Module
    members: tuple[Member, ...]
    device: torch.device

    @property
    def link(self) -> str:
        """The name of how outputs become probabilities."""
        return self.members[0].judgement.link

    @property
    def ceiling(self) -> float:
        """The largest probability that can come out, before rows are scaled to sum to one."""
        return self.members[0].judgement.ceiling

    def predict_proba(
        self, images: Sequence[str | Path], *, prevalence: Mapping[str, float] | None = None
    ) -> NDArray[np.float64]:
        """Probabilities (N, C), each row summing to one; ``prevalence`` as for `predict`.

        Raises:
            DataError: an image cannot be read; the message names it. (`predict` goes on instead.)
        """
        table = self.predict(images, prevalence=prevalence)
        failed = table[table["error"] != ""]
        if len(failed):
            first = failed.iloc[0]
            raise DataError(
                f"{len(failed)} of {len(table)} images cannot be read: {first['image']}: {first['error']}"
            )
        return table[[_column(name) for name in self.class_names]].to_numpy(dtype=np.float64)

    def predict(
        self,
        images: Sequence[str | Path],
        console: Console | None = None,
        *,
        prevalence: Mapping[str, float] | None = None,
    ) -> pd.DataFrame:
        """One row per image: image, predicted, one ``p_<class>`` per class, saturated, loss, link, error.

        Without ``prevalence`` the probabilities are for a population like the one that was trained on, and
        ``predicted`` follows the loss's own decision: a loss with a prior inside favours rare classes by design, so that
        it need not be the most probable one. With it both are for that population.
        ``saturated`` says that the probability of the predicted class is at the end of what the link can tell.

        An image that cannot be read gets a row with its error and no prediction.

        Args:
            prevalence: the share of every class, by name; in any unit, as it is scaled to sum to one.

        Raises:
            UsageError: a class is missing in ``prevalence`` or unknown, or a share is no number >= 0.
        """
        import pandas as pd

        shares = None if prevalence is None else _shares(prevalence, self.class_names)
        console = console or Console(quiet=True)
        rows: list[dict[str, object]] = []
        with console.track("Images", len(images)) as advance:
            for chunk in _chunks(images, _BATCH):
                rows += self._predict_chunk(chunk, shares)
                advance(len(chunk))
        columns = [
            "image",
            "predicted",
            *map(_column, self.class_names),
            "saturated",
            "loss",
            "link",
            "error",
        ]
        return pd.DataFrame(rows, columns=columns)

    def _predict_chunk(
        self, images: Sequence[str | Path], shares: NDArray[np.float64] | None
    ) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        decoded = []
        for image in images:
            row: dict[str, object] = {
                "image": str(image),
                "loss": self.loss,
                "link": self.link,
                "error": "",
            }
            try:
                decoded.append((row, decode_image(Path(image), self.spec.canvas)))
            except DataError as error:
                row["error"] = str(error)
            rows.append(row)
        if decoded:
            found = self._answers(np.stack([pixels for _, pixels in decoded]), shares)
            for (row, _), p, chosen, saturated in zip(decoded, *found, strict=True):
                row["predicted"], row["saturated"] = self.class_names[int(chosen)], bool(saturated)
                row |= {_column(name): float(value) for name, value in zip(self.class_names, p, strict=True)}
        return rows

    @torch.no_grad()
    def _answers(
        self, pixels: NDArray[np.uint8], shares: NDArray[np.float64] | None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
        """Probabilities (N, C), the class decided for (N,), and whether its probability is saturated (N,)."""
        inputs = evaluation_transform(self.spec)(torch.from_numpy(pixels).to(self.device))
        with evaluating(self.backbone):
            features = self.backbone(inputs)
        posteriors, decisions, saturated = [], [], []
        for member in self.members:
            with evaluating(member.model):
                outputs = member.model(features).float().cpu()
            judgement = member.judgement
            p = exclusive(judgement.posterior(outputs).numpy())
            posteriors.append(p if shares is None else for_prevalence(p, member.class_counts, shares))
            decisions.append(scores(judgement.decision(outputs).numpy(), judgement.family))
            saturated.append(judgement.saturated(outputs).numpy())
        p = np.asarray(np.mean(posteriors, axis=0))
        chosen = (np.mean(decisions, axis=0) if shares is None else p).argmax(axis=1)
        at_end = np.any(saturated, axis=0)[np.arange(len(p)), chosen]
        return p, chosen, at_end


def read_prevalence(text: str, class_names: Sequence[str]) -> dict[str, float]:
    """Read ``even``, ``name=share,name=share,...``, or the path of a JSON file {"name": share, ...}.

    Raises:
        UsageError: text that is none of these.
    """
    if text == "even":
        return dict.fromkeys(class_names, 1.0)
    try:
        if text.endswith(".json"):
            pairs = json.loads(Path(text).read_text(encoding="utf-8"), object_pairs_hook=list)
        else:
            pairs = [part.rpartition("=")[::2] for part in text.split(",")]
        named = [(str(name).strip(), float(share)) for name, share in pairs]
        names = [name for name, _ in named]
        if not all(names) or len(set(names)) < len(names):
            raise ValueError("each class once, by name")
        return dict(named)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(
            f"expected a prevalence as even, as name=share,name=share,..., or as a JSON file of shares by class name, "
            f"got {text!r} ({error})"
        ) from error


def _shares(prevalence: Mapping[str, float], class_names: Sequence[str]) -> NDArray[np.float64]:
    missing = [name for name in class_names if name not in prevalence]
    unknown = [name for name in prevalence if name not in class_names]
    if missing or unknown:
        raise UsageError(
            f"expected a prevalence for each class of the model ({', '.join(class_names)}); "
            f"missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}"
        )
    shares = np.array([prevalence[name] for name in class_names], dtype=np.float64)
    if not (np.isfinite(shares).all() and (shares >= 0).all() and shares.sum() > 0):
        raise UsageError(f"expected prevalences >= 0, one of them above 0, got {dict(prevalence)}")
    return np.asarray(shares / shares.sum())


def load(directory: str | Path, loss: str | None = None, *, device: str = "auto") -> Classifier:
    """Load the model of a study.

    Args:
        directory: the study's folder.
        loss: text of one of its losses; the best out of fold when None.

    Raises:
        DataError: no study is there. UsageError: the study has no such loss.
        TametailError: none of the loss's runs is finished.
    """
    study = Path(directory)
    described = study_file.read_study_file(study)
    chosen = _canonical(loss, described["losses"]) if loss else best_loss(study)
    wanted = [run for run in all_runs(described) if run.method.text == chosen]
    runs = [run for run in wanted if is_finished(run.directory(study))]
    if not runs:
        raise TametailError(f"no run of {chosen} is finished in {study}; repeat tametail compare")
    spec = describe_backbone(described["backbone"], described["image_size"])
    recipe = Recipe.model_validate(described["recipe"])
    class_names = tuple(described["class_names"])
    target = make_accelerator(recipe, device).device
    frozen = recipe.trains == "head"

    def new_model(method: Method, _: Rows | None) -> nn.Sequential:
        representation = Standardise(spec.features) if frozen else restore_backbone(study, described)
        return nn.Sequential(representation, method.build_head(spec.features, len(class_names), recipe.head))

    members = []
    for run in runs:
        counts = trained_counts(run.directory(study))
        model = trained_model(run, study, new_model).to(target)
        judgement = run.method.judgement(counts)
        members.append(
            Member(model if frozen else channels_last(model), judgement, np.array(counts, dtype=np.float64))
        )
    backbone = restore_backbone(study, described) if frozen else nn.Identity()
    return Classifier(chosen, class_names, spec, backbone.to(target), tuple(members), target)


def find_images(paths: Sequence[str | Path]) -> list[Path]:
    """The images named, and all those below the folders named, sorted.

    Raises:
        DataError: a path is absent, or nothing that looks like an image is there.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            known = {*IMAGE_SUFFIXES, *DICOM_SUFFIXES}
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in known and p.is_file())
            if not inside:
                raise DataError(f"expected images in {path}, found none ({', '.join(sorted(known))})")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise DataError(f"expected an image or a folder of images at {path}, but nothing is there")
    return found


def _canonical(loss: str, known: Sequence[str]) -> str:
    try:
        text = parse_method(loss).text
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from error
    if text not in known:
        raise UsageError(f"expected a loss of this study ({', '.join(known)}), got {loss}")
    return text


def _column(name: str) -> str:
    return f"p_{name}"


def _chunks(images: Sequence[str | Path], size: int) -> Iterator[Sequence[str | Path]]:
    return (images[start : start + size] for start in range(0, len(images), size))
