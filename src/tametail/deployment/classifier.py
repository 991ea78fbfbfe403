"""A trained model that predicts images: `Classifier`, made by `tametail.load` from a study or from an exported model.

Shape legend: N images, C classes, K canvas side.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tametail.core.console import Console
from tametail.core.errors import DataError, UsageError
from tametail.core.text import counted
from tametail.data.decoding.bit_depth import BitDepth, find_bit_depth
from tametail.data.reading import say_new_depth
from tametail.deployment.decision import (
    HAS,
    REACHED,
    SCORE,
    SET,
    SET_SIZE,
    THRESHOLD,
    Decision,
    P,
    SetKind,
    check_sets,
    decided_labels,
    estimated_prevalence,
    label_rows,
    operating_thresholds,
    set_thresholds,
)
from tametail.deployment.facts import ModelFacts, Said
from tametail.deployment.given_images import (
    Decoded,
    Images,
    OneImage,
    decoded_ahead,
    is_file,
    largest_values,
    listed,
    slices_of,
)
from tametail.deployment.prevalence import prevalence_vector
from tametail.deployment.quality import QUALITY, quality_of
from tametail.deployment.unlikeness import (
    COLUMNS,
    GROUP_COLUMNS,
    UNLIKE,
    UNLIKE_IMAGES,
    columns_of,
    of_group,
    say_unlike,
)
from tametail.evaluation.conformal import (
    DEFAULT_COVERAGE,
)
from tametail.predictions.by_group import combined
from tametail.study.image_digests import ImageDigests, file_digests, recognise_held_out

if TYPE_CHECKING:
    import pandas as pd


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
            return table[[HAS + name for name in self.facts.class_names]].to_numpy(dtype=np.int64)
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
        return table[[P + name for name in self.facts.class_names]].to_numpy(dtype=np.float64)

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
        check_sets(asked, sets)
        of_classes = None if facts.several_labels else operating_thresholds(facts, operating or {}, console)
        rows, outputs, seen = self._rows(given, names, console, on_image)
        if self.study is not None:
            recognise_held_out(self.study, "predict", seen, console)
        if adapt_prevalence:
            target = estimated_prevalence(facts, outputs, console)
        if of_classes is None:
            decided = label_rows(facts, outputs)
        else:
            of_sets = set_thresholds(facts, asked, sets, target, console) if facts.distributions else None
            decided = Decision(facts, target, of_sets, of_classes)(outputs)
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
                p = read[[P + each for each in facts.class_names]].to_numpy(dtype=np.float64)
                both = combined(p, np.zeros(len(p), dtype=np.int64), facts.predict_by)[0]
                row |= (
                    decided_labels(facts, both)
                    | {"saturated": bool(read["saturated"].any())}
                    | of_group(read)
                )
            rows.append(row)
        columns = self._columns(None, GROUP_COLUMNS)
        return _frame(rows, ["image", "images", *columns[1:]])

    def _find_depth(self, images: Sequence[OneImage], console: Console) -> BitDepth:
        """The depth at which these grey images are read, as in external evaluation."""
        files = [Path(image) for image in images if isinstance(image, str | Path)]
        with ThreadPoolExecutor(min(len(files), os.cpu_count() or 1) or 1) as pool:
            depth = find_bit_depth(files, pool, largest_values(images)).for_study(self.facts.bit_depth)
        say_new_depth(depth, self.facts.bit_depth, console)
        return depth

    def _columns(self, operating: Mapping[str, float] | None, likeness: Sequence[str] = COLUMNS) -> list[str]:
        facts = self.facts
        last = ["saturated", *likeness, "method", "link", "error"]
        if facts.several_labels:
            of_labels = [kind + name for name in facts.class_names for kind in (P, THRESHOLD, HAS)]
            return ["image", "predicted", *of_labels, *last]
        of_sets = [SET, SET_SIZE] if facts.distributions else []
        of_classes = [kind + name for kind in (SCORE, P) for name in facts.class_names]
        reached = [REACHED] if operating else []
        return ["image", "predicted", "most_probable", *reached, *of_sets, *of_classes, *last]


def _frame(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> pd.DataFrame:
    """Rows as a table; whole numbers are missing, not nan, after an error."""
    import pandas as pd

    whole = [
        column for column in columns if column.startswith(HAS) or column in {SET_SIZE, UNLIKE, UNLIKE_IMAGES}
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
