"""Every file is written whole: all calls that write are in a block of `tametail.core.atomic`, or listed here with a reason."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path

import pytest

import tametail
from fixtures.forked import fork_server
from tametail.core.removal import is_temporary

BLOCKS = {"atomic_path", "atomic_directory", "_run_directory", "TemporaryFile"}
BUILDS = "builds a folder of the cache inside cached_folder"
ALLOWED = {
    "core/atomic.py atomic_path": "renames the whole file",
    "core/atomic.py atomic_directory": "renames the whole folder",
    "core/atomic.py write_output": "a device or a pipe, which cannot be replaced",
    "data/decoding/cache.py _remember": "a database, which has its own journal",
    "data/decoding/cache.py _recall": "only reads it",
    "data/demo/generated.py _write": BUILDS,
    "data/packed.py open": (PACKS := "in the folder of the atomic_directory block of write_shards"),
    "data/packed.py write": PACKS,
    "data/packed.py finish": PACKS,
    "data/readers/medmnist.py _fetch": "its path is that of an atomic_path block",
    "data/decoding/png.py save_png": BUILDS,
    "data/readers/hdf5_images.py _complete": BUILDS,
    "data/readers/hdf5_images.py _write_one": BUILDS,
    "data/readers/parquet_images.py _write_images": BUILDS,
    "data/readers/zip_archives.py _place": "in a temporary folder, which is removed when it has been read",
    "data/row_store.py __setstate__": "maps a file of the cache to read it",
    "predictions/parquet.py write_parquet": "its path is that of an atomic block",
    "report/figures/export.py saved": "into memory",
    "report/figures/svg.py _svg_element": "into memory",
    "study/progress.py _append": "lines that are only shown, of one writer",
    "search/journal.py remove_incomplete_line": "removes the half of a line from a journal that is only appended to",
    "study/share.py _copy": (COPIES := "in the folder of the atomic_directory block of share"),
    "study/share.py _copy_run": COPIES,
    "study/share.py _copy_thumbnails": COPIES,
    "study/share.py _write_json": COPIES,
    "storage/locks.py _write_record": "its path is temporary, and it need not survive a power cut",
    "storage/locks.py _now": "an empty file, to see the time of the file system",
    "storage/identity.py prepare_directory": "an empty file, to see whether the folder can be written",
    "testing/test_losses.py test_survives_copy_pickle_state_dict_and_half": "into memory",
}
WRITERS = {
    "write_text", "write_bytes", "to_csv", "to_parquet", "to_json", "to_html", "to_excel", "to_pickle", "to_feather",
    "savefig", "savez", "savez_compressed", "savetxt", "save_file", "save_model", "tofile", "write_table", "write_dataset",
    "ParquetWriter", "touch", "truncate", "imwrite", "symlink_to", "hardlink_to", "renames",
    "copy2", "copyfile", "copytree", "copyfileobj", "connect", "mkstemp", "mkdtemp", "NamedTemporaryFile", "urlretrieve",
}  # fmt: skip
ONLY_OF = {"save": {"np", "torch", "safetensors", "Image"}, "dump": {"json", "pickle", "yaml"}, "copy": {"shutil"},
           "move": {"shutil"}, "replace": {"os"}, "memmap": {"np"}}  # fmt: skip


NAMES = re.compile(rf"\b({'|'.join((*WRITERS, *ONLY_OF, 'open', 'fdopen', 'ZipFile', 'TarFile'))})\(")


def writes(source: str, file: str) -> list[str]:
    """The places of calls that write to something else than a name that a block of `BLOCKS` gives."""
    found: list[str] = []
    if NAMES.search(source) is None:  # to parse it takes time
        return found

    def visit(node: ast.AST, function: str, given: frozenset[str]) -> None:
        if isinstance(node, ast.FunctionDef):
            function = node.name
        if isinstance(node, ast.With):
            for item in node.items:
                visit(item.context_expr, function, given)
                if isinstance(item.optional_vars, ast.Name) and given_by(item.context_expr, given):
                    given |= {item.optional_vars.id}
            for child in node.body:
                visit(child, function, given)
            return
        if isinstance(node, ast.Call) and is_write(node) and not names_in(node) & given:
            found.append(f"{file} {function}")
        for child in ast.iter_child_nodes(node):
            visit(child, function, given)

    visit(ast.parse(source), "", frozenset())
    return found


def given_by(context: ast.expr, given: frozenset[str]) -> bool:
    called = context.func if isinstance(context, ast.Call) else context
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return name in BLOCKS or bool(names_in(context) & given)


def names_in(node: ast.AST) -> frozenset[str]:
    return frozenset(inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name))


def is_write(call: ast.Call) -> bool:
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    owner = (
        function.value.id
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name)
        else ""
    )
    if name in {"open", "fdopen", "ZipFile", "TarFile"}:
        if owner == "os":
            written = ast.unparse(call)
            return (
                "devnull" not in written and re.search(r"O_(WRONLY|RDWR|CREAT|APPEND)", written) is not None
            )
        texts = [
            part.value
            for part in (*call.args, *(word.value for word in call.keywords))
            if isinstance(part, ast.Constant)
        ]
        return any(
            isinstance(text, str) and re.fullmatch(r"[rwaxbt+]*[wax+][rwaxbt+]*", text) for text in texts
        )
    if name in {"to_csv", "to_json", "to_html"}:
        return bool(call.args) or any(
            word.arg == "path_or_buf" for word in call.keywords
        )  # else it returns the text
    if name in ONLY_OF:
        return owner in ONLY_OF[name] or (name == "save" and "compress_level" in ast.unparse(call))
    return name in WRITERS or (name == "rename" and bool(call.args))


def test_no_call_writes_a_file_in_place() -> None:
    root = Path(tametail.__file__).parent
    files = {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in root.rglob("*.py")
    }
    found = {place for file, source in files.items() for place in writes(source, file)}
    assert found == set(ALLOWED), "write through tametail.core.atomic, or list the place with its reason"


@pytest.mark.parametrize(
    "call",
    [
        "open(path, 'w')", "path.open('ab')", "open(path, mode='x')", "path.open('r+')", "os.open(path, os.O_CREAT)",
        "path.write_text('')", "path.write_bytes(b'')", "frame.to_csv(path)", "frame.to_parquet(path)", "np.save(path, x)",
        "np.savez(path, x)", "figure.savefig(path)", "save_file(x, path)", "torch.save(x, path)", "json.dump(x, handle)",
        "zipfile.ZipFile(path, 'w')", "shutil.copy(path, other)", "shutil.copytree(path, other)", "os.replace(path, other)",
    ],
)  # fmt: skip
def test_a_new_call_that_writes_in_place_is_found(call: str) -> None:
    assert writes(f"def write(path, x):\n    {call}\n", "new.py") == ["new.py write"]
    inside = f"def write(other, x):\n    with atomic_path(other) as path, path.open('wb') as handle:\n        {call}\n"
    assert writes(inside, "new.py") == []


@pytest.mark.parametrize(
    "call", ["open(path)", "path.open('rb')", "frame.to_csv(index=False)", "text.replace('w', 'a')"]
)
def test_what_only_reads_is_not_found(call: str) -> None:
    assert writes(f"def read(path):\n    return {call}\n", "new.py") == []


COMMANDS = """
import os, sys
out, opened = {out!r}, open({listed!r}, "w")
def note(event, given):
    if event == "open" and isinstance(given[0], (str, os.PathLike)) and given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        path = os.path.abspath(given[0])
        if path.startswith(out) and not os.path.isdir(path):
            print(os.path.relpath(path, out), file=opened, flush=True)
