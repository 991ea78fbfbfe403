"""Units as tasks of a Ray cluster that is there already; one is never started, as it would listen on all interfaces."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from tametail.core.errors import TametailError, UsageError
from tametail.core.interruption import Interrupted
from tametail.engines.engine import POLL_SECONDS, Ended, Work

ADDRESS = "address"
_RESOURCES = ("num_cpus", "num_gpus", "memory")
_STOP_SECONDS = 120.0


class RayEngine:
    """Tasks of an existing Ray cluster.

    Args:
        work: what they run.
        settings: ``address`` of the cluster, and ``num_cpus``, ``num_gpus`` and ``memory`` of a unit.
        jobs: number of tasks that run at a time; None for as many as the cluster has room for.

    Raises:
        UsageError: Ray is not installed, or an invalid setting.
        TametailError: the cluster cannot be reached.
    """

    def __init__(self, work: Work, settings: Mapping[str, str], jobs: int | None) -> None:
        resources = check_settings(settings)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        address = settings.get(ADDRESS) or os.environ["RAY_ADDRESS"]
        try:
            ray.init(address=address, log_to_driver=False, configure_logging=False)
        except Exception as error:
            raise TametailError(
                f"expected a Ray cluster at {address}, but it cannot be reached: {error}; start one with ray start, or name its "
                f"address with --engine-set address=HOST:PORT"
            ) from error
        self._ray, self._jobs = ray, jobs
        wanted = {"num_cpus": float(work.threads), "num_gpus": float(work.gpu), **resources}
        # A worker that dies is replaced by run_units, which sees whether its unit was done.
        self._task = ray.remote(**wanted, max_retries=0)(_do)
        self._work = work
        self._waiting: list[int] = []
        self._running: dict[Any, int] = {}

    @property
    def description(self) -> str:
        return f"tasks of Ray on {len(self._ray.nodes())} nodes"

    def start(self, units: Sequence[int]) -> None:
        self._waiting += units
        self._fill()

    def poll(self) -> list[Ended]:
        found = []
        if self._running:
            ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=POLL_SECONDS)
            found = [self._ended(reference) for reference in ready]
        else:
            time.sleep(POLL_SECONDS)
        self._fill()
        return found

    def stop(self) -> None:
        self._waiting.clear()
        for reference in self._running:
            self._ray.cancel(reference)  # raises KeyboardInterrupt in the task, which saves
        if self._running:
            self._ray.wait(list(self._running), num_returns=len(self._running), timeout=_STOP_SECONDS)
        self._running.clear()
        self._ray.shutdown()

    def _fill(self) -> None:
        while self._waiting and (self._jobs is None or len(self._running) < self._jobs):
            unit = self._waiting.pop(0)
            self._running[self._task.remote(self._work.call, unit, self._work.threads)] = unit

    def _ended(self, reference: Any) -> Ended:
        unit = self._running.pop(reference)
        try:
            self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause
            fatal = isinstance(cause, TametailError) and not isinstance(cause, Interrupted)
            return Ended(unit, str(cause), fatal=fatal)
        except self._ray.exceptions.RayError as error:
            return Ended(unit, f"its worker was lost ({type(error).__name__})")
        return Ended(unit)


def check_settings(settings: Mapping[str, str]) -> dict[str, float]:
    """Check the settings of the engine before any long work, and return the resources of a unit.

    Raises:
        UsageError: Ray is not installed, or an invalid setting.
    """
    if find_spec("ray") is None:
        raise UsageError("expected Ray to be installed for --engine ray: pip install 'tametail[ray]'")
    unknown = set(settings) - {ADDRESS, *_RESOURCES}
    if unknown:
        raise UsageError(
            f"expected --engine-set with {ADDRESS}, {', '.join(_RESOURCES)} for --engine ray, got {', '.join(sorted(unknown))}"
        )
    if not settings.get(ADDRESS) and not os.environ.get("RAY_ADDRESS"):
        raise UsageError(
            "expected the address of a Ray cluster with --engine-set address=HOST:PORT or in RAY_ADDRESS: tametail joins a cluster "
            "and never starts one, as it would listen on all interfaces"
        )
    try:
        return {key: float(settings[key]) for key in _RESOURCES if key in settings}
    except ValueError as error:
        raise UsageError(
            f"expected numbers for the resources of a unit with --engine-set, got {error}"
        ) from None


def _do(call: Any, unit: int, threads: int) -> None:
    """A task: it sets up the threads before torch is imported."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    call([unit])
