"""The result of a search as a method of a study: with explicit parameters, on the same data only, marked as tuned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tametail.core.errors import DataError
from tametail.storage import search_file


@dataclass(frozen=True)
class Tuned:
    """The best method of a finished search.

    Attributes:
        directory: of the search.
        method: its text.
        content: search.json.
    """

    directory: Path
    method: str
    content: Mapping[str, Any]

    @property
    def note(self) -> dict[str, Any]:
        """The entry of study.json: source of the parameter values, and the nested estimate."""
        asked, result = self.content["search"], self.content["result"]
        return {
            "searched": asked["method"],
            "trials": asked["trials"],
            "metric": asked["metric"],
            "searched_rate": "lr" in result["best"]["recipe"],
            "score": result["best"]["score"],
            "nested": result["nested"]["tuned"],
            "nested_balanced_accuracy": result["nested"]["balanced_accuracy"]["tuned"],
        }

    def check(self, described: Mapping[str, Any]) -> None:
        """Check that the study has the same images, splits, weights and recipe.

        Args:
            described: the content of the study's study.json.

        Raises:
            UsageError: it names what differs.
        """
        recipe = dict(self.content["recipe"])
        recipe["optimizer"] = recipe["optimizer"] | self.content["result"]["best"]["recipe"]
        search_file.check_same_data(self.directory, {**self.content, "recipe": recipe}, described)


def read_tuned(directories: Sequence[str | Path] | str | Path | None) -> list[Tuned]:
    """The best methods of finished searches.

    Raises:
        DataError: there is no search, or it is damaged.
        UsageError: a search is not done.
    """
    if directories is None:
        return []
    folders = [directories] if isinstance(directories, str | Path) else directories
    return [_read(Path(folder)) for folder in folders]


def _read(directory: Path) -> Tuned:
    content = search_file.read_finished(directory)
    found = Tuned(directory, "", content)
    try:
        _ = found.note, content["recipe"]["optimizer"], content["result"]["best"]["recipe"]
        return Tuned(directory, str(content["result"]["best"]["method"]), content)
    except (KeyError, TypeError) as error:
        raise DataError(
            f"expected a finished search at {directory}, but its {search_file.SEARCH_FOLDER.file} lacks {error}; search anew in another folder"
        ) from error
