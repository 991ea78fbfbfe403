"""Jobs of Slurm, with commands that stand in for those of Slurm; make prove-engines uses a real one."""

from __future__ import annotations

import json
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from tametail.core.errors import TametailError, UsageError
from tametail.engines import slurm
from tametail.engines.engine import Ended, Work
from tametail.engines.slurm import SlurmEngine, check_settings, read_ledger

SBATCH = """\
#!/bin/sh
n=$(cat {state}/last 2>/dev/null || echo 100)
echo $((n + 1)) > {state}/last
cp "$2" {state}/script-$n.sh
echo $n
"""
SQUEUE = "#!/bin/sh\n[ -f {state}/silent ] && exit 1\ncat {state}/queue 2>/dev/null || true\n"
SCANCEL = "#!/bin/sh\necho $@ >> {state}/cancelled\nrm -f {state}/queue\n"
SACCT = "#!/bin/sh\ncat {state}/states 2>/dev/null || exit 1\n"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the commands remember."""
    (tmp_path / "bin").mkdir()
    state = tmp_path / "state"
    state.mkdir()
    commands = {"sbatch": SBATCH, "squeue": SQUEUE, "scancel": SCANCEL, "sacct": SACCT}
    for name, text in commands.items():
        path = tmp_path / "bin" / name
        path.write_text(text.format(state=state), encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(slurm, "_GRACE_SECONDS", 0.0)
    return state


def engine_of(tmp_path: Path, jobs: int | None = None, **settings: str) -> SlurmEngine:
    def never(_: Sequence[int]) -> None:
        raise AssertionError

    work = Work(never, ["tametail", "work", "a b"], tmp_path / "study" / ".work", threads=2, gpu=False)
    return SlurmEngine(work, {"poll": "1"} | settings, jobs)


def queue(state: Path, *jobs: str) -> None:
    (state / "queue").write_text("".join(f"{job}\n" for job in jobs), encoding="utf-8")


def poll(engine: SlurmEngine) -> list[Ended]:
    """The next look at the queue."""
    engine._last = 0.0
    return engine.poll()


def test_units_are_an_array_of_jobs(state: Path, tmp_path: Path) -> None:
    engine = engine_of(tmp_path, jobs=4, partition="gpu", units="2", notice="60", exclusive="")
    engine.start([0, 1, 2, 5, 9])
    script = (state / "script-100.sh").read_text(encoding="utf-8")
    for line in (
        "#SBATCH --partition=gpu",
        "#SBATCH --exclusive",
        "#SBATCH --cpus-per-task=2",
        "#SBATCH --array=0-2%4",
        "#SBATCH --signal=B:USR1@60",
        "#SBATCH --requeue",
    ):
        assert line in script.splitlines()
    assert script.splitlines()[-1] == "exec tametail work 'a b' --unit \"$units\""
    (listed,) = (tmp_path / "study/.work").glob("job-*.txt")
    assert listed.read_text(encoding="utf-8") == "0,1\n2,5\n9\n"
    assert read_ledger(tmp_path / "study/.work")[0]["units"] == [[0, 1], [2, 5], [9]]


def test_a_job_that_is_no_longer_in_the_queue_has_ended(state: Path, tmp_path: Path) -> None:
    engine = engine_of(tmp_path)
    engine.start([4, 5])
    queue(state, "100_0 RUNNING", "100_1 PENDING", "7_3 RUNNING")
    assert poll(engine) == []
    (log,) = [path.with_name(f"{path.stem}-0.log") for path in (tmp_path / "study/.work").glob("job-*.txt")]
    log.write_text("first\nslurmstepd: error: killed\n", encoding="utf-8")
    queue(state, "100_1 RUNNING")
    assert poll(engine) == [Ended(4, "job 100_0 ended: slurmstepd: error: killed")]
    (state / "states").write_text("COMPLETED|\n", encoding="utf-8")
    queue(state)
    assert poll(engine) == [Ended(5)], "where Slurm keeps accounts, they tell"
    assert poll(engine) == []


def test_large_plans_are_several_arrays(state: Path, tmp_path: Path) -> None:
    engine = engine_of(tmp_path)
    engine.start(range(2500))
    assert [len(entry["units"]) for entry in read_ledger(tmp_path / "study/.work")] == [1000, 1000, 500]


def test_jobs_of_a_coordinator_that_has_ended_are_found_again(state: Path, tmp_path: Path) -> None:
    engine_of(tmp_path).start([0, 1, 2])
    queue(state, "100_1 RUNNING")
    second = engine_of(tmp_path)
    second.start([0, 1, 2])
    assert [entry["units"] for entry in read_ledger(tmp_path / "study/.work")] == [
        [[0], [1], [2]],
        [[0], [2]],
    ]
    queue(state, "101_0 RUNNING", "101_1 RUNNING")
    assert [ended.unit for ended in poll(second)] == [1]


def test_stopping_cancels_the_jobs_and_waits_for_them(state: Path, tmp_path: Path) -> None:
    engine = engine_of(tmp_path)
    engine.start([0])
    queue(state, "100_0 RUNNING")
    engine.stop()
    assert (state / "cancelled").read_text(encoding="utf-8").split() == ["100"]


def test_a_controller_that_does_not_answer_is_waited_for(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of(tmp_path)
    engine.start([0])
    (state / "silent").touch()
    assert poll(engine) == []
    monkeypatch.setattr(slurm, "_SILENT_SECONDS", -1.0)
    with pytest.raises(TametailError, match="squeue failed"):
        poll(engine)
    (state / "silent").unlink()
    assert [ended.unit for ended in poll(engine)] == [0]


@pytest.mark.parametrize(
    "settings",
    [
        {"array": "1-3"},
        {"partition": "a\n#SBATCH --wrap=x"},
        {"a b": "c"},
        {"units": "0"},
        {"poll": "often"},
        {"signal": ""},
    ],
)
def test_settings_that_are_refused(state: Path, settings: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"expected (options of sbatch|--engine-set)"):
        check_settings(settings)


def test_a_damaged_ledger_is_at_worst_submitted_again(tmp_path: Path) -> None:
    (tmp_path / "jobs.jsonl").write_text(
        "{\n[]\n" + json.dumps({"array": 3, "units": [[1]]}) + "\n" + json.dumps({"array": "x"}),
        encoding="utf-8",
    )
    assert [entry["array"] for entry in read_ledger(tmp_path)] == [3]
    assert read_ledger(tmp_path / "absent") == []
