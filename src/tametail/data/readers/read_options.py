"""What a caller may say about a source of images, and which of it a source has no use for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tametail.core.errors import UsageError
from tametail.core.text import sample_of


@dataclass(frozen=True)
class ReadOptions:
    """The options of `tametail.data.read_images`, in one piece; each is explained there."""

    image_col: str | None = None
    label_col: str | None = None
    group_col: str | None = None
    split_col: str | None = None
    image_root: Path | None = None
    label_cols: tuple[str, ...] = ()
    multi_label: bool = False
    root: Path | None = None
    download: bool = False
    allow_leaks: bool = False

    def __post_init__(self) -> None:
        if self.label_cols and self.label_col is not None:
            raise UsageError("expected --label-col or --label-cols, got both; leave one of them out")
        if self.label_cols and (len(self.label_cols) < 2 or len(set(self.label_cols)) < len(self.label_cols)):
            raise UsageError(
                f"expected two or more distinct columns in --label-cols, got {', '.join(self.label_cols)}; "
                f"for one column that holds the classes' names use --label-col"
            )

    def refuse_table_options(self, why: str) -> None:
        """For sources without columns to choose from.

        Raises:
            UsageError: an option that names columns or their folder was given.
        """
        given = {
            "--image-col": self.image_col is not None,
            "--label-col": self.label_col is not None,
            "--group-col": self.group_col is not None,
            "--split-col": self.split_col is not None,
            "--image-root": self.image_root is not None,
            "--label-cols": bool(self.label_cols),
            "--multi-label": self.multi_label,
        }
        if any(given.values()):
            flags = ", ".join(flag for flag, is_given in given.items() if is_given)
            raise UsageError(
                f"{flags} can only be given for a CSV or another table, but {why}; leave it out or give the table"
            )

    def refuse_set_options(self, known: Sequence[str]) -> None:
        """For sources that are not known sets.

        Raises:
            UsageError: ``root`` or ``download`` was given.
        """
        flags = [
            flag
            for flag, given in {"--root": self.root is not None, "--download": self.download}.items()
            if given
        ]
        if flags:
            raise UsageError(
                f"{', '.join(flags)} can only be given with the name of a known set ({sample_of(known)}); "
                f"for a table use --image-root"
            )


def column_names(columns: Sequence[str] | str | None) -> tuple[str, ...]:
    """``"MEL, NV"`` or a sequence of names → names."""
    if columns is None:
        return ()
    listed = columns.split(",") if isinstance(columns, str) else columns
    names = tuple(name.strip() for name in listed)
    if not all(names):
        raise UsageError(f"expected names of columns in --label-cols, got {columns!r}")
    return names
