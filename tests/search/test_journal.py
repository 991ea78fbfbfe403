"""The journal survives a kill at any moment, and several processes share the work."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from fixtures.forked import ForkedCommand, fork_server
from fixtures.small_search import in_short, search_in, settings, small_folds, train_heads, undisturbed
from tametail.core.errors import DataError
from tametail.search.journal import WORKERS, Worker, open_journal, register_worker, remove_incomplete_line
from tametail.storage.search_file import JOURNAL
from tametail.training.heads.head_experiments import Trial, TrialData, TrialResult
from tametail.training.run import TrainingKey

WORK = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from fixtures.small_search import search_in, settings, small_folds, train_heads
def train(*args):
    time.sleep({slow})
    return train_heads(*args)
search_in(Path({folder!r}), small_folds(), settings({trials}, batch={batch}), runner=train)
"""


def _start(folder: Path, trials: int, batch: int, slow: float) -> ForkedCommand:
    code = WORK.format(
        tests=str(Path(__file__).parents[1]),
        folder=str(folder),
        trials=trials,
        slow=slow,
        batch=batch,
    )
    return fork_server().start("-c", code, directory=folder.parent)


@pytest.mark.slow
def test_a_killed_search_reaches_the_same_result(tmp_path: Path) -> None:
    folder, asked = tmp_path / "killed", settings(5, batch=3)
    process = _start(folder, 5, 3, slow=0.2)
    journal = folder / JOURNAL
    # In the middle of a batch: some of its trainings are stored, others are not.
    while process.is_running and not (journal.is_file() and journal.read_bytes().count(b"without") > 13):
        time.sleep(0.05)
    assert process.kill() == -signal.SIGKILL
    assert list((folder / WORKERS).iterdir())
    with journal.open("ab") as handle:
        handle.write(b'{"op_code":8,"worker_id":"half a li')
    assert in_short(search_in(folder, small_folds(), asked)) == in_short(undisturbed(asked))
    assert not (folder / WORKERS).exists()


@pytest.mark.parametrize("halving", [False, True])
@pytest.mark.slow
def test_an_interrupted_tpe_search_reaches_the_same_result(halving: bool, tmp_path: Path) -> None:
    asked = settings(4, "tpe", halving, batch=3)
    done = 0

    def interrupted(
        trials: Sequence[Trial], data: TrialData, training: TrainingKey, predicted: Sequence[int]
    ) -> list[TrialResult]:
        nonlocal done
        done += 1
        if done % 9 == 0:
            raise KeyboardInterrupt
        return train_heads(trials, data, training, predicted)

    interruptions = 0
    while True:
        try:
            found = search_in(tmp_path / "killed", small_folds(), asked, runner=interrupted)
            break
        except KeyboardInterrupt:
            interruptions += 1
    assert interruptions > 2
    assert in_short(found) == in_short(undisturbed(asked))


@pytest.mark.slow
def test_two_processes_share_the_trials(tmp_path: Path) -> None:
    folder, asked = tmp_path / "shared", settings(8, batch=2)
    process = _start(folder, 8, 2, slow=0.05)
    while process.is_running and not (folder / JOURNAL).is_file():
        time.sleep(0.02)
    trials = search_in(folder, small_folds(), asked)
    assert process.wait().returncode == 0
    assert len({trial.outputs["owner"] for trial in trials}) == 2
    assert in_short(trials) == in_short(undisturbed(asked))


def test_more_trials_extend_a_finished_search(tmp_path: Path) -> None:
    few = search_in(tmp_path, small_folds(), settings(3, batch=2))
    more = search_in(tmp_path, small_folds(), settings(5, batch=2))
    assert in_short([trial for trial in more if trial.number < 3]) == in_short(few)
    assert in_short(more) == in_short(undisturbed(settings(5, batch=3)))


@pytest.mark.parametrize(
    ("before", "after"), [(b"", b""), (b"half", b""), (b"a\nb\n", b"a\nb\n"), (b"a\nb", b"a\n")]
)
def test_an_incomplete_line_is_removed(before: bytes, after: bytes, tmp_path: Path) -> None:
    journal = tmp_path / "j"
    remove_incomplete_line(journal)
    assert not journal.exists()
    journal.write_bytes(before)
    remove_incomplete_line(journal)
    assert journal.read_bytes() == after


def test_a_long_incomplete_line_is_removed(tmp_path: Path) -> None:
    journal = tmp_path / "j"
    journal.write_bytes(b"whole\n" + b"x" * 200_000)
    remove_incomplete_line(journal)
    assert journal.read_bytes() == b"whole\n"


@pytest.mark.parametrize("content", [b"no json\n", b"[1]\n", b'{"op_code": 99}\n'])
def test_a_damaged_journal_is_reported(content: bytes, tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_bytes(content)
    with pytest.raises(DataError, match="start again"):
        open_journal(tmp_path)


def test_a_worker_is_alive_until_it_leaves(tmp_path: Path) -> None:
    with register_worker(tmp_path) as one, register_worker(tmp_path) as two:
        assert one.is_alive(two.name)
        assert two.is_alive(one.name)
        assert not one.is_alive("0000")
        left = Worker(tmp_path)
        left.close()
        assert not one.is_alive(left.name)
    assert not (tmp_path / WORKERS).exists()
