"""tametail unlock: who holds a folder, and the removal of what a killed process left."""

from __future__ import annotations

from pathlib import Path

from cli.test_app import run
from fixtures.lock_holder import lock_holder
from tametail.storage.locks import LOCK, is_held


def test_a_lock_in_use_stays_and_that_of_a_killed_process_goes(tmp_path: Path) -> None:
    path = tmp_path / LOCK
    assert run("unlock", tmp_path)[:2] == (0, "")
    with lock_holder(path, PBS_JOBID="12.head") as other:
        code, output, errors = run("unlock", tmp_path)
        assert (code, output) == (1, "")
        said = " ".join(errors.split())
        assert f"process {other.pid} on " in said
        assert "(PBS job 12.head)" in said
        assert "it is running" in said
        assert "add --force" in said
        assert is_held(path)
        other.kill()
        other.wait()
    code, output, errors = run("unlock", tmp_path)
    assert (code, output) == (0, f"{path}\n")
    assert "it has ended" in " ".join(errors.split())
    assert run("unlock", tmp_path)[:2] == (0, "")


def test_unlock_of_nothing_is_bad_data(tmp_path: Path) -> None:
    code, _, errors = run("unlock", tmp_path / "absent")
    assert code == 3
    assert "expected the folder of a study, search or recommendation" in " ".join(errors.split())
