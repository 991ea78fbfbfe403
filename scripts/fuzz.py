"""Give damaged and hostile tables, images and studies to tametail, and require named errors.

    python scripts/fuzz.py [--tables 5000] [--images 3000] [--commands 100] [--seed 0]    (make fuzz)

Tables and images go through the functions that load them, in one process; a part of them, and damaged copies of a study,
through the commands. Required are named errors (exit codes 0 to 3, never "unexpected"), at most 10 s and 1 GB for each, no
import of a module that a file names, and no change of any file but the outputs. Exits 1 otherwise. Needs POSIX.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import logging
import os
import random
import resource
import shutil
import signal
import socket
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # before numpy and torch are imported
    os.environ[_name] = "1"
sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "tests"), str(Path(__file__).resolve().parent)]

import numpy as np  # noqa: E402
import prove_kill  # noqa: E402

MOST_SECONDS, MOST_BYTES = 10.0, 2**30
ONE_HOT = "-one-hot"  # in the names of tables with a column for each class
EVIL = "evil.module:Loss"  # a module in the current folder that leaves a mark when it is imported
STRANGE: list[object] = [
    None, True, -1, 0, 1e308, 10**30, float("nan"), "", " ", "\u202e", "x" * 100_000, [], {}, [[]], {"a": {}}, "../../etc", "/dev/zero",
    EVIL, "=1+1", [None] * 1000, "ce+" * 500, "a\nb",
]  # fmt: skip
COMMANDS = (
    ["report", "study"],
    ["resume", "study"],
    ["test-set", "study"],
    ["predict", "study", "{data}/images/000.png", "-o", "out.csv"],
    ["evaluate", "study", "--data", "{other}/labels.csv", "-o", "evaluated"],
    ["rank", "study", "{study}", "-o", "ranks"],
    ["share", "study", "copy"],
)


@dataclass
class Found:
    """What went wrong, and what was measured."""

    wrong: list[str] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    largest: int = 0

    def note(self, name: str, seconds: float, peak: int) -> None:
        self.slowest, self.largest = max(self.slowest, seconds), max(self.largest, peak)
        if seconds > MOST_SECONDS:
            self.wrong.append(f"{name}: {seconds:.1f} s")
        if peak > MOST_BYTES:
            self.wrong.append(f"{name}: {peak / 2**20:,.0f} MB")

    def __str__(self) -> str:
        listed = ", ".join(f"{count} {name}" for name, count in self.errors.most_common())
        return f"{listed}; slowest {self.slowest:.1f} s, most memory {self.largest / 2**20:,.0f} MB; {len(self.wrong)} wrong"


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Bytes with a few random changes: flipped, cut, repeated, exchanged for a strange value."""
    content = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        at, length = rng.randrange(len(content) + 1), rng.choice([1, 2, 8, 64, 1000])
        match rng.randrange(7):
            case 0:
                del content[at:]
            case 1:
                del content[at : at + length]
            case 2:
                content[at:at] = rng.randbytes(length)
            case 3:
                content[at:at] = content[max(at - length, 0) : at] * rng.choice([1, 3, 50])
            case 4 if content:
                content[at % len(content)] ^= 1 << rng.randrange(8)
            case 5:
                content[at : at + length] = rng.choice(
                    [b"\0", b"\xff", b",", b'"', b"\n", b"nan", b"-1", b"999999999999"]
                )
            case _:
                content[at : at + length] = str(rng.choice(STRANGE))[:2000].encode("utf-8", "replace")
    return bytes(content)


