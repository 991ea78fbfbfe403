"""Damage folders of studies, searches, recommendations and evaluations, and require a result or a named error of whatever reads them.

    python scripts/prove_damage.py [--folders 2000] [--seed 0] [--only study,search] [--case 17]    (make prove-damage)

First each field of each JSON file is removed, and set to null. Then each folder is a copy of a whole one with one to three changes: bytes flipped, cut or inserted; JSON fields removed, renamed, of other
types, huge or deeply nested; columns, rows and metadata of Parquet files and arrays of .npz files changed, with valid checksums; files
exchanged, or replaced by folders, pipes, sockets and links. The functions that read it are called in this process. Required are a
result or a `TametailError`, within 10 s of the processor and 1 GB. Exits 1 otherwise. ``--case`` repeats one folder, with tracebacks. Needs POSIX.
"""

from __future__ import annotations

import argparse
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
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # before numpy and torch are imported
    os.environ[_name] = "1"
sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "tests"), str(Path(__file__).resolve().parent)]

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from fuzz import Found, damaged, strange_json  # noqa: E402

MOST_WAIT = 120  # seconds
FIELDS = {  # files of which each field is damaged
    "study": ("study.json", "runs/ce/seed0-fold0/run.json", "calibration.json", "report.json", "source.json"),
    "search": ("search.json",),
    "unfinished": (),
    "recommendation": ("settings.json", "recommend.json"),
    "evaluation": ("evaluation.json",),
}
HUGE: list[object] = [10**400, -(10**30), 2**63, 1e308, float("inf"), "9" * 5000, ["x"] * 100_000]
Use = Callable[[Path], object]


def deep(levels: int) -> str:
    """JSON of many levels."""
    return "[" * levels + "]" * levels


def change_json(path: Path, rng: random.Random) -> str:
    """Another valid JSON, or one that is too deep."""
    lines = (
        path.read_text(encoding="utf-8").splitlines()
        if path.suffix == ".jsonl"
        else [path.read_text(encoding="utf-8")]
    )
    at = rng.randrange(len(lines))
    if rng.random() < 0.1:
        lines[at] = deep(rng.choice([60, 900, 100_000]))
        what = "nested"
    elif rng.random() < 0.15:
        value = json.loads(lines[at])
        keys = sorted(value) if isinstance(value, dict) else []
        if keys:
            value[rng.choice(keys)] = rng.choice(HUGE)
        lines[at], what = json.dumps(value), "huge"
    else:
        lines[at], what = json.dumps(strange_json(json.loads(lines[at]), rng)), "strange"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"{what} JSON"


def change_parquet(path: Path, rng: random.Random) -> str:
    """Another valid table, with valid checksums."""
    table = pq.read_table(path)
    name, rows = rng.choice(table.column_names), table.num_rows
    at = table.column_names.index(name)
    kind = rng.randrange(9)
    metadata = dict(table.schema.metadata or {})
    if kind == 0 and metadata:
        key = rng.choice(sorted(metadata))
        metadata[key] = json.dumps(strange_json(json.loads(metadata[key]), rng)).encode()
        table, what = table.replace_schema_metadata(metadata), f"metadata {key!r}"
    elif kind == 1 and metadata:
        metadata[rng.choice(sorted(metadata))] = rng.choice([b"", b"[]", b"\xff", deep(2000).encode()])
        table, what = table.replace_schema_metadata(metadata), "metadata"
    elif kind == 2:
        table, what = table.drop_columns([name]), f"without {name}"
    elif kind == 3:
        table, what = table.slice(0, rng.choice([0, 1, rows - 1])), "fewer rows"
    elif kind == 4:
        table, what = pa.concat_tables([table, table.slice(0, rng.choice([1, rows]))]), "rows twice"
    elif kind == 5:
        values = pa.array(
            rng.choice([[None] * rows, [float("nan")] * rows, [1e300] * rows, [-1] * rows, [2**62] * rows])
        )
        table, what = table.set_column(at, name, values), f"{name} of other numbers"
    elif kind == 6:
        values = pa.array(
            rng.choice(
                [
                    ["x"] * rows,
                    [""] * rows,
                    [b"\xff\xfe"] * rows,
                    [[1]] * rows,
                    [{"a": 1}] * rows,
                    [True] * rows,
                ]
            )
        )
        table, what = table.set_column(at, name, values), f"{name} of another type"
    elif kind == 7:
        order = list(range(rows))
        rng.shuffle(order)
        table, what = table.set_column(at, name, table[name].take(order)), f"{name} in another order"
    else:
        table, what = (
            table.rename_columns([f"{each}{'x' * (each == name)}" for each in table.column_names]),
            f"{name} renamed",
        )
    pq.write_table(table, path, write_page_checksum=True)
    return what


