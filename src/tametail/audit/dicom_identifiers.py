"""Checks of DICOM files: headers that identify a person, and text that they declare in the pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tametail.audit.finding import Finding, counted, singles
from tametail.audit.image_stats import ImageStats
from tametail.data.table import ImageTable


def check_identifiers(table: ImageTable, stats: ImageStats) -> Iterator[Finding]:
    """DICOM files whose header names a person, or declares text in the pixels."""
    rows = [row for row, file in enumerate(stats.files) if file.kind == "DICOM"]
    if not rows:
        return
    from tametail.data.readers.dicom_headers import declares_burned_in_text, identifying_attributes

    paths, images = table.paths, table.images.tolist()
    tags = {row: found for row in rows if (found := identifying_attributes(paths[row]))}
    if tags:
        named = Counter(tag for found in tags.values() for tag in found).most_common()
        yield Finding(
            "identifying_headers",
            "warning",
            f"{counted(len(tags), 'DICOM file identifies', 'DICOM files identify')} a person in the header "
            f"({', '.join(f'{tag} in {count:,}' for tag, count in named[:5])})",
            "the decoded images contain none of it; de-identify the files before you share them",
            singles([images[row] for row in tags]),
            tuple(", ".join(found) for found in tags.values()),
        )
    burned = [row for row in rows if declares_burned_in_text(paths[row])]
    if burned:
        yield Finding(
            "burned_in_annotation",
            "warning",
            f"{counted(len(burned), 'DICOM file says', 'DICOM files say')} that text is burned into the pixels",
            "check them: a model can learn to read, and names must not be shared",
            singles([images[row] for row in burned]),
        )
