"""Crash safety: a study that is interrupted or damaged resumes to the result it would have had."""

from __future__ import annotations

import errno
import gc
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from fixtures.plain_figures import figures_not_rendered
from fixtures.tiny_study import STEP_BY_STEP, TINY, words
from tametail.cli.app import app
from tametail.training.checkpointing.checkpoint import CheckpointStore

Before = Callable[[int], None]  # is given the number of the checkpoint that is about to be saved, from 1
WORDS = words(TINY | {"set": (STEP_BY_STEP,)})
WORDS += ["--recipe", "quick", "--methods", "ce", "--folds", "2", "--only-folds", "1", "--epochs", "2"]
WORDS += ["--batch-size", "8"]
WORDS += ["--set", "ema_decay=0.9"]
COMPARED = ("results.csv", "runs/*/*/*.safetensors", "runs/*/*/history.csv")


@pytest.fixture(autouse=True, scope="module")
def _every_step_saved_and_quick() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # layers this small are not worth sharing out
    with pytest.MonkeyPatch.context() as patch, figures_not_rendered():
        patch.setenv("TAMETAIL_CHECKPOINT_SECONDS", "0")
        yield
    torch.set_num_threads(threads)


def compare(images: Path, out: Path, *more: str) -> tuple[int, str]:
    """The exit code, and what was said on the way."""
    result = CliRunner().invoke(app, ["compare", str(images), "-o", str(out), *WORDS, *more])
    return result.exit_code, result.stderr


def outcome(out: Path) -> dict[str, bytes]:
    """Weights, histories and results of a study, by name."""
    return {str(p.relative_to(out)): p.read_bytes() for pattern in COMPARED for p in out.glob(pattern)}


@pytest.fixture(scope="module")
def undisturbed(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "study"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAMETAIL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        assert compare(image_folder, out)[0] == 0
    assert len(outcome(out)) == 4
    assert not list(out.glob("runs/*/.*"))
    gc.collect()
    gc.freeze()  # what was imported: each training ends with a collection
    return out


@contextmanager
def before_saving(happen: Before) -> Iterator[pytest.MonkeyPatch]:
    """Have something happen before each checkpoint."""
    real, saved = CheckpointStore.save, 0

    def save(store: CheckpointStore, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        nonlocal saved
        saved += 1
        happen(saved)
        real(store, tensors, state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CheckpointStore, "save", save)
        yield patch


def kept(out: Path) -> list[Path]:
    """The checkpoints of a study."""
    return sorted(out.glob("runs/*/.*.checkpoint/*"))


def assert_goes_on_to_the_same_end(images: Path, out: Path, undisturbed: Path) -> None:
    assert compare(images, out)[0] == 0
    assert outcome(out) == outcome(undisturbed)
    assert not list(out.glob("runs/*/.*"))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS], ids=errno.errorcode.get)
def test_a_full_or_read_only_disk_is_an_error_and_the_last_state_stays(
    image_folder: Path,
    tmp_path: Path,
    undisturbed: Path,
    number: int,
) -> None:
    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    def happen(saved: int) -> None:
        if saved == 4:
            patch.setattr(os, "fsync", fail)

    with before_saving(happen) as patch:
        code, said = compare(image_folder, tmp_path / "s")
    assert code == 1
    assert os.strerror(number) in said
    assert str(tmp_path / "s" / "runs") in said
    assert "repeat the command" in said
    assert len(kept(tmp_path / "s")) == 2
    assert_goes_on_to_the_same_end(image_folder, tmp_path / "s", undisturbed)


