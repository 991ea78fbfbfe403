"""The page of `tametail inspect --labels`: suspected label errors with thumbnails, and what depends on them."""

from __future__ import annotations

from tametail.report.audit.labels import CAVEAT, LabelInspection
from tametail.report.audit.page import Thumbnail, data_urls
from tametail.report.render import render

MOST_PICTURED = 48
_MISSING = "The images are not where they were when the study was made; --image-root FOLDER reads them from another folder."


def labels_html(found: LabelInspection) -> str:
    """The page as self-contained HTML. It contains small copies of images of the training set."""
    names, suspects = found.class_names, found.errors.suspects
    shown = [one.image for one in suspects[:MOST_PICTURED]]
    sources = data_urls(found.root, shown, found.bit_depth) if found.root is not None else {}
    rows = [
        (
            one,
            names[one.given],
            names[one.suggested],
            found.group_text(one),
            Thumbnail(sources[one.image], one.image, "") if one.image in sources else None,
        )
        for one in suspects
    ]
    return render(
        "labels.html.j2",
        name=found.name,
        synthetic=found.synthetic,
        summary=found.summary(),
        caveat=CAVEAT,
        facts=found.facts()[:2],
        moves=found.moves,
        rows=rows,
        missing=_MISSING if shown and not sources else "",
        classes=list(
            zip(
                names,
                found.label_counts,
                found.errors.thresholds.tolist(),
                found.errors.joint.tolist(),
                strict=True,
            )
        ),
    )
