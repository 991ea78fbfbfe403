"""A trained model that predicts images: `Classifier`, made by `tametail.load` from a study or from an exported model.

Shape legend: N images, C classes, K canvas side.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from tametail.core.arrays import BoolArray, FloatArray, IntArray
from tametail.core.console import Console
from tametail.core.errors import DataError, UsageError
from tametail.core.text import counted
from tametail.data.decoding.bit_depth import BitDepth, find_bit_depth
from tametail.data.reading import say_new_depth
from tametail.data.table import LABEL_SEPARATOR, join_classes
from tametail.deployment.given_images import (
    Decoded,
    Images,
    OneImage,
    decoded_ahead,
    is_file,
    listed,
    slices_of,
)
from tametail.deployment.prevalence import prevalence_vector
from tametail.deployment.quality import QUALITY, quality_of
from tametail.deployment.unlikeness import (
    COLUMNS,
    GROUP_COLUMNS,
    UNKNOWN,
    UNLIKE,
    UNLIKE_IMAGES,
    Likeness,
    columns_of,
    of_group,
    say_unlike,
)
from tametail.evaluation.calibration_maps import CalibrationMap
from tametail.evaluation.conformal import (
    DEFAULT_COVERAGE,
    ScoreDistribution,
    class_thresholds,
    needed_groups,
    prevalence_thresholds,
    sets_of,
)
from tametail.evaluation.label_calibration import LabelMap
from tametail.evaluation.label_shift import (
    MOST_DEVIATION,
    PrevalenceEstimate,
    ShiftReference,
    estimate_prevalence,
)
from tametail.models.backbones import BackboneSpec
from tametail.predictions.by_group import PredictBy, combined
from tametail.predictions.single_label import for_prevalence
from tametail.study.image_digests import ImageDigests, file_digests, recognise_held_out

if TYPE_CHECKING:
    import pandas as pd

_P, _SCORE, _THRESHOLD, _HAS = "p_", "score_", "threshold_", "has_"
_SET, _SET_SIZE, _REACHED = "prediction_set", "set_size", "operating"
SetKind = Literal["class", "prevalence"]
_AHEAD = 1e-6  # relative difference of the highest score from others, more than what is rounded in a file


class Said(NamedTuple):
    """What a model says of N images, see `tametail.deployment.network.Outputs`."""

    probabilities: FloatArray
    scores: FloatArray
    saturated: BoolArray
    unlikeness: FloatArray


@dataclass(frozen=True)
class ModelFacts:
    """What is known about a trained model.

    Attributes:
        method: that it was trained with.
        class_names: C names, in the order of the probabilities.
        class_counts: (C,) training images of each class, the mean over the models.
        spec: the backbone and the images it takes.
        models: number of models whose mean it is.
        refitted: whether it was trained on all training images, after cross-validation.
        link: name of the function that maps outputs to probabilities.
        ceiling: the largest possible probability, before rows are scaled to sum to one.
        calibration: of the probabilities of each model.
        distributions: the scores of each class (C,) for prediction sets; empty for several labels.
        shift: the reference for the prevalence in a batch of images; None for several labels.
        thresholds: (C,) of the calibrated probabilities of the labels; None if images have exactly one class.
        bit_depth: at which the study read its grey images of more than 8 bits; None if it had none of them. New images
            are read at this depth too, unless their values exceed it.
        slices: the rule by which the study's images were taken from volumes; None if they were not. New volumes are read by it.
        predict_by: what the thresholds are of, and what predictions are of: images, or groups of them.
        name: of the data set.
        synthetic: whether the training images were generated.
        likeness: by what the model says whether an image is like its training images.
    """

    method: str
    class_names: tuple[str, ...]
    class_counts: tuple[float, ...]
    spec: BackboneSpec
    models: int
    refitted: bool
    link: str
    ceiling: float
    calibration: CalibrationMap | LabelMap
    distributions: tuple[ScoreDistribution, ...] = ()
    shift: ShiftReference | None = None
    thresholds: FloatArray | None = None
    bit_depth: int | None = None
    slices: str | None = None
    predict_by: PredictBy = "image"
    name: str = ""
    synthetic: bool = False
    likeness: Likeness = UNKNOWN

    @property
    def several_labels(self) -> bool:
        """Whether images may have several labels."""
        return self.thresholds is not None

    @property
    def trained_prevalence(self) -> FloatArray:
        """(C,) the share of each class in the training set."""
        counts = np.array(self.class_counts, dtype=np.float64)
        return np.asarray(counts / counts.sum())

    @property
    def trained_as(self) -> str:
        """``mean of 5 fold models``, or ``trained on all training images``."""
        return "trained on all training images" if self.refitted else f"mean of {self.models} fold models"


@dataclass(frozen=True, repr=False)
class Classifier:
    """A trained model that predicts images. Made by `tametail.load`.

    Attributes:
        facts: what is known about the model.
        run: from decoded images (N, K, K, 3) to what the model says of them.
        runs_on: where, in words.
        study: the folder of its study, where predictions of held-out images are recorded; None for an exported model.
        batch_size: images per call of ``run``.
    """

    facts: ModelFacts
    run: Callable[[NDArray[np.uint8]], Said]
    runs_on: str
    study: Path | None = None
    batch_size: int = 16

    def __repr__(self) -> str:
        facts = self.facts
        kind = "labels" if facts.several_labels else "classes"
        return (
            f"Classifier({facts.method}: {len(facts.class_names)} {kind}, {facts.trained_as}, {facts.spec.name} at "
            f"{facts.spec.image_size} px, {self.runs_on})"
        )

    @property
    def method(self) -> str:
        """The method that the model was trained with."""
        return self.facts.method

    @property
    def classes_(self) -> NDArray[np.object_]:
        """(C,) the names of the classes, in the order of the columns of `predict_proba`."""
        return np.array(self.facts.class_names, dtype=object)

    def predict(self, images: Images) -> NDArray[Any]:
        """Predict labels, as classifiers of scikit-learn do.

        Args:
            images: as for `predict_proba`.

        Returns:
            (N,) the class of each image, one of `classes_`; for several labels (N, C) of 0 and 1.

        Raises:
            DataError: an image cannot be read; the message names it. (`predict_table` continues instead.)
        """
        table = self._readable(images)
        if self.facts.several_labels:
            return table[[_HAS + name for name in self.facts.class_names]].to_numpy(dtype=np.int64)
        return table["predicted"].to_numpy(dtype=object)

    def predict_proba(
        self, images: Images, *, prevalence: Mapping[str, float] | None = None
    ) -> NDArray[np.float64]:
        """Predict calibrated class probabilities.

        Args:
            images: a path of an image or of a folder; an image of Pillow; an array (H, W) or (H, W, 3) of uint8, grey or RGB, or a
                batch of them (N, H, W, 3); or a sequence of these. Files are read as in training, images in memory as they are,
                so that a JPEG opened with Pillow can differ slightly from its file.
            prevalence: see `predict_table`.

        Returns:
            (N, C) probabilities, in the order of `classes_`. Rows sum to one, unless images may have several labels.

        Raises:
            DataError: an image cannot be read; the message names it. (`predict_table` continues instead.)
        """
        table = self._readable(images, prevalence=prevalence)
        return table[[_P + name for name in self.facts.class_names]].to_numpy(dtype=np.float64)

    def _readable(self, images: Images, **options: Any) -> pd.DataFrame:
        table = self.predict_table(images, **options)
        failed = table[table["error"] != ""]
        if len(failed):
            first = failed.iloc[0]
            raise DataError(
                f"{len(failed)} of {len(table)} images cannot be read: {first['image']}: {first['error']}"
            )
        return table

    def predict_table(
        self,
        images: Images,
        console: Console | None = None,
        *,
        prevalence: Mapping[str, float] | None = None,
        adapt_prevalence: bool = False,
        groups: Sequence[str] | None = None,
        coverage: float | None = None,
        sets: SetKind = "class",
        operating: Mapping[str, float] | None = None,
        on_image: Callable[[str, NDArray[np.uint8]], None] | None = None,
    ) -> pd.DataFrame:
        """Predict images, one row each, or of a classifier that predicts by group, groups of images.

        Without ``prevalence`` the probabilities are for a population with the class frequencies of the training set, and
        ``predicted`` is the decision of the method, which after logit-adjusted training favours rare classes and need not
        be the most probable class. With it both are for the given prevalence.

        If images may have several labels, ``predicted`` joins the predicted labels by ``|``, and each label has columns
        ``p_<label>``, ``threshold_<label>`` and ``has_<label>`` (1 if the probability reaches the threshold).

        Grey images of more than 8 bits are read at the depth of the study. If a value of the N images exceeds it, or the
        study had no such images, the depth is decided from all N: give images of one origin together.

        Of a study of slices, NIfTI volumes and DICOM files of several frames are read as slices by the rule of the study, each a
        row: ``scan.nii.gz/slice_021.png``.

        The prediction set of an image has the classes that cannot be excluded at the required coverage, joined by ``|``, the most
        probable first; it is empty if no class is probable enough, see `tametail.evaluation.conformal`. A class of too few
        groups is in every set, and named on the console.

        Images of the study's held-out test set are recognised, also if they were renamed or saved again: a warning is shown,
        and the prediction recorded in the study as a look at its test set.

        Args:
            images: as for `predict_proba`. An image that cannot be read gets a row with its error and no prediction.
            console: for progress and messages; None for silence, except for warnings of grey values beyond the study's, of
                held-out images, and of images that are unlike the training images or of poor quality.
            prevalence: prevalence of each class by name, scaled to sum to one.
            adapt_prevalence: estimate the prevalence from the images that can be read, see `tametail.evaluation.label_shift`, and
                predict at it. Give images of one origin together, each of a patient of its own: they are taken as independent.
            groups: N, the group of each image; needed by a classifier that predicts by group. The probabilities of its readable
                images are combined; column image is then the group, and column images their number.
            coverage: of prediction sets, above 0 and below 1; by default 0.9.
            sets: ``class`` for sets with this coverage in each class, at any prevalence; ``prevalence`` for this coverage over all
                images, at the given prevalence or that of the training set.
            operating: the required sensitivity of classes by name, above 0 and below 1, such as {"mel": 0.95}. Such a class is
                predicted where its probability reaches the threshold that this share of its images reached in cross-validation, else the
                decision is among the other classes.
            on_image: called with the name and the decoded pixels (K, K, 3) of each image that can be read, in order, such as for
                a small copy of it.

        Returns:
            A data frame with the columns image, predicted, most_probable, prediction_set and set_size, ``score_<class>`` (these
            not for several labels; the predicted class has the highest score), ``p_<class>`` for each class, saturated (the
            probability of the prediction is at the limit of the link), unlikeness (to the training images; above 1 for at most one
            in twenty that are like them), unlike_training (1 if it is above 1; both are missing if it is not known), quality
            (blank, tiny or in another colour mode than the training images, joined by ``|``), method, link and error. A group
            is as unlike as its most unlike image, and unlike_images is the number of those above 1. With ``operating`` also
            operating: the classes that reach their threshold, joined by ``|``.

        Raises:
            DataError: with ``adapt_prevalence``, predictions are not expected to gain by it, as there are too few images or their
                prevalence is near that of the training set.
            UsageError: a class is missing in ``prevalence`` or unknown, a value is negative, a prevalence is both given and
                estimated, images may have several labels, or a coverage, sensitivity or kind of sets that does not exist or is given for several labels.
        """

        facts = self.facts
        given = listed(images, volumes=facts.slices is not None)
        console = console or Console(quiet=True, warnings=True)
        if facts.several_labels:
            self._refuse_for_labels(prevalence, adapt_prevalence, coverage, sets, operating)
        if (groups is None) != (facts.predict_by == "image") or (
            groups is not None and len(groups) != len(given)
        ):
            found = "none" if groups is None else f"{len(groups)} for {len(given)} images"
            raise UsageError(
                f"expected the group of each image, and only with predict_by other than image, got {found}"
            )
        if adapt_prevalence and prevalence is not None:
            raise UsageError(
                "expected a prevalence that is given or estimated, got both; leave out one of them"
            )
        target = None if prevalence is None else prevalence_vector(prevalence, facts.class_names)
        if facts.thresholds is not None:
            named = zip(facts.class_names, facts.thresholds, strict=True)
            said = ", ".join(f"{name} {threshold:.3g}" for name, threshold in named)
            console.say(f"Thresholds of the labels (chosen by F1 in cross-validation): {said}")
        given, names = slices_of(given, facts.slices, console)
        if groups is not None and len(groups) != len(given):
            raise UsageError(
                "expected single images with predict_by other than image, got volumes; predict their slices, and combine them"
            )
        asked = DEFAULT_COVERAGE if coverage is None else coverage
        self._check_sets(asked, sets)
        of_classes = None if facts.several_labels else self._operating_thresholds(operating or {}, console)
        rows, outputs, seen = self._rows(given, names, console, on_image)
        if self.study is not None:
            recognise_held_out(self.study, "predict", seen, console)
        if adapt_prevalence:
            target = self._estimated_prevalence(outputs, console)
        if of_classes is None:
            decided = self._labels(outputs)
        else:
            set_thresholds = (
                self._set_thresholds(asked, sets, target, console) if facts.distributions else None
            )
            decided = _Decision(facts, target, set_thresholds, of_classes)(outputs)
        for row, more in zip((row for row in rows if not row["error"]), decided, strict=True):
            row |= more
        table = _frame(rows, self._columns(operating))
        if groups is not None:
            table = self._by_group(table, np.array(groups, dtype=object), console)
        say_unlike(table, facts.likeness, console)
        return table

    def _refuse_for_labels(
        self,
        prevalence: Mapping[str, float] | None,
        adapt_prevalence: bool,
        coverage: float | None,
        sets: SetKind,
        operating: Mapping[str, float] | None,
    ) -> None:
        """Refuse options of exclusive classes for a model of several labels."""
        method = self.facts.method
        if prevalence is not None or adapt_prevalence:
            raise UsageError(
                f"expected no prevalence for {method}, as its images may have several labels, whose prevalences do not sum to "
                f"one; leave it out"
            )
        if coverage is not None or sets != "class":
            raise UsageError(
                f"expected no coverage or kind of prediction sets for {method}, as its images may have several labels, each "
                f"predicted at its threshold; leave out --coverage and --sets"
            )
        if operating:
            raise UsageError(
                f"expected no operating points for {method}, as its images may have several labels, each predicted at its "
                f"threshold; leave out --operating, and compare the columns p_<label> with thresholds of your own"
            )

    def _rows(
        self,
        images: Sequence[OneImage],
        names: Sequence[str],
        console: Console,
        on_image: Callable[[str, NDArray[np.uint8]], None] | None,
    ) -> tuple[list[dict[str, object]], Said, list[ImageDigests]]:
        """A row for each image, and what the model says of those that can be read, and their digests."""
        facts = self.facts
        rows: list[dict[str, object]] = []
        nothing = np.empty((0, len(facts.class_names)))
        said = [Said(nothing, nothing, nothing.astype(np.bool_), np.empty(0))]
        seen: list[ImageDigests] = []
        bit_depth = self._find_depth(images, console).bits
        content = _content(images) if self.study is not None else [""] * len(images)
        with console.track("Images", len(images)) as advance:
            for decoded in decoded_ahead(images, facts.spec.canvas, bit_depth, self.batch_size):
                at = len(rows)
                rows += [
                    {
                        "image": name,
                        "method": facts.method,
                        "link": facts.link,
                        "error": str(found) if isinstance(found, DataError) else "",
                    }
                    for name, found in zip(names[at:], decoded, strict=False)
                ]
                readable = [found for found in decoded if not isinstance(found, DataError)]
                if readable:
                    said.append(self.run(np.stack(readable)))
                    own = (row for row in rows[at:] if not row["error"])
                    unlike = columns_of(said[-1].unlikeness, facts.likeness)
                    for row, more in zip(own, unlike, strict=True):
                        row |= more
                for name, row, image, found in zip(names[at:], rows[at:], images[at:], decoded, strict=False):
                    if not isinstance(found, DataError):
                        row[QUALITY] = quality_of(image, found, facts.likeness.grey)
                        if on_image is not None:
                            on_image(name, found)
                if self.study is not None:
                    seen.append(ImageDigests.of(readable, _of_readable(content[at:], decoded)))
                advance(len(decoded))
        return rows, Said(*map(np.concatenate, zip(*said, strict=True))), seen

    def _estimated_prevalence(self, said: Said, console: Console) -> FloatArray:
        """The prevalence (C,) that predictions are adapted to; says the estimate and its intervals."""
        facts, images = self.facts, len(said.probabilities)
        if facts.shift is None or not images:
            raise DataError(
                f"expected images that can be read and out-of-fold predictions of {facts.method}, to estimate a prevalence "
                f"from them, found {counted(images, 'image')}; leave out --adapt-prevalence"
            )
        found = estimate_prevalence(said.probabilities, facts.shift)
        console.say(
            f"Prevalence in {counted(images, 'image')}, if the images of each class are like those of the study:"
        )
        for line in _prevalence_lines(facts.class_names, found):
            console.say(line)
        if abs(found.deviation) > MOST_DEVIATION:
            than = "lower" if found.deviation < 0 else "higher"
            console.warn(
                f"the images are not like those of the study: the mean probability of the most probable class is {found.confidence:.3f}, "
                f"{than} than the {found.expected_confidence:.3f} expected at this prevalence, by {abs(found.deviation):.1f} standard "
                f"errors; do not rely on the estimate"
            )
        if not found.helps:
            enough = (
                f"about {found.needed:,} images like these would be enough"
                if found.needed is not None
                else "more images like these would not be enough"
            )
            raise DataError(
                f"expected images whose prevalence is known well enough, and differs enough from that of the training set, for the log-loss "
                f"to fall by adapting to it, with 95 % confidence; found {counted(images, 'image')} with an expected fall of "
                f"{found.gain:.3f}, at least {found.gain_low:.3f} ({enough}); leave out --adapt-prevalence, or give --prevalence"
            )
        console.say(
            f"Predictions are adapted to the centres of these intervals; their log-loss is expected to fall by {found.gain:.3f}, at least "
            f"{found.gain_low:.3f} with 95 % confidence"
        )
        return found.adapted

    def _by_group(self, table: pd.DataFrame, groups: NDArray[np.object_], console: Console) -> pd.DataFrame:
        """One row per group, in the order of their names; with an error if none of its images could be read."""
        facts = self.facts
        failed = table[table["error"] != ""]
        if len(failed):
            console.warn(
                f"{len(failed)} of {counted(len(table), 'image')} could not be read, and left out of the groups: "
                f"{failed['error'].iloc[0]}"
            )
        rows: list[dict[str, object]] = []
        for name in sorted(set(groups.tolist())):
            own = table[groups == name]
            read = own[own["error"] == ""]
            row: dict[str, object] = {
                "image": name,
                "images": len(read),
                "method": facts.method,
                "link": facts.link,
                "error": ""
                if len(read)
                else f"none of {len(own)} images could be read: {own['error'].iloc[0]}",
            }
            if len(read):
                p = read[[_P + each for each in facts.class_names]].to_numpy(dtype=np.float64)
                both = combined(p, np.zeros(len(p), dtype=np.int64), facts.predict_by)[0]
                row |= self._decided(both) | {"saturated": bool(read["saturated"].any())} | of_group(read)
            rows.append(row)
        columns = self._columns(None, GROUP_COLUMNS)
        return _frame(rows, ["image", "images", *columns[1:]])

    def _check_sets(self, coverage: float, sets: SetKind) -> None:
        """Refuse a coverage or kind of prediction sets that does not exist."""
        if sets not in get_args(SetKind):
            raise UsageError(
                f"expected prediction sets of kind {' or '.join(get_args(SetKind))}, got {sets!r}"
            )
        try:
            needed_groups(coverage)
        except ValueError as error:
            raise UsageError(f"{error}; give another --coverage") from error

    def _set_thresholds(
        self, coverage: float, sets: SetKind, prevalence: FloatArray | None, console: Console
    ) -> FloatArray:
        """The threshold (C,) of each class for prediction sets; says what they are and which classes are too rare."""
        facts, needed = self.facts, needed_groups(coverage)
        asked = f"{100 * coverage:.6g} %"
        if sets == "class":
            console.say(f"Prediction sets: coverage of {asked} in each class, at any prevalence")
            thresholds = class_thresholds(facts.distributions, coverage)
        else:
            images = np.array([each.images for each in facts.distributions], dtype=np.float64)
            at = images / images.sum() if prevalence is None else prevalence
            where = "of the training set" if prevalence is None else "given or estimated"
            console.say(f"Prediction sets: coverage of {asked} over all images, at the prevalence {where}")
            thresholds = prevalence_thresholds(facts.distributions, coverage, at)
        counts = zip(facts.class_names, facts.distributions, thresholds, strict=True)
        rare = [f"{name} ({each.groups})" for name, each, threshold in counts if np.isinf(threshold)]
        if rare:
            console.warn(
                f"too rare for prediction sets of {asked} coverage, which take {counted(needed, 'group')} (patients) with the "
                f"class, and so in every set: {', '.join(rare)}; a lower --coverage takes fewer"
            )
        return thresholds

    def _operating_thresholds(self, operating: Mapping[str, float], console: Console) -> FloatArray:
        """(C,) the probability, at the class frequencies of the training set, from which a class is predicted; nan for no such rule."""
        facts = self.facts
        thresholds = np.full(len(facts.class_names), np.nan)
        for name, sensitivity in operating.items():
            if name not in facts.class_names:
                raise UsageError(
                    f"expected a class of the model ({', '.join(facts.class_names)}) with its sensitivity, got {name!r}"
                )
            if not 0 < sensitivity < 1:
                raise UsageError(
                    f"expected a sensitivity of {name} above 0 and below 1, such as 0.95, got {sensitivity:g}"
                )
            at = facts.class_names.index(name)
            # The share of the images of a class at or above a threshold is the coverage of its prediction sets.
            scores = facts.distributions[at] if facts.distributions else None
            threshold = np.inf if scores is None else scores.threshold(sensitivity)
            if scores is None or np.isinf(threshold):
                groups = 0 if scores is None else scores.groups
                raise UsageError(
                    f"expected {counted(needed_groups(sensitivity), 'group')} (patients) with {name} in the training set for a "
                    f"sensitivity of {100 * sensitivity:g} %, found {groups}; give a lower one"
                )
            thresholds[at] = max(1 - threshold, np.finfo(np.float64).tiny)
            console.say(
                f"Operating point: {name} is predicted from a probability of {thresholds[at]:.3g} on, which {100 * sensitivity:g} % of "
                f"its images reach (in cross-validation, {counted(scores.images, 'image')} of {counted(scores.groups, 'group')})"
            )
        return thresholds

    def _find_depth(self, images: Sequence[OneImage], console: Console) -> BitDepth:
        """The depth at which these grey images are read, as in external evaluation."""
        files = [Path(image) for image in images if isinstance(image, str | Path)]
        with ThreadPoolExecutor(min(len(files), os.cpu_count() or 1) or 1) as pool:
            depth = find_bit_depth(files, pool).for_study(self.facts.bit_depth)
        say_new_depth(depth, self.facts.bit_depth, console)
        return depth

    def _columns(self, operating: Mapping[str, float] | None, likeness: Sequence[str] = COLUMNS) -> list[str]:
        facts = self.facts
        last = ["saturated", *likeness, "method", "link", "error"]
        if facts.several_labels:
            of_labels = [kind + name for name in facts.class_names for kind in (_P, _THRESHOLD, _HAS)]
            return ["image", "predicted", *of_labels, *last]
        of_sets = [_SET, _SET_SIZE] if facts.distributions else []
        of_classes = [kind + name for kind in (_SCORE, _P) for name in facts.class_names]
        reached = [_REACHED] if operating else []
        return ["image", "predicted", "most_probable", *reached, *of_sets, *of_classes, *last]

    def _labels(self, said: Said) -> list[dict[str, object]]:
        assert self.facts.thresholds is not None
        given = said.probabilities >= self.facts.thresholds
        limits = np.any(said.saturated & given, axis=1)
        return [
            self._decided(p) | {"saturated": bool(at_limit)}
            for p, at_limit in zip(said.probabilities, limits, strict=True)
        ]

    def _decided(self, p: FloatArray) -> dict[str, object]:
        """The predicted labels and the columns of the labels, from their probabilities (C,)."""
        facts = self.facts
        assert facts.thresholds is not None
        given = p >= facts.thresholds
        names = join_classes(name for name, has in zip(facts.class_names, given, strict=True) if has)
        columns = (
            _named(facts, _P, p) | _named(facts, _THRESHOLD, facts.thresholds) | _named(facts, _HAS, given)
        )
        return {"predicted": names} | columns


@dataclass(frozen=True)
class _Decision:
    """From what a model of exclusive classes says of images to the columns of their rows.

    Attributes:
        prevalence: (C,) of the target population; None for that of the training set.
        sets: (C,) thresholds of the prediction sets; None for no sets.
        operating: (C,) thresholds of operating points; nan for no such rule.
    """

    facts: ModelFacts
    prevalence: FloatArray | None
    sets: FloatArray | None
    operating: FloatArray

    def __call__(self, said: Said) -> list[dict[str, object]]:
        facts, trained = self.facts, said.probabilities
        p, scores = trained, said.scores
        if self.prevalence is not None:
            p = scores = for_prevalence(trained, facts.trained_prevalence, self.prevalence)
        scores = with_operating_points(scores, trained, self.operating)
        predicted = scores.argmax(axis=1)
        scores = _apart(scores, predicted)
        limits = said.saturated[np.arange(len(p)), predicted].tolist()
        rows = []
        for row in range(len(p)):
            columns: dict[str, object] = {
                "predicted": facts.class_names[predicted[row]],
                "most_probable": facts.class_names[int(p[row].argmax())],
                "saturated": limits[row],
                _REACHED: self._joined(trained[row], trained[row] >= self.operating),
            }
            if self.sets is not None:
                inside = sets_of(trained[row], self.sets)
                columns[_SET] = self._joined(trained[row], inside)
                columns[_SET_SIZE] = int(inside.sum())
            rows.append(columns | _named(facts, _SCORE, scores[row]) | _named(facts, _P, p[row]))
        return rows

    def _joined(self, p: FloatArray, inside: BoolArray) -> str:
        """The names of the classes inside, the most probable first."""
        order = np.argsort(-p, kind="stable")
        return LABEL_SEPARATOR.join(self.facts.class_names[index] for index in order[inside[order]])


def with_operating_points(scores: FloatArray, p: FloatArray, thresholds: FloatArray) -> FloatArray:
    """Scores (N, C) whose largest is that of a class that reaches its threshold, if there is one.

    The score of such a class is its probability divided by its threshold, times the largest score of the classes without one (1
    if there is none): it wins where it reaches its threshold, and of several the one with the largest ratio.

    Args:
        scores: (N, C) that sum to one.
        p: (N, C) probabilities at the class frequencies of the training set.
        thresholds: (C,) of some classes; nan for the others.
    """
    ruled = ~np.isnan(thresholds)
    if not ruled.any():
        return scores
    # Where all other classes have a score of 0, their probabilities decide among them.
    without = np.where(ruled, 0.0, scores).max(axis=1, keepdims=True) == 0
    scores = np.where(without, p + np.finfo(np.float64).tiny, scores)
    others = 1.0 if ruled.all() else scores[:, ~ruled].max(axis=1, keepdims=True)
    ratio = p / np.where(ruled, thresholds, 1.0)
    # A class at its threshold comes before the others, also where both are equal.
    ahead = np.where(ratio >= 1, np.maximum(ratio, 1 + _AHEAD), np.minimum(ratio, 1 - _AHEAD))
    changed = np.where(ruled, ahead * others, scores)
    return np.asarray(changed / changed.sum(axis=1, keepdims=True))


def _apart(scores: FloatArray, predicted: IntArray) -> FloatArray:
    """Scores (N, C) of which that of the predicted class (N,) is the highest also after rounding."""
    rows = np.arange(len(scores))
    changed = scores.copy()
    changed[rows, predicted] = 0
    changed[rows, predicted] = np.maximum(scores[rows, predicted], changed.max(axis=1) * (1 + _AHEAD))
    return np.asarray(changed / changed.sum(axis=1, keepdims=True))


def _prevalence_lines(names: Sequence[str], found: PrevalenceEstimate) -> list[str]:
    """A table of estimated prevalences beside those of the training set."""
    rows = [("class", "prevalence", "95 % interval", "training set")]
    shares = zip(names, found.prevalence, found.low, found.high, found.trained, strict=True)
    for name, share, low, high, trained in shares:
        limits = f"{100 * low:.1f}–{100 * high:.1f} %" if np.isfinite(low) else "no images known"
        rows.append((name, f"{100 * share:.1f} %", limits, f"{100 * trained:.1f} %"))
    widths = [max(len(row[at]) for row in rows) for at in range(4)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(row[at].rjust(widths[at]) for at in (1, 2, 3))]) for row in rows
    ]


def _named(facts: ModelFacts, kind: str, values: NDArray[np.generic]) -> dict[str, object]:
    """Values (C,) by column; booleans as 1 or 0."""
    as_python = values.astype(np.int64).tolist() if values.dtype == np.bool_ else values.tolist()
    return {kind + name: value for name, value in zip(facts.class_names, as_python, strict=True)}


def _frame(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> pd.DataFrame:
    """Rows as a table; whole numbers are missing, not nan, after an error."""
    import pandas as pd

    whole = [
        column
        for column in columns
        if column.startswith(_HAS) or column in {_SET_SIZE, UNLIKE, UNLIKE_IMAGES}
    ]
    table = pd.DataFrame(rows, columns=list(columns[1:])).astype(dict.fromkeys(whole, "Int64"))
    # As objects: file names that are no UTF-8 have no other form.
    table.insert(0, columns[0], pd.Series([row[columns[0]] for row in rows], dtype=object))
    return table


def _content(images: Sequence[OneImage]) -> list[str]:
    """Digests of the bytes of image files; empty for images in memory."""
    files = [Path(image) for image in images if isinstance(image, str | Path)]
    found = iter(file_digests(files))
    return [next(found) if is_file(image) else "" for image in images]


def _of_readable(content: Sequence[str], decoded: Sequence[Decoded]) -> list[str]:
    both = zip(content, decoded, strict=False)
    return [digest for digest, found in both if not isinstance(found, DataError)]