def change_arrays(path: Path, rng: random.Random) -> str:
    """Another valid .npz."""
    with np.load(path) as file:
        arrays = dict(file)
    name = rng.choice(sorted(arrays))
    array = arrays[name]
    arrays[name] = rng.choice(
        [
            array[:0] if array.ndim else array,
            array.astype("U8"),
            np.zeros(3),
            array[None],
            array * 0 if array.dtype.kind == "f" else array,
        ]
    )
    if rng.random() < 0.2:
        del arrays[name]
    np.savez(path, **arrays)
    return f"array {name}"


def damage(folder: Path, rng: random.Random) -> str:
    """Damage a file of a folder; what was done."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.endswith(".lock")]
    read = [
        path for path in files if path.suffix in {".json", ".jsonl", ".parquet", ".csv", ".npz", ".journal"}
    ]
    path = rng.choice(read if rng.random() < 0.9 else files)
    name, kind = str(path.relative_to(folder)), rng.random()
    changes = {".json": change_json, ".jsonl": change_json, ".parquet": change_parquet, ".npz": change_arrays}
    with suppress(ValueError, OSError, RecursionError, BadZipFile, pa.ArrowException):  # damaged before
        if kind < 0.6 and path.suffix in changes:
            return f"{name}: {changes[path.suffix](path, rng)}"
    if kind < 0.8 and path.is_file():
        path.chmod(0o644)
        path.write_bytes(damaged(path.read_bytes(), rng))
        return f"{name}: damaged bytes"
    what = rng.randrange(7)
    other = rng.choice(files)
    path.unlink()
    if what == 0:
        return f"{name}: absent"
    if what == 1 and other.is_file():
        shutil.copy(other, path)
        return f"{name}: replaced by {other.relative_to(folder)}"
    if what == 2:
        path.mkdir()
        return f"{name}: a folder"
    if what == 3:
        os.mkfifo(path)
        return f"{name}: a pipe"
    if what == 4:
        path.symlink_to(rng.choice([path.name, "..", "/dev/zero", "/etc/passwd", "/dev/null"]))
        return f"{name}: a link to {path.readlink()}"
    if what == 5:
        path.touch()
        return f"{name}: empty"
    with suppress(OSError), socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
    return f"{name}: a socket, or nothing"


@contextmanager
def limited(found: Found, name: str) -> Iterator[None]:
    """Measure the seconds of this process in a block, as the machine may be busy, and end a block that waits for ever."""

    def stop(*_: object) -> None:
        found.wrong.append(f"{name}: it did not end")
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(MOST_WAIT)
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        yield
    finally:
        signal.alarm(0)
        more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        found.note(name, time.process_time() - began, 1024 * more)


def damage_field(path: Path, number: int) -> str:
    """Remove a field of a JSON file, or set it to null; what was done, empty if there are fewer fields."""
    content = json.loads(path.read_text(encoding="utf-8"))
    places = [(content, key) for key in content if isinstance(content, dict)]
    for value in list(content.values()):
        inner = value[0] if isinstance(value, list) and value else value
        places += [(inner, key) for key in inner] if isinstance(inner, dict) else []
    if number >= 2 * len(places):
        return ""
    holder, key = places[number // 2]
    if number % 2:
        holder[key] = None
    else:
        del holder[key]
    path.write_text(json.dumps(content), encoding="utf-8")
    return f"{path.name}: {key} {'null' if number % 2 else 'absent'}"


def samples(work: Path) -> tuple[dict[str, Path], dict[str, list[Use]]]:
    """A whole folder of each kind, and what reads it."""
    import tametail as tt
    from fixtures.tiny_study import TINY, write_images
    from tametail.report import results_table
    from tametail.report.search.page import write_search_page
    from tametail.study.settings import read_tuned

    data, other, out = write_images(work / "data"), write_images(work / "other", seed=1), work / "out"
    table = data / "labels.csv"
    tiny: dict[str, Any] = dict(TINY) | {"folds": 3}
    heads = {key: tiny[key] for key in ("backbone", "weights", "image_size", "folds")}
    whole = {kind: work / kind for kind in ("study", "search", "recommendation", "evaluation")}
    tt.compare(table, methods=["ce", "alpa", "ce+la"], out=whole["study"], **tiny)
    tt.evaluate_test_set(whole["study"])
    tt.report(whole["study"], by=["site"], operating={"amber": 0.9})
    tt.search(table, "alpa", trials=3, out=whole["search"], **tiny)
    tt.recommend(table, out=whole["recommendation"], **heads)
    tables = [work / f"{name}.parquet" for name in ("one", "two")]
    for path, method in zip(tables, ("ce", "alpa"), strict=True):
        shutil.copy(whole["study"] / f"runs/{method}/seed0-fold0/predictions.parquet", path)
    tt.evaluate(tables, operating={"amber": 0.9}, out=whole["evaluation"])
    shutil.copytree(whole["search"], work / "unfinished")
    content = json.loads((work / "unfinished/search.json").read_text())
    del content["result"]
    (work / "unfinished/search.json").write_text(json.dumps(content))
    described = tt.Study(whole["study"]).settings
    image = next((other / "images").iterdir())
    return whole | {"unfinished": work / "unfinished"}, {
        "study": [
            lambda folder: tt.report(folder, images=True),
            lambda folder: tt.resume(folder),
            lambda folder: tt.evaluate_test_set(folder),
            lambda folder: tt.load(folder).predict_proba([image]),
            lambda folder: tt.share(folder, out),
            lambda folder: tt.rank([folder, whole["evaluation"]], out=out),
            lambda folder: tt.evaluate(folder, data=other / "labels.csv", out=out),
            lambda folder: tt.compare(table, methods=["ce", "alpa"], out=folder, **tiny),
            lambda folder: (repr(tt.Study(folder)), tt.Study(folder).results, results_table(folder)),
        ],
        "search": [
            lambda folder: write_search_page(folder),
            lambda folder: repr(tt.search(table, "alpa", trials=3, out=folder, **tiny)),
            lambda folder: (tt.SearchResult(folder).best, tt.SearchResult(folder).estimate),
            lambda folder: [(search.note, search.check(described)) for search in read_tuned([folder])],
        ],
        "unfinished": [lambda folder: repr(tt.search(table, "alpa", trials=4, out=folder, **tiny))],
        "recommendation": [
            lambda folder: repr(tt.recommend(table, out=folder, **heads)),
            lambda folder: (repr(tt.Recommendation(folder)), tt.Recommendation(folder).content),
        ],
        "evaluation": [
            lambda folder: tt.report(folder),
            lambda folder: tt.rank([folder, whole["study"]], out=out),
            lambda folder: (repr(tt.EvaluationResult(folder)), tt.EvaluationResult(folder).results),
            lambda folder: tt.evaluate(tables, out=folder),
            lambda folder: results_table(folder),
        ],
    }


def attempt(found: Found, name: str, use: Use, folder: Path, *, verbose: bool) -> None:
    """Read a damaged folder, which is removed then."""
    from tametail.core.errors import TametailError

    before = len(found.wrong)
    try:
        with limited(found, name):
            use(folder)
        found.errors["read"] += 1
    except TametailError as error:
        found.errors[type(error).__name__] += 1
        if verbose:
            print(name, error, sep="\n")
    except BaseException as error:  # noqa: BLE001 - this is what is looked for
        at = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(at.filename).name}:{at.lineno}"
        found.wrong.append(f"{name}: {type(error).__name__}: {str(error)[:200]} ({place})")
        if verbose:
            traceback.print_exc()
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(folder.parent / "out", ignore_errors=True)
    for line in found.wrong[before:]:
        print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folders", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    parser.add_argument("--case", type=int)
    options = parser.parse_args()
    logging.getLogger("tametail").setLevel(logging.ERROR)
    found, began, verbose = Found(), time.monotonic(), options.case is not None
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        work = Path(temporary)
        os.environ["TAMETAIL_CACHE"] = str(work / "cache")
        whole, uses = samples(work)
        folder = work / "damaged"
        kinds = options.only.split(",") if options.only else sorted(whole)
        for kind in [] if verbose else kinds:
            for file in FIELDS[kind]:
                for number in count():
                    shutil.copytree(whole[kind], folder, symlinks=True)
                    done = damage_field(folder / file, number)
                    if not done:
                        shutil.rmtree(folder)
                        break
                    attempt(found, f"{kind} with {done}", uses[kind][0], folder, verbose=False)
        print(f"  each field: {found}", flush=True)
        for case in [options.case] if verbose else range(options.folders):
            rng = random.Random(f"{options.seed}-{case}")
            kind = rng.choices(kinds, [len(uses[each]) for each in kinds])[0]
            shutil.copytree(whole[kind], folder, symlinks=True)
            done = "; ".join(damage(folder, rng) for _ in range(rng.choice([1, 1, 1, 2, 3])))
            number = rng.randrange(len(uses[kind]))
            name = f"case {case}, use {number} of {kind} with {done}"
            attempt(found, name, uses[kind][number], folder, verbose=verbose)
            if case % 100 == 99:
                print(f"  {case + 1}: {found}", flush=True)
    print(f"{found}; {(time.monotonic() - began) / 60:.0f} min")
    sys.exit(len(found.wrong) > 0)


if __name__ == "__main__":
    main()