sys.addaudithook(note)
from typer.testing import CliRunner
from tametail.cli.app import app
for words in {commands!r}:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, (words, result.output, result.exception)
"""


def test_what_commands_open_for_writing_are_temporary_files(
    study_folder: Path, image_folder: Path, tmp_path: Path
) -> None:
    out, study = tmp_path / "out", tmp_path / "out" / "study"
    out.mkdir()
    shutil.copytree(study_folder, study)
    table = next(study.glob("runs/ce/*/predictions.parquet"))
    commands = [
        ["predict", study, image_folder, "-o", out / "p.csv", "--html", out / "p.html"],
        ["report", study, "--images", "--figures", "svg", "--partial"],
        ["evaluate", table, "-o", out / "evaluation"],
        ["test-set", study],
        ["gradients", "-o", out / "figure.svg"],
    ]
    listed = tmp_path / "opened.txt"
    script = COMMANDS.format(
        out=str(out), listed=str(listed), commands=[[str(word) for word in words] for words in commands]
    )
    ended = fork_server().run("-c", script, directory=tmp_path)
    assert ended.returncode == 0, ended.stderr
    opened = listed.read_text().splitlines()
    assert len(opened) > 15
    in_place = [path for path in opened if not any(map(is_temporary, Path(path).parts))]
    assert {Path(path).name for path in in_place} <= {".lock", ".test_set_looks.jsonl.lock"}
    assert not [path for path in out.rglob("*") if is_temporary(path.name)]
