"""tametail launch: several processes of this machine work on one study."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import uuid
from typing import TYPE_CHECKING

import typer

from tametail.cli.command import RESUMABLE, command
from tametail.core.console import Console
from tametail.core.errors import UsageError
from tametail.core.interruption import exit_code
from tametail.core.option import declared
from tametail.core.options import LaunchOptions

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

_COMMANDS = ("compare", "resume")
_SAVING = 600  # seconds for processes to save after a signal; a second signal ends them at once
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


@command(
    LaunchOptions,
    arguments=("words",),
    example="tametail launch --processes 4 compare skin/ --recipe modern -o runs/skin",
    interrupted=RESUMABLE,
)
def launch(_: Console, /, words: list[str], processes: int | None) -> None:
    """Run compare or resume in several processes of this machine, which work together on each run.

    Options of launch come before the command, those of the command after it. Use torchrun for several machines.
    """
    if words[0] not in _COMMANDS:
        raise UsageError(
            f"expected {' or '.join(_COMMANDS)} after the options of launch, got {words[0]!r}; other commands run in one process"
        )
    processes = declared(LaunchOptions)["processes"].check(processes)
    code = _run_processes(_gpus() if processes is None else processes, words)
    if code:
        raise typer.Exit(code)


# Everything after the first word belongs to the command.
launch.context_settings = {"allow_interspersed_args": False}  # type: ignore[attr-defined]


def _gpus() -> int:
    import torch

    found = torch.cuda.device_count()
    if not found:
        raise UsageError("expected --processes on a machine without a CUDA GPU, got none; give their number")
    return found


def _run_processes(number: int, words: list[str]) -> int:
    """Run a command of tametail in several processes.

    Returns:
        The exit code: that of the process that failed, or 128 + signal.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from tametail.engines.local import usable_cores

    logging.disable(logging.CRITICAL)  # its log says in many lines what is printed in one
    os.environ.setdefault("OMP_NUM_THREADS", str(max(usable_cores() // number, 1)))
    # A signal that this process was started to ignore (nohup) stays ignored.
    handled = [name for name in _SIGNALS if _is_handled(name)]
    with tempfile.TemporaryDirectory(prefix="tametail-launch-") as logs:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=number,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            rdzv_configs={"is_host": True},
            local_addr="127.0.0.1",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=logs),
            signals_to_handle=",".join(handled),
            shutdown_timeout=_SAVING,
        )
        try:
            # -P: no modules from the working directory, as with the tametail command.
            elastic_launch(config, sys.executable)("-P", "-m", "tametail", *words)
        except SignalException as error:
            return exit_code(error.sigval)
        except ChildFailedError as error:
            return _explain(error.failures)
    return 0


def _is_handled(name: str) -> bool:
    number = getattr(signal, name, None)
    return number is not None and signal.getsignal(number) is not signal.SIG_IGN


def _explain(failures: dict[int, ProcessFailure]) -> int:
    """The exit code of the process that failed first; prints the signal that has ended it."""
    by_time = sorted(failures.items(), key=lambda each: each[1].timestamp)
    # Processes that end because of another end with SIGTERM or 1.
    rank, first = min(by_time, key=lambda each: each[1].exitcode in {-signal.SIGTERM, 1, 143})
    if first.exitcode >= 0:
        return first.exitcode
    name = signal.Signals(-first.exitcode).name
    typer.echo(
        f"Error: the process of rank {rank} was ended by {name}; repeat the command to resume", err=True
    )
    return exit_code(-first.exitcode)