def strange_json(value: object, rng: random.Random) -> object:
    """The value with something strange in a random place, missing or additional."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        match rng.randrange(8):
            case 0:
                return {name: inner for name, inner in value.items() if name != key}
            case 1:
                return value | {str(rng.choice(STRANGE))[:50]: rng.choice(STRANGE)}
            case _:
                return value | {key: strange_json(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = rng.randrange(len(value))
        return [*value[:at], strange_json(value[at], rng), *value[at + 1 :]]
    return rng.choice(STRANGE)


@contextmanager
def limited(found: Found, name: str) -> Iterator[None]:
    """Measure a block, and end it if it does not end itself."""

    def stop(*_: object) -> None:
        raise TimeoutError("it did not end")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(int(3 * MOST_SECONDS))
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        yield
    finally:
        signal.alarm(0)
        more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        found.note(name, time.monotonic() - began, 1024 * more)


def load_all(files: list[Path], load: Callable[[Path], object], kept: Path) -> Found:
    """Load files in this process."""
    from tametail.core.errors import TametailError

    found = Found()
    for number, path in enumerate(files):
        try:
            with limited(found, path.parent.name), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                load(path)
            found.errors["read"] += 1
        except TametailError as error:
            found.errors[type(error).__name__] += 1
            if "an unexpected" in str(error):
                found.wrong.append(f"{path.name}: {error}")
        except BaseException as error:  # noqa: BLE001 - this is what is looked for
            found.wrong.append(f"{path.parent.name}: {type(error).__name__}: {str(error)[:300]}")
            shutil.copy(path, kept / f"{path.parent.name}-{path.name}")
        if number % 500 == 499:
            print(f"  {number + 1}: {found}", flush=True)
    return found


def table_samples(folder: Path) -> list[tuple[str, bytes]]:
    """Whole tables of every kind, by their suffix."""
    import pandas as pd

    rows = [
        (f"images/{number:03d}.png", "abc"[number % 3], f"g{number // 2}", "train") for number in range(12)
    ]
    frame = pd.DataFrame(rows, columns=["image", "label", "group", "split"])
    one_hot = pd.concat([frame[["image"]], pd.get_dummies(frame["label"], dtype=int)], axis=1)
    samples = []
    for kind, table in (("", frame), (ONE_HOT, one_hot)):
        text = table.to_csv(index=False)
        tabs = table.to_csv(index=False, sep="\t")
        samples += [(f"{kind}.csv", text.encode()), (f"{kind}.tsv", tabs.encode())]
        samples += [(f"{kind}.csv", text.encode("utf-16")), (f"{kind}.csv", text.replace(",", ";").encode())]
        samples += [(f"{kind}.jsonl", table.to_json(orient="records", lines=True).encode())]
        for suffix, write in ((".parquet", table.to_parquet), (".xlsx", table.to_excel)):
            write(folder / f"t{suffix}", index=False)
            samples.append((f"{kind}{suffix}", (folder / f"t{suffix}").read_bytes()))
    arrays = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = np.zeros((6, 28, 28), np.uint8)
        arrays[f"{split}_labels"] = np.arange(6, dtype=np.uint8)[:, None] % 2
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    return [*samples, (".npz", packed.getvalue())]


def options_of(path: Path, root: Path) -> dict[str, object]:
    """How a table is read: its images are below ``root``."""
    if path.suffix == ".npz":
        return {}
    return {"image_root": root} | ({"label_cols": ("a", "b", "c")} if path.stem.endswith(ONE_HOT) else {})


def inspect(path: Path, root: Path) -> list[str]:
    """The same as a command."""
    words = ["inspect", str(path)]
    if "image_root" in (options := options_of(path, root)):
        words += ["--image-root", str(root)]
    return words + (["--label-cols", "a,b,c"] if "label_cols" in options else [])


def image_samples() -> list[tuple[str, bytes]]:
    """Whole images of every kind, by their suffix."""
    from PIL import Image

    from fixtures.hostile_samples import NOISE, UINT16, encoded

    samples = [
        (f".{kind.lower()}", encoded(kind)) for kind in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
    ]
    samples += [
        (".png", encoded("PNG", Image.fromarray(UINT16))),
        (".jpg", encoded("JPEG", progressive=True)),
    ]
    samples += [(".png", encoded("PNG", Image.fromarray(NOISE[..., 0])))]
    folder = Path(import_module("pydicom").__file__ or "").parent / "data/test_files"
    names = ("CT_small", "JPEG2000", "MR_small_RLE", "SC_rgb_jpeg", "MR_small_jpeg_ls_lossless")
    return samples + [(".dcm", (folder / f"{name}.dcm").read_bytes()) for name in names]


def write_damaged(
    folder: Path, samples: list[tuple[str, bytes]], count: int, rng: random.Random
) -> list[Path]:
    """Write damaged files, each into a folder of its own."""
    files = []
    for number in range(count):
        suffix, data = rng.choice(samples)
        own = folder / f"{number:05d}"
        own.mkdir(parents=True)
        files.append(own / f"t{suffix}")
        files[-1].write_bytes(damaged(data, rng))
    return files


def damage_study(study: Path, rng: random.Random) -> str:
    """Damage a file of a study; what was done."""
    files = sorted(path for path in study.rglob("*") if path.is_file() and path.name != ".lock")
    top = [
        path
        for path in files
        if path.parent == study and path.suffix in {".json", ".csv", ".parquet", ".jsonl"}
    ]
    path = rng.choice(top if rng.random() < 0.6 else files)
    name = str(path.relative_to(study))
    kind = rng.randrange(10)
    if path.suffix == ".json" and kind < 7:
        path.write_text(json.dumps(strange_json(json.loads(path.read_text()), rng)))
        return f"{name}: strange JSON"
    if kind < 5:
        path.write_bytes(damaged(path.read_bytes(), rng))
        return f"{name}: damaged"
    if kind == 5:
        other = rng.choice(files)
        shutil.copy(other, path) if other != path else path.unlink()
        return f"{name}: replaced by {other.relative_to(study)}"
    path.unlink()
    if kind == 6:
        path.mkdir()
        return f"{name}: a folder"
    if kind == 7:
        os.mkfifo(path)
        return f"{name}: a pipe"
    if kind == 8:
        path.symlink_to(rng.choice([path.name, "..", "/dev/zero", "/etc/passwd"]))
        return f"{name}: a link to {path.readlink()}"
    with suppress(OSError), socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
    return f"{name}: a socket, or nothing"


def in_process(words: list[str], folder: Path) -> tuple[int, float, int, str]:
    """Run a command in a process of its own; exit code, seconds, peak bytes above what it began with, and what it said."""
    said = folder / "said"
    said.unlink(missing_ok=True)
    job = prove_kill.Job(words, 0)
    began = time.monotonic()
    process = prove_kill.start(job, folder, folder)
    base, peak = memory(process), 0
    while (code := prove_kill.ended(process)) is None:
        peak = max(peak, memory(process) - base)
        if time.monotonic() - began > 6 * MOST_SECONDS:
            os.killpg(process, signal.SIGKILL)
        time.sleep(0.005)
    return code, time.monotonic() - began, peak, said.read_text(errors="replace") if said.exists() else ""


def memory(process: int) -> int:
    """Bytes in use by a process, 0 if it has ended."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def listing(folder: Path) -> dict[str, str]:
    """Digest of each file, by its path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def check(found: Found, name: str, ended: tuple[int, float, int, str]) -> None:
    code, seconds, peak, said = ended
    found.note(name, seconds, peak)
    found.errors[f"exit {code}"] += 1
    if code not in {0, 1, 2, 3} or "unexpected" in said or "Traceback" in said:
        found.wrong.append(f"{name}: exit {code}: {' '.join(said.split())[-400:]}")


def through_commands(work: Path, count: int, rng: random.Random) -> Found:
    """Tables, images and studies through the commands."""
    from fixtures.tiny_study import write_images

    found, safe = Found(), work / "safe"
    write_images(safe / "data")
    write_images(safe / "other", seed=1)
    (work / "evil").mkdir()
    (work / "evil/__init__.py").write_text(f"open({str(work / 'imported')!r}, 'w').close()\n")
    (work / "evil/module.py").write_text("Loss = None\n")
    table = str(safe / "data/labels.csv")
    compare = ["compare", table, *prove_kill.HEAD, "--methods", "ce,alpa,ce+la", "-o", "study"]
    code, _, _, said = in_process(compare, work)
    if code:
        raise RuntimeError(said)
    shutil.move(work / "study", safe / "study")
    before = listing(safe)
    places = {"data": safe / "data", "other": safe / "other", "study": safe / "study"}
    for number, path in enumerate(write_damaged(work / "t", table_samples(work), count, rng)):
        check(found, f"inspect table {number}", in_process(inspect(path, safe / "data"), work))
    for path in write_damaged(work / "i", image_samples(), count, rng):
        words = ["predict", str(safe / "study"), str(path), "-o", "out.csv"]
        check(found, f"predict {path.parent.name}", in_process(words, work))
    print(f"  tables and images: {found}", flush=True)
    for number in range(count):
        shutil.copytree(safe / "study", work / "study", symlinks=True)
        done = "; ".join(damage_study(work / "study", rng) for _ in range(rng.choice([1, 1, 1, 2])))
        for words in [COMMANDS[number % len(COMMANDS)], COMMANDS[(number + 3) % len(COMMANDS)]]:
            given = [word.format(**places) for word in words]
            check(found, f"{words[0]} of a study with {done}", in_process(given, work))
        for name in ("study", "evaluated", "ranks", "copy"):
            shutil.rmtree(work / name, ignore_errors=True)
        if number % 20 == 19:
            print(f"  {number + 1} studies: {found}", flush=True)
    if listing(safe) != before:
        found.wrong.append("files outside the study were changed")
    if (work / "imported").exists():
        found.wrong.append("a module that a file names was imported")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("tables", 5000), ("images", 3000), ("commands", 100), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    prove_kill.import_all()
    from tametail.data import read_images
    from tametail.data.decoding.decode import decode_image

    rng, began = random.Random(options.seed), time.monotonic()
    logging.getLogger("tametail").setLevel(logging.ERROR)
    kept = Path(tempfile.mkdtemp(prefix="fuzz-"))
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        os.environ["TAMETAIL_CACHE"] = str(work / "cache")
        # Commands first: the process that they are forked from has computed nothing yet.
        every = {"commands": through_commands(work, options.commands, rng)}
        tables = write_damaged(work / "tables", table_samples(work), options.tables, rng)
        root = work / "safe/data"
        every["tables"] = load_all(tables, lambda path: read_images(path, **options_of(path, root)), kept)
        images = write_damaged(work / "images", image_samples(), options.images, rng)
        every["images"] = load_all(images, lambda path: decode_image(path, 32), kept)
    for name, found in every.items():
        for line in found.wrong:
            print(f"{name}: {line}")
        print(f"{name}: {found}")
    wrong = sum(len(found.wrong) for found in every.values())
    print(
        f"{(time.monotonic() - began) / 60:.0f} min; {wrong} wrong" + (f"; files in {kept}" if wrong else "")
    )
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
