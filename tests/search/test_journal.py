"""What is kept survives a kill at any moment, and several processes share the work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import fixtures.small_search as small_search
from fixtures.small_search import in_short, search_in, settings, small_folds, train_heads
from tametail.core.errors import DataError
from tametail.search.journal import WORKERS, Worker, cut_half_line, open_journal, working
from tametail.search.trainings import TrainingKey
from tametail.storage.search_file import JOURNAL
from tametail.training.heads.head_experiments import Trial, TrialData, TrialResult

WORK = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import small_search
from small_search import *
real, slow = small_search.train_heads, {slow}
def train(trials, data, training):
    import time
    time.sleep(slow)
    return real(trials, data, training)
small_search.train_heads = train
search_in(Path({folder!r}), small_folds(), settings({trials}, batch={batch}))
"""


def _start(folder: Path, trials: int, batch: int, slow: float) -> subprocess.Popen[bytes]:
    code = WORK.format(
        tests=str(Path(__file__).parents[1]),
        folder=str(folder),
        trials=trials,
        slow=slow,
        batch=batch,
    )
    return subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_a_killed_search_goes_on_to_the_same_result(tmp_path: Path) -> None:
    folder, asked = tmp_path / "killed", settings(5, batch=3)
    process = _start(folder, 5, 3, slow=0.05)
    journal = folder / JOURNAL
    # In the middle of a batch: some trainings of it are kept, others not.
    while process.poll() is None and not (journal.is_file() and journal.read_bytes().count(b"without") > 13):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert list((folder / WORKERS).iterdir())
    with journal.open("ab") as handle:
        handle.write(b'{"op_code":8,"worker_id":"half a li')
    undisturbed = search_in(tmp_path / "whole", small_folds(), asked)
    assert in_short(search_in(folder, small_folds(), asked)) == in_short(undisturbed)
    assert not (folder / WORKERS).exists()


@pytest.mark.parametrize("halving", [False, True])
def test_tpe_goes_on_to_the_same_result_too(
    halving: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = settings(4, "tpe", halving, batch=3)
    undisturbed = search_in(tmp_path / "whole", small_folds(), asked)
    done = 0

    def interrupted(trials: Sequence[Trial], data: TrialData, training: TrainingKey) -> list[TrialResult]:
        nonlocal done
        done += 1
        if done % 9 == 0:
            raise KeyboardInterrupt
        return train_heads(trials, data, training)

    monkeypatch.setattr(small_search, "train_heads", interrupted)
    interruptions = 0
    while True:
        try:
            found = search_in(tmp_path / "killed", small_folds(), asked)
            break
        except KeyboardInterrupt:
            interruptions += 1
    assert interruptions > 2
    assert in_short(found) == in_short(undisturbed)


def test_two_processes_share_the_trials(tmp_path: Path) -> None:
    folder, asked = tmp_path / "shared", settings(8, batch=2)
    process = _start(folder, 8, 2, slow=0.02)
    while process.poll() is None and not (folder / JOURNAL).is_file():
        time.sleep(0.02)
    trials = search_in(folder, small_folds(), asked)
    assert process.wait(60) == 0
    assert len({trial.found["owner"] for trial in trials}) == 2
    assert in_short(trials) == in_short(search_in(tmp_path / "alone", small_folds(), asked))


def test_more_trials_go_on_where_fewer_ended(tmp_path: Path) -> None:
    few = search_in(tmp_path / "a", small_folds(), settings(3, batch=2))
    more = search_in(tmp_path / "a", small_folds(), settings(6, batch=2))
    assert in_short([trial for trial in more if trial.number < 3]) == in_short(few)
    assert in_short(more) == in_short(search_in(tmp_path / "b", small_folds(), settings(6, batch=3)))


@pytest.mark.parametrize(
    ("before", "after"), [(b"", b""), (b"half", b""), (b"a\nb\n", b"a\nb\n"), (b"a\nb", b"a\n")]
)
def test_a_half_written_line_is_cut_off(before: bytes, after: bytes, tmp_path: Path) -> None:
    journal = tmp_path / "j"
    cut_half_line(journal)
    assert not journal.exists()
    journal.write_bytes(before)
    cut_half_line(journal)
    assert journal.read_bytes() == after


def test_a_long_half_line_is_cut_off(tmp_path: Path) -> None:
    journal = tmp_path / "j"
    journal.write_bytes(b"whole\n" + b"x" * 200_000)
    cut_half_line(journal)
    assert journal.read_bytes() == b"whole\n"


@pytest.mark.parametrize("content", [b"no json\n", b"[1]\n", b'{"op_code": 99}\n'])
def test_a_damaged_journal_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_bytes(content)
    with pytest.raises(DataError, match="begin anew"):
        open_journal(tmp_path)


def test_a_worker_is_alive_until_it_leaves(tmp_path: Path) -> None:
    with working(tmp_path) as one, working(tmp_path) as two:
        assert one.lives(two.name)
        assert two.lives(one.name)
        assert not one.lives("0000")
        left = Worker(tmp_path)
        left.leave()
        assert not one.lives(left.name)
    assert not (tmp_path / WORKERS).exists()
