"""Which engine options ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tametail.core.errors import UsageError
from tametail.core.ranks import process_count
from tametail.engines import ray, slurm
from tametail.engines.engine import Engine, Work
from tametail.engines.local import LocalEngine, usable_cores

LOCAL, SLURM, RAY, PLAN = "local", "slurm", "ray", "plan"


@dataclass(frozen=True)
class EngineChoice:
    """An engine and its settings, checked.

    Attributes:
        name: ``local``, ``slurm``, ``ray``, ``plan`` (nothing is run), or empty for this process.
        slots: of ``local``: the GPU of each process, or None.
        jobs: of the others: number of jobs at a time, or None.
        settings: of the engine.
    """

    name: str = ""
    slots: tuple[str | None, ...] = ()
    jobs: int | None = None
    settings: Mapping[str, str] | None = None

    @property
    def here(self) -> bool:
        """Whether everything runs in this process."""
        return not self.name

    @property
    def cores(self) -> int | None:
        """CPU cores of each process of this machine, for work whose results do not depend on them; None for other engines."""
        return max(usable_cores() // len(self.slots), 1) if self.slots else None

    def make(self, work: Work) -> Engine:
        """The engine; not for ``plan``."""
        if self.name == SLURM:
            return slurm.SlurmEngine(work, self.settings or {}, self.jobs)
        if self.name == RAY:
            return ray.RayEngine(work, self.settings or {}, self.jobs)
        return LocalEngine(work, self.slots)


HERE = EngineChoice()


def choose_engine(options: Mapping[str, object], *, gpus: int = 0, threads: int = 1) -> EngineChoice:
    """The engine that `EngineOptions` ask for.

    Args:
        options: with engine, jobs, devices and engine_set.
        gpus: number of GPUs of this machine that may be used.
        threads: CPU threads of a process.

    Raises:
        UsageError: an invalid choice, or an engine that is not installed.
    """
    name, jobs = options["engine"], options["jobs"]
    devices, given = list(options["devices"] or ()), list(options["engine_set"] or ())  # type: ignore[call-overload]
    settings = {}
    for pair in given:
        key, equals, value = str(pair).partition("=")
        if not equals or not key:
            raise UsageError(f"expected --engine-set KEY=VALUE, got {pair!r}")
        settings[key.strip().replace("_", "-") if name == SLURM else key.strip()] = value.strip()
    several_processes = process_count() > 1
    if several_processes and (name or jobs or devices):
        raise UsageError(
            "expected no --engine, --jobs or --devices under a launcher such as torchrun; leave them out"
        )
    if name in (None, LOCAL):
        if settings:
            raise UsageError("expected --engine slurm or --engine ray with --engine-set, got neither")
        if several_processes:
            return HERE
        if not devices and gpus > 1 and not (name is None and jobs == 1):
            devices = [str(at) for at in range(gpus)]
        default = len(devices) or (max(usable_cores() // threads, 1) if name else 1)
        assert jobs is None or isinstance(jobs, int)
        count = default if jobs is None else jobs
        if count == 1 and not devices:
            return HERE
        return EngineChoice(
            LOCAL, tuple(devices[at % len(devices)] if devices else None for at in range(count))
        )
    if devices:
        raise UsageError(f"expected --devices with --engine local only, got --engine {name}")
    if name == SLURM:
        slurm.check_settings(settings)
    elif name == RAY:
        ray.check_settings(settings)
    elif settings:
        raise UsageError(f"expected no --engine-set with --engine {name}")
    assert jobs is None or isinstance(jobs, int)
    return EngineChoice(str(name), (), jobs, settings)
