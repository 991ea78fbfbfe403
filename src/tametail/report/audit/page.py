"""The page of `tametail inspect`: findings, class distribution and sample images of each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tametail.audit import AuditResult, Finding
from tametail.core.errors import DataError
from tametail.data import decode_image, reading_facts
from tametail.report.figures.study_figures import count_drawing
from tametail.report.figures.svg import inlined
from tametail.report.formatting import count_of
from tametail.report.jpeg import jpeg, jpeg_url
from tametail.report.render import render

_SIDE = 112  # pixels of a sample
_QUALITY = 80
_SAMPLES = 6  # per class; half of that for many classes
_MANY_CLASSES = 24
_LISTED = 200  # sets of a finding; --json has all
_PICTURED = 6  # sets of duplicates that are shown
_PICTURED_CODES = (
    "conflicting_labels",
    "duplicates_cross_split",
    "near_duplicates",
    "changed_copies",
    "burned_in_text",
)


@dataclass(frozen=True)
class Thumbnail:
    """A thumbnail: a data URL, the image's id, and a caption."""

    source: str
    image: str
    caption: str


@dataclass(frozen=True)
class ShownFinding:
    """A finding with thumbnails and the first affected entries as lines of text; ``more`` counts the others."""

    finding: Finding
    pictures: tuple[tuple[Thumbnail, ...], ...]
    lines: tuple[str, ...]
    more: int


def audit_html(audit: AuditResult) -> str:
    """The page as self-contained HTML. It contains small copies of some of the images."""
    from markupsafe import Markup

    table, distribution = audit.table, audit.distribution
    wanted = _samples(audit)
    shown = {finding: _pictured(finding) for finding in audit.findings}
    needed = {image for images in wanted.values() for image in images}
    needed |= {image for sets in shown.values() for members in sets for image in members}
    sources = data_urls(table.root, sorted(needed), table.bit_depth)
    labels = dict(zip(table.frame["image"], table.frame["label"], strict=True))

    def pictures(images: Sequence[str], captions: Mapping[str, str]) -> tuple[Thumbnail, ...]:
        readable = [image for image in images if image in sources]
        return tuple(Thumbnail(sources[image], image, captions.get(image, "")) for image in readable)

    bars = count_drawing(
        [one.name for one in distribution.classes],
        [one.training for one in distribution.classes],
        "Training images per class",
    )
    return render(
        "audit.html.j2",
        name=table.name,
        synthetic=table.synthetic,
        summary=audit_summary(audit),
        safe=audit.safe,
        facts=[*reading_facts(table), *audit_facts(audit)],
        distribution=distribution,
        figure=Markup(inlined(bars)),
        findings=[
            ShownFinding(
                finding,
                tuple(pictures(members, labels) for members in shown[finding]),
                _lines(finding)[:_LISTED],
                max(len(finding.affected) - _LISTED, 0),
            )
            for finding in audit.findings
        ],
        samples=[(one.name, pictures(wanted[one.name], {})) for one in distribution.classes],
    )


def data_urls(root: Path, images: Sequence[str], bit_depth: int | None) -> dict[str, str]:
    """Small JPEGs of images under a folder as data URLs, by image; those that cannot be read are left out."""
    with ThreadPoolExecutor() as pool:
        sources = pool.map(lambda image: _source(str(root / image), bit_depth), images)
        return {image: source for image, source in zip(images, sources, strict=True) if source}


def audit_summary(audit: AuditResult) -> str:
    """One sentence: whether the data are safe to train on."""
    unsafe = sum(finding.severity == "unsafe" for finding in audit.findings)
    if unsafe:
        return f"The data are not safe to train on: fix {count_of(unsafe, 'problem')} first."
    warnings = sum(finding.severity == "warning" for finding in audit.findings)
    if warnings:
        return f"No finding makes training unsafe; check {count_of(warnings, 'warning')}."
    return "No finding makes training unsafe."


def audit_facts(audit: AuditResult) -> list[tuple[str, str]]:
    """Sizes and statistics of the data set, as pairs of a term and its text."""
    table, distribution = audit.table, audit.distribution
    sizes = audit.sizes()
    readable = int(audit.stats.readable.sum())
    ratio = (
        f"{distribution.imbalance_ratio:.1f}"
        if np.isfinite(distribution.imbalance_ratio)
        else "infinite (a class has no images)"
    )
    shots = {
        shot: sum(one.shot == shot for one in distribution.classes) for shot in ("many", "medium", "few")
    }
    return [
        ("Images", f"{len(table):,}" + ("" if readable == len(table) else f", of which {readable:,} can be read")),
        ("Number of groups", f"{len(set(table.groups.tolist())):,}"),
        ("Classes", f"{len(distribution.classes)}: " + ", ".join(f"{count} {shot}-shot" for shot, count in shots.items() if count)),
        ("Imbalance ratio" + (" of the training set" if distribution.classes[0].splits else ""), ratio),
        ("Gini coefficient", f"{distribution.gini:.2f}"),
        ("Effective number of classes", f"{distribution.effective_classes:.1f}"),
        ("Formats", ", ".join(f"{count:,} × {kind}" for kind, count in audit.formats().items()) or "none"),
        *((f"{side.capitalize()}, pixels", _range(values)) for side, values in sizes.items()),
    ]  # fmt: skip


def _range(values: tuple[int, int, int]) -> str:
    low, middle, high = values
    return f"{low:,}" if low == high else f"{low:,} to {high:,}, median {middle:,}"


def _samples(audit: AuditResult) -> dict[str, list[str]]:
    """Readable images of each class, spread evenly over its list."""
    table = audit.table
    most = _SAMPLES if len(table.class_names) <= _MANY_CLASSES else _SAMPLES // 2
    labels, images, readable = table.labels, table.images, audit.stats.readable
    found = {}
    for column, name in enumerate(table.class_names):
        rows = np.flatnonzero(labels[:, column] & readable)
        chosen = (
            rows[np.linspace(0, len(rows) - 1, min(most, len(rows)), dtype=np.int64)] if len(rows) else rows
        )
        found[name] = images[chosen].tolist()
    return found


def _pictured(finding: Finding) -> tuple[tuple[str, ...], ...]:
    if finding.code not in _PICTURED_CODES:
        return ()
    if all(len(members) == 1 for members in finding.affected):
        return (tuple(image for (image,) in finding.affected[:_PICTURED]),)
    return tuple(members[:4] for members in finding.affected[:_PICTURED])


def _lines(finding: Finding) -> tuple[str, ...]:
    details = finding.details or ("",) * len(finding.affected)
    return tuple(
        ", ".join(members) + (f": {detail}" if detail else "")
        for members, detail in zip(finding.affected[:_LISTED], details, strict=False)
    )


def _source(path: str, bit_depth: int | None) -> str | None:
    try:
        data = jpeg(decode_image(path, _SIDE, bit_depth=bit_depth), _QUALITY)
    except DataError:
        return None
    return jpeg_url(data) if data else None
