"""Units as jobs of Slurm: arrays of jobs that each call `tametail work`, by sbatch, squeue, scancel and, where it keeps
accounts, sacct. No library is needed.

A job that is requeued (after a lost node, or preempted) continues from its checkpoint; one that ended without its units done
(killed, or at its time limit) is submitted again. What was submitted is in a file, so that the coordinator may end: repeated,
it finds its jobs again.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tametail.core.atomic import make_folder, write_atomically
from tametail.core.errors import TametailError, UsageError, explain_save_error
from tametail.core.regular_file import regular
from tametail.engines.engine import Ended, Work
from tametail.storage.json_lines import append_line, read_lines

LEDGER = "jobs.jsonl"  # what was submitted
UNITS_SETTING = "units"  # number of units per job
_OURS = {UNITS_SETTING, "poll", "notice"}
_FIXED = {
    "array",
    "job-name",
    "output",
    "error",
    "parsable",
    "wait",
    "requeue",
    "no-requeue",
    "open-mode",
    "signal",
}
_ARRAY = 1000  # tasks; the default MaxArraySize is 1001
_COMMAND_SECONDS = 120  # a busy controller answers late
_SILENT_SECONDS = 1800.0  # without an answer of the controller
_GRACE_SECONDS = 10.0  # squeue may not show a job at once
_LOG_BYTES = 4096


class SlurmEngine:
    """Jobs of Slurm.

    Args:
        work: what they run.
        settings: options of sbatch by their long names, ``units``, the number of units per job, ``poll``, seconds between
            two calls of squeue, and ``notice``, seconds before the time limit at which a unit saves; Slurm sends the signal up to
            a minute early.
        jobs: number of jobs that run at a time; None for as many as Slurm lets.

    Raises:
        UsageError: Slurm is not installed, or an invalid setting.
    """

    def __init__(self, work: Work, settings: Mapping[str, str], jobs: int | None) -> None:
        check_settings(settings)
        self._work, self._jobs = work, jobs
        self._options = {key: value for key, value in settings.items() if key not in _OURS}
        self._options.setdefault("cpus-per-task", str(work.threads))
        if work.gpu and not {"gpus", "gres", "gpus-per-task", "gpus-per-node"} & set(self._options):
            self._options["gpus"] = "1"
        self._per_job = int(settings.get(UNITS_SETTING, 1))
        self._poll = float(settings.get("poll", 5))
        self._notice = int(settings.get("notice", 120))
        self._jobs_of: dict[str, list[int]] = {}  # units by the job, such as 17_3
        self._submitted: dict[str, float] = {}  # when
        self._ended: list[Ended] = []
        self._last, self._silent_since = 0.0, 0.0

    @property
    def description(self) -> str:
        limit = f", at most {self._jobs} at a time" if self._jobs else ""
        return f"jobs of Slurm{limit}; their output is in {self._work.folder}"

    def start(self, units: Sequence[int]) -> None:
        running = self._running() if not self._jobs_of else set()
        left = list(units)
        for job, of_job in self._recorded().items():  # of a coordinator that has ended
            if job in running and any(unit in left for unit in of_job):
                self._jobs_of[job] = of_job
                self._submitted[job] = 0.0
                left = [unit for unit in left if unit not in of_job]
        parts = [left[at : at + self._per_job] for at in range(0, len(left), self._per_job)]
        for at in range(0, len(parts), _ARRAY):
            self._submit(parts[at : at + _ARRAY])

    def poll(self) -> list[Ended]:
        found, self._ended = self._ended, []
        pause = self._last + self._poll - time.monotonic()
        if pause > 0:
            time.sleep(min(pause, 1.0))
            if self._last + self._poll > time.monotonic():
                return found
        self._last = time.monotonic()
        try:
            running = self._running()
        except TametailError:  # a controller that is started again, or a busy one
            self._silent_since = self._silent_since or self._last
            if self._last - self._silent_since > _SILENT_SECONDS:
                raise
            return found
        self._silent_since = 0.0
        for job, units in list(self._jobs_of.items()):
            if job not in running and time.monotonic() - self._submitted[job] > _GRACE_SECONDS:
                del self._jobs_of[job]
                why = self._why(job)
                found += [Ended(unit, why) for unit in units]
        return found

    def stop(self) -> None:
        if not self._jobs_of:
            return
        arrays = sorted({job.partition("_")[0] for job in self._jobs_of})
        # TERM first, so that the units save; Slurm kills what is left after its KillWait.
        _call("scancel", *arrays)
        while set(self._jobs_of) & self._running():
            time.sleep(1)
        self._jobs_of.clear()

    def _submit(self, parts: Sequence[Sequence[int]]) -> None:
        """Submit one array, of which each task does the units in one line of a file."""
        folder = self._work.folder
        name = f"job-{time.strftime('%Y%m%d-%H%M%S')}-{parts[0][0]}"
        lines = [",".join(map(str, part)) for part in parts]
        limit = f"%{self._jobs}" if self._jobs else ""
        own = {
            "array": f"0-{len(parts) - 1}{limit}",
            "job-name": f"tametail-{folder.parent.name[:40]}",
            "output": str(folder / f"{name}-%a.log"),
            "open-mode": "append",
            "signal": f"B:USR1@{self._notice}",  # the shell of the job has become tametail work
        }
        settings = {**self._options, **own}
        script = "\n".join(
            [
                "#!/bin/sh",
                *(
                    f"#SBATCH --{key}={value}" if value else f"#SBATCH --{key}"
                    for key, value in settings.items()
                ),
                "#SBATCH --requeue",
                f'units=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {shlex.quote(str(folder / f"{name}.txt"))})',
                f'exec {shlex.join(self._work.command)} --unit "$units"',
                "",
            ]
        )
        with explain_save_error(folder):
            make_folder(folder)
            write_atomically(folder / f"{name}.txt", "\n".join([*lines, ""]))
            write_atomically(folder / f"{name}.sh", script)
        answer = _call("sbatch", "--parsable", str(folder / f"{name}.sh")).strip()
        number = answer.partition(";")[0]
        if not number.isdigit():
            raise TametailError(f"expected the number of a job from sbatch, got {answer[:200]!r}")
        entry = {"array": int(number), "units": [list(part) for part in parts], "log": f"{name}-%a.log"}
        with explain_save_error(folder / LEDGER):
            append_line(folder / LEDGER, entry, alone=True)
        for task, part in enumerate(parts):
            self._jobs_of[f"{number}_{task}"] = list(part)
            self._submitted[f"{number}_{task}"] = time.monotonic()

    def _recorded(self) -> dict[str, list[int]]:
        """The units of all jobs that were submitted for this folder, by the job."""
        return {
            f"{entry['array']}_{task}": list(part)
            for entry in read_ledger(self._work.folder)
            for task, part in enumerate(entry["units"])
        }

    def _running(self) -> set[str]:
        """All array jobs of this user that wait or run."""
        found = set()
        for line in _call("squeue", "--me", "--array", "--noheader", "--format=%F_%K %T").splitlines():
            job, _, state = line.strip().partition(" ")
            if state not in {
                "COMPLETED",
                "CANCELLED",
                "FAILED",
                "TIMEOUT",
                "NODE_FAIL",
                "OUT_OF_MEMORY",
                "BOOT_FAIL",
                "DEADLINE",
            }:
                found.add(job)
        return found

    def _why(self, job: str) -> str:
        """Why a job has ended, as far as Slurm or its output tells."""
        state = ""
        with suppress(TametailError):
            answer = _call(
                "sacct", "--noheader", "--parsable2", "--allocations", "--format=State", "--jobs", job
            )
            state = answer.strip().splitlines()[-1].partition("|")[0] if answer.strip() else ""
        if state == "COMPLETED":
            return ""
        last = _last_line(self._log(job))
        known = f" as {state}" if state else ""
        return f"job {job} ended{known}{f': {last}' if last else ''}"

    def _log(self, job: str) -> Path:
        number, _, task = job.partition("_")
        for entry in read_ledger(self._work.folder):
            if str(entry["array"]) == number:
                return self._work.folder / str(entry["log"]).replace("%a", task)
        return self._work.folder / "none"


def check_settings(settings: Mapping[str, str]) -> None:
    """Check the settings of the engine before any long work.

    Raises:
        UsageError: Slurm is not installed, or an invalid setting.
    """
    missing = [name for name in ("sbatch", "squeue", "scancel") if shutil.which(name) is None]
    if missing:
        raise UsageError(
            f"expected Slurm on this machine for --engine slurm, but {', '.join(missing)} cannot be found; start the command "
            f"on a login node of the cluster, or use --engine local"
        )
    for key, value in settings.items():
        if key in _FIXED or not key.replace("-", "").isalnum() or "\n" in value:
            raise UsageError(
                f"expected options of sbatch by their long names, other than {', '.join(sorted(_FIXED))}, with --engine-set, "
                f"got {key!r}"
            )
    for key in _OURS & set(settings):
        if not settings[key].isdigit() or int(settings[key]) < 1:
            raise UsageError(
                f"expected --engine-set {key}=N with a whole number of at least 1, got {settings[key]!r}"
            )


def read_ledger(folder: Path) -> list[dict[str, Any]]:
    """What was submitted, oldest first; damaged lines are left out, as their jobs are at worst submitted again."""
    with suppress(OSError):
        return [entry for entry in read_lines(folder / LEDGER, skip_damaged=True) if _is_submission(entry)]
    return []


def _is_submission(entry: Mapping[str, Any]) -> bool:
    parts = entry.get("units")
    return (
        isinstance(entry.get("array"), int)
        and isinstance(parts, list)
        and all(isinstance(part, list) for part in parts)
    )


def _call(*words: str) -> str:
    """The output of a command of Slurm.

    Raises:
        TametailError: it failed, or did not answer.
    """
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=True)
    except subprocess.CalledProcessError as error:
        raise TametailError(f"{words[0]} failed: {error.stderr.strip() or error.stdout.strip()}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TametailError(f"{words[0]} cannot be run: {error}") from error
    return done.stdout


def _last_line(path: Path) -> str:
    """The last line of a job's output."""
    try:
        with regular(path).open("rb") as handle:
            handle.seek(max(path.stat().st_size - _LOG_BYTES, 0))
            lines = handle.read(_LOG_BYTES).decode("utf-8", errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1].strip()[:300] if lines else ""