def test_a_study_folder_that_vanishes_is_an_error(image_folder: Path, tmp_path: Path) -> None:
    def happen(saved: int) -> None:
        if saved == 3:
            shutil.rmtree(tmp_path / "s")

    with before_saving(happen):
        code, said = compare(image_folder, tmp_path / "s")
    assert code == 1
    assert "cannot be written (No such file or directory)" in said


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX has them")
@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda s: s.name)
@pytest.mark.parametrize("seconds", ["0", "1000"], ids=["saving at every step", "saving when asked"])
def test_asked_to_stop_it_saves_and_ends(
    image_folder: Path,
    tmp_path: Path,
    undisturbed: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: signal.Signals,
    seconds: str,
) -> None:
    from tametail.training import step

    monkeypatch.setenv("TAMETAIL_CHECKPOINT_SECONDS", seconds)
    steps, real = 0, step.Stepper.update

    def update(*given: Any) -> Tensor:
        nonlocal steps
        steps += 1
        if steps == 5:
            signal.raise_signal(asked)
        return real(*given)

    monkeypatch.setattr(step.Stepper, "update", update)
    code, said = compare(image_folder, tmp_path / "s")
    assert (code, steps) == (128 + asked, 5)
    assert "repeat the command" in said
    assert kept(tmp_path / "s")
    steps = 100
    assert_goes_on_to_the_same_end(image_folder, tmp_path / "s", undisturbed)
    assert steps == 100 + 2 * 4 - 5


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX has them")
def test_asked_to_stop_it_begins_no_other_run(image_folder: Path, tmp_path: Path) -> None:
    def happen(saved: int) -> None:
        if saved == 3:
            signal.raise_signal(signal.SIGTERM)

    with before_saving(happen):
        assert compare(image_folder, tmp_path / "s", "--only-folds", "0,1")[0] == 143
    assert [path.name for path in tmp_path.glob("s/runs/*/*")] == [".seed0-fold0.checkpoint"]


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX has them")
def test_ctrl_c_twice_ends_at_once_and_the_last_state_stays(
    image_folder: Path,
    tmp_path: Path,
    undisturbed: Path,
) -> None:
    last = 0

    def happen(saved: int) -> None:
        nonlocal last
        last = saved
        if saved == 3:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with before_saving(happen):
        code, said = compare(image_folder, tmp_path / "s")
    assert (code, last) == (130, 3)
    assert "Interrupted" in said
    assert len(kept(tmp_path / "s")) == 2
    assert_goes_on_to_the_same_end(image_folder, tmp_path / "s", undisturbed)


def test_where_another_process_is_at_work_it_leaves_and_touches_nothing(
    image_folder: Path, tmp_path: Path, undisturbed: Path
) -> None:
    out = tmp_path / "s"
    shutil.copytree(undisturbed, out)
    before = outcome(out)
    hold = "import sys; from pathlib import Path; from tametail.storage.locks import lock_folder\n"
    hold += "with lock_folder(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        code, said = compare(image_folder, out, "--methods", "ce,alpa")
        assert code == 1
        assert "another process uses" in said
        assert outcome(out) == before
        other.communicate()
    assert compare(image_folder, out)[0] == 0


# Where torch's own notice comes in the middle of a callback, Python reports it and goes on.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX has them")
def test_a_process_that_loads_data_and_is_killed_is_an_error_and_the_last_state_stays(
    image_folder: Path,
    tmp_path: Path,
    undisturbed: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from torch.utils.data import _utils

    monkeypatch.setattr(
        _utils, "MP_STATUS_CHECK_INTERVAL", 0.1
    )  # torch's patience with the process that is left

    def happen(saved: int) -> None:
        if saved == 3:
            loading = multiprocessing.active_children()
            assert len(loading) == 2
            os.kill(loading[0].pid or 0, signal.SIGKILL)

    with before_saving(happen):
        code, said = compare(image_folder, tmp_path / "s", "--workers", "2")
    for process in multiprocessing.active_children():
        process.kill()  # what torch had no patience for
        process.join()
    assert code == 1
    assert "data-loading worker process was killed" in said
    assert kept(tmp_path / "s")
    assert_goes_on_to_the_same_end(image_folder, tmp_path / "s", undisturbed)


def test_a_damaged_checkpoint_is_named_and_the_one_before_leads_to_the_same_end(
    image_folder: Path,
    tmp_path: Path,
    undisturbed: Path,
) -> None:
    def happen(saved: int) -> None:
        if saved == 6:
            raise KeyboardInterrupt

    with before_saving(happen):
        assert compare(image_folder, tmp_path / "s")[0] == 130
    newest = kept(tmp_path / "s")[-1]
    newest.write_bytes(newest.read_bytes()[:-1])
    code, said = compare(image_folder, tmp_path / "s")
    assert code == 0
    assert newest.name in said
    assert "Resuming from the previous one" in said
    assert outcome(tmp_path / "s") == outcome(undisturbed)
