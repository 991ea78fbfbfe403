"""A disk that is full or read-only at any point where a study is written: told, and the repeated command ends as undisturbed."""

from __future__ import annotations

import errno
import gc
import os
import shutil
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fixtures.plain_figures import figures_not_rendered
from fixtures.tiny_study import STEP_BY_STEP, TINY, words
from tametail.cli.app import app

pytestmark = pytest.mark.slow

WORDS = words(TINY | {"set": (STEP_BY_STEP,)})
WORDS += ["--methods", "ce", "--folds", "2", "--epochs", "1"]
REPLACED = (
    "table.parquet",
    "splits.csv",
    "source.json",
    "backbone.safetensors",
    "study.json",
    "unlikeness.safetensors",
    "seed0-fold1",
)
Break = Callable[[pytest.MonkeyPatch, OSError], None]


def compare(images: Path, out: Path) -> tuple[int, str]:
    """The exit code, and what was said."""
    result = CliRunner().invoke(app, ["compare", str(images), "-o", str(out), *WORDS])
    return result.exit_code, result.stderr


def outcome(out: Path) -> dict[str, bytes]:
    """Everything in a study that is the same each time it is made."""
    kept = (path for path in out.rglob("*") if path.is_file() and path.name not in {".lock", "report.html"})
    changing = {"run.json", "timing.csv", "results.md"}  # say when and how fast
    return {str(path.relative_to(out)): path.read_bytes() for path in kept if path.name not in changing}


@pytest.fixture(autouse=True, scope="module")
def _quick() -> Iterator[None]:
    with figures_not_rendered():
        yield


@pytest.fixture(scope="module")
def undisturbed(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "study"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAMETAIL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        assert compare(image_folder, out)[0] == 0
    gc.collect()
    gc.freeze()  # what was imported: each training ends with a collection
    return out


def failing(error: OSError) -> Callable[..., Any]:
    def call(*_: object) -> None:
        raise error

    return call


def failing_for(real: Callable[..., Any], position: int, name: str, error: OSError) -> Callable[..., Any]:
    """A function that fails where one of its arguments is a path of this name."""

    def call(*given: Any, **options: Any) -> Any:
        if isinstance(given[position], str | Path) and Path(given[position]).name == name:
            raise error
        return real(*given, **options)

    return call


def replacing(name: str) -> Break:
    def breaks(patch: pytest.MonkeyPatch, error: OSError) -> None:
        patch.setattr(os, "replace", failing_for(os.replace, 1, name, error))

    return breaks


def predictions(patch: pytest.MonkeyPatch, error: OSError) -> None:
    import pyarrow.parquet

    real = pyarrow.parquet.ParquetWriter
    patch.setattr(pyarrow.parquet, "ParquetWriter", failing_for(real, 0, "predictions.parquet", error))


def lock(patch: pytest.MonkeyPatch, error: OSError) -> None:
    patch.setattr(os, "open", failing_for(os.open, 0, ".lock", error))


POINTS: dict[str, Break] = {name: replacing(name) for name in REPLACED}
POINTS |= {"predictions.parquet": predictions, ".lock": lock}


@pytest.mark.parametrize(("point", "number"), list(zip(POINTS, cycle([errno.ENOSPC, errno.EROFS]))))
def test_it_is_told_and_the_repeated_command_ends_as_undisturbed(
    image_folder: Path, tmp_path: Path, undisturbed: Path, point: str, number: int
) -> None:
    out = tmp_path / "study"
    with pytest.MonkeyPatch.context() as patch:
        POINTS[point](patch, OSError(number, os.strerror(number)))
        code, said = compare(image_folder, out)
    assert code == 1
    assert str(out) in said
    assert f"cannot be written ({os.strerror(number)})" in said
    assert "repeat the command" in said
    assert "unexpected" not in said
    assert compare(image_folder, out)[0] == 0
    assert outcome(out) == outcome(undisturbed)


def test_features_that_cannot_be_kept_are_told_with_the_cache_folder(
    image_folder: Path,
    tmp_path: Path,
    undisturbed: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache, out = tmp_path / "cache", tmp_path / "study"
    shutil.copytree(os.environ["TAMETAIL_CACHE"], cache)
    shutil.rmtree(cache / "features")
    monkeypatch.setenv("TAMETAIL_CACHE", str(cache))
    for number, place in (
        (errno.ENOSPC, "tametail.storage.output_store.atomic_path"),  # of a block
        (errno.EROFS, "tametail.storage.output_store.make_folder"),
        (errno.ENOSPC, "numpy.lib.format.write_array_header_1_0"),
    ):
        error = OSError(number, os.strerror(number))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(place, failing(error))
            code, said = compare(image_folder, out)
        assert code == 1
        assert str(cache / "features") in said
        assert "TAMETAIL_CACHE" in said
        assert "unexpected" not in said
    kept = {path.suffix for path in (cache / "features").iterdir()}
    assert kept == {".safetensors", ".lock"}, "blocks that are finished"
    assert compare(image_folder, out)[0] == 0
    assert outcome(out) == outcome(undisturbed)


def test_an_opening_that_cannot_be_recorded_opens_nothing(
    image_folder: Path, tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "study"
    shutil.copytree(undisturbed, out)
    replacing("test_set_evaluations.jsonl")(monkeypatch, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    result = CliRunner().invoke(app, ["test-set", str(out)])
    assert result.exit_code == 1, result.output
    assert f"test_set_evaluations.jsonl cannot be written ({os.strerror(errno.ENOSPC)})" in result.stderr
    assert outcome(out) == outcome(undisturbed)
