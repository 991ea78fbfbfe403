"""Throw-away clusters on this machine, for proofs: a two-node Slurm on loopback, and a two-node Ray in a network of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RAY_PYTHON = ROOT / ".venv-engines" / "bin" / "python"
RAY_ADDRESS = "127.0.0.1:26379"
SLURM = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scontrol", "sinfo")
PARTITION = "proof"
_SECONDS = 30.0


class NotAvailable(Exception):
    """A cluster cannot be started here; the text says why."""


@contextmanager
def slurm_cluster(folder: Path) -> Iterator[None]:
    """Two nodes of two cores each, for root; commands of Slurm in this process and its children find them.

    Raises:
        NotAvailable: Slurm is not installed, this is not root, or it does not start.
    """
    missing = [name for name in SLURM if shutil.which(name) is None]
    if missing:
        raise NotAvailable(
            f"{', '.join(missing)} cannot be found (sh scripts/setup_engines.sh installs Slurm)"
        )
    if os.geteuid():
        raise NotAvailable("Slurm starts as root only")
    for part in ("state", "log", "run", "spool/n1", "spool/n2"):
        (folder / part).mkdir(parents=True)
    folder.chmod(0o755)
    for opened in (folder.parent, folder / "run", folder / "log"):
        opened.chmod(0o755)
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    config = folder / "slurm.conf"
    config.write_text(
        _slurm_config(folder, socket.gethostname().split(".")[0], _free_ports(3)), encoding="utf-8"
    )
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(config)
    try:
        options = {
            "key-file": key,
            "socket": folder / "run/munge.sock",
            "pid-file": folder / "run/munged.pid",
        }
        options |= {"log-file": folder / "log/munged.log", "seed-file": folder / "run/munged.seed"}
        _start(["munged", *(f"--{name}={path}" for name, path in options.items())])
        _start(["slurmctld"])
        for node in ("n1", "n2"):
            _start(["slurmd", "-N", node])
        end = time.monotonic() + _SECONDS
        while _output("sinfo", "-h", "-N", "-o", "%t").split() != ["idle", "idle"]:
            if time.monotonic() > end:
                raise NotAvailable("Slurm does not start; its logs end with: " + _last_lines(folder / "log"))
            time.sleep(0.1)
        yield
    finally:
        _output("scancel", "-u", "root")
        for name in ("slurmd-n1", "slurmd-n2", "slurmctld", "munged"):
            _end(folder / "run" / f"{name}.pid")
        os.environ.pop("SLURM_CONF")
        if before is not None:
            os.environ["SLURM_CONF"] = before


def _free_ports(count: int) -> int:
    """The first of some ports in a row that nobody uses."""
    for first in range(17_170, 30_000, count):
        with suppress(OSError):
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("", port))
            return first
    raise NotAvailable("no ports are free")


def _slurm_config(folder: Path, host: str, port: int) -> str:
    # A credential expires after 5 s, so that a requeued job starts soon; jobs may save for 20 s before they are killed.
    return f"""\
ClusterName=proof
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.sock,cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0,requeue_delay=1
MpiDefault=none
ReturnToService=2
SwitchType=switch/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
JobAcctGatherType=jobacct_gather/none
JobRequeue=1
KillWait=20
SlurmdTimeout=10
InactiveLimit=0
PropagateResourceLimitsExcept=MEMLOCK
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port + 1} CPUs=2 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={port + 2} CPUs=2 State=UNKNOWN
PartitionName={PARTITION} Nodes=n1,n2 Default=YES MaxTime=60 State=UP
"""


def in_ray_namespace(script: Sequence[str]) -> int:
    """Run a Python script in a network and process namespace of its own, in which `start_ray` may listen; its exit code.

    Raises:
        NotAvailable: Ray is not installed, or there are no namespaces.
    """
    if not RAY_PYTHON.exists():
        raise NotAvailable("Ray is not installed (sh scripts/setup_engines.sh installs it)")
    shell = 'ip link set lo up 2>/dev/null || ifconfig lo up; exec "$@"'
    words = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", shell, "_"]
    if subprocess.run([*words[:6], "true"], capture_output=True).returncode:
        raise NotAvailable("network namespaces cannot be made here")
    return subprocess.run([*words, str(RAY_PYTHON), *script]).returncode


def start_ray(folder: Path) -> None:
    """Start two nodes of one core in this namespace; they end with it.

    Args:
        folder: with a short path, as names of sockets are limited.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "token").write_text(secrets.token_hex(32), encoding="utf-8")
    (folder / "token").chmod(0o600)
    os.environ |= {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
    }
    ray = str(RAY_PYTHON.with_name("ray"))
    common = [
        "--node-ip-address=127.0.0.1",
        "--num-cpus=1",
        "--num-gpus=0",
        "--object-store-memory=100000000",
    ]
    head = [
        "--head",
        f"--port={RAY_ADDRESS.partition(':')[2]}",
        "--include-dashboard=false",
        f"--temp-dir={folder}",
    ]
    for node in (head, [f"--address={RAY_ADDRESS}"]):
        _start([ray, "start", *node, *common, "--disable-usage-stats"])


def _start(words: list[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise NotAvailable(f"{' '.join(words[:3])} failed: {(done.stderr or done.stdout).strip()[-500:]}")


def _output(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, timeout=60).stdout


def _end(pid_file: Path) -> None:
    """End a daemon that was started here, by the number that it wrote."""
    with suppress(OSError, ValueError):
        number = int(pid_file.read_text())
        os.kill(number, signal.SIGTERM)
        end = time.monotonic() + _SECONDS
        while time.monotonic() < end and _is_running(number):
            time.sleep(0.1)
        if _is_running(number):
            os.kill(number, signal.SIGKILL)


def _is_running(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _last_lines(folder: Path) -> str:
    return " | ".join(path.read_text(errors="replace")[-300:] for path in sorted(folder.glob("*.log")))


if __name__ == "__main__":
    sys.exit("This module is for other scripts.")
