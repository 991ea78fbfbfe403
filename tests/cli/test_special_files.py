"""A pipe, device or socket in the place of a file is named at once: opening a pipe without a writer would wait for ever."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fixtures.tiny_study import TINY, words, write_images
from tametail.cli.app import app
from tametail.core.errors import DataError


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the path of a socket has a length limit
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def link_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


KINDS = pytest.mark.parametrize("make", [make_pipe, make_socket, link_device])


@pytest.fixture(autouse=True)
def not_for_ever() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError("the command waits for the file")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(100)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("special")
    write_images(folder / "data")
    settings = [*words(TINY), "--folds", "2", "--methods", "ce"]
    ran = CliRunner().invoke(
        app, ["compare", str(folder / "data" / "labels.csv"), *settings, "-o", str(folder / "study")]
    )
    assert ran.exit_code == 0, ran.output
    return folder / "study"


def refused(*command: object) -> str:
    ran = CliRunner().invoke(app, [str(word) for word in command])
    assert ran.exit_code in {1, 2, 3}, ran.output
    assert "unexpected" not in ran.output
    return " ".join(ran.output.split())


@KINDS
@pytest.mark.parametrize(
    "name",
    ["t.csv", "t.tsv", "t.xlsx", "t.parquet", "t.jsonl", "t.npz", "t", "sub/labels.csv", "sub/t.parquet"],
)
def test_table(name: str, make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    make(path)
    for source in {path, path.parent if "/" in name else path}:
        assert refused("inspect", source)


@pytest.mark.parametrize(
    ("place", "make"), [("data/images/000.png", make_pipe), ("data/images", make_socket)]
)
def test_images(place: str, make: Callable[[Path], None], tmp_path: Path) -> None:
    write_images(tmp_path / "data")
    path = tmp_path / place
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    make(path)
    said = refused(
        "compare", tmp_path / "data/labels.csv", *words(TINY), "--folds", "2", "-o", tmp_path / "s"
    )
    assert "000.png" in said


@pytest.mark.parametrize(
    ("option", "make"),
    [
        ("--recipe", make_pipe),
        ("--metadata", make_pipe),
        ("--metadata", link_device),
        ("--split-files", make_pipe),
        ("--split-files", make_socket),
        ("--weights", make_pipe),
    ],
)
def test_options(option: str, make: Callable[[Path], None], tmp_path: Path) -> None:
    write_images(tmp_path / "data")
    suffix = {"--recipe": ".yaml", "--metadata": ".csv", "--split-files": ".txt"}.get(option, ".safetensors")
    path = tmp_path / f"given{suffix}"
    make(path)
    value = f"test={path}" if option == "--split-files" else path
    assert path.name in refused("compare", tmp_path / "data/labels.csv", option, value, "-o", tmp_path / "s")


@pytest.mark.parametrize(
    ("name", "make"),
    [
        *(
            (name, make_pipe)
            for name in ("study.json", "splits.csv", "table.parquet", "source.json", "calibration.json")
        ),
        *(
            (name, make_pipe)
            for name in ("metrics.json", "runs", "runs/ce", "runs/ce/seed0-fold0", "runs/ce/x/run.json")
        ),
        ("runs/ce/seed0-fold0/predictions.parquet", link_device),
        ("runs/ce/seed0-fold0/model.safetensors", make_socket),
    ],
)
def test_study(name: str, make: Callable[[Path], None], study: Path, tmp_path: Path) -> None:
    copy = tmp_path / "study"
    shutil.copytree(study, copy)
    path = copy / name
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    make(path)
    data = study.parent / "data"
    for command in (
        ("report", copy),
        ("test-set", copy),
        ("predict", copy, data / "images", "-o", tmp_path / "p.csv"),
        ("evaluate", copy, "--data", data / "labels.csv", "-o", tmp_path / "e"),
        ("rank", copy, study, "-o", tmp_path / "ranks"),
    ):
        assert path.name in refused(*command)


@KINDS
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_predictions(suffix: str, make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    make(path)
    assert path.name in refused("evaluate", path, "-o", tmp_path / "e")


@KINDS
def test_python(make: Callable[[Path], None], tmp_path: Path) -> None:
    import tametail

    make(tmp_path / "image.png")
    with pytest.raises(DataError, match="pipe, device or socket"):
        tametail.data.decoding.decode.decode_image(tmp_path / "image.png", 32)


@pytest.mark.parametrize("name", ["thumbnails", "figures", "runs/ce", "runs/alpa"])
def test_nothing_is_written_through_a_linked_folder(name: str, study: Path, tmp_path: Path) -> None:
    copy, victim = tmp_path / "study", tmp_path / "victim"
    shutil.copytree(study, copy)
    victim.mkdir()
    path = copy / name
    shutil.rmtree(path, ignore_errors=True)
    path.symlink_to(victim, target_is_directory=True)
    for command in (("report", copy, "--figures", "svg"), ("resume", copy), ("test-set", copy)):
        assert path.name in refused(*command)
    assert list(victim.iterdir()) == []


def test_a_folder_without_results_is_not_looked_through(tmp_path: Path) -> None:
    make_pipe(tmp_path / "of somebody")
    assert "study.json" in refused("report", tmp_path)


@pytest.mark.parametrize("root", [None, True, 1, {}, ["x"], "\0", "9" * 5000])
def test_a_source_that_is_no_path_is_named(root: object, study: Path, tmp_path: Path) -> None:
    copy = tmp_path / "study"
    shutil.copytree(study, copy)
    (copy / "source.json").write_text(json.dumps({"image_root": root}), encoding="utf-8")
    for command in ("resume", "test-set"):
        assert refused(command, copy)
    assert CliRunner().invoke(app, ["report", str(copy)]).exit_code == 0  # without images


def test_an_image_twice_in_the_splits_is_named(study: Path, tmp_path: Path) -> None:
    copy = tmp_path / "study"
    shutil.copytree(study, copy)
    lines = (copy / "splits.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (copy / "splits.csv").write_text("".join([*lines, lines[-1]]), encoding="utf-8")
    assert "splits" in refused("report", copy)
