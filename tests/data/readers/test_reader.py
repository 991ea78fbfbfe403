from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.toy_reader import ToyReader, registered
from tametail.core.errors import DataError, UsageError
from tametail.data import (
    ImageTable,
    Reader,
    ReadOptions,
    read_images,
    readers,
    reading_facts,
    register_reader,
)

BUILT_IN = [
    "known_sets",
    "demo",
    "medmnist",
    "packed",
    "webdataset",
    "zip_archives",
    "parquet_images",
    "hdf5_images",
    "table",
    "table_folder",
    "split_tables",
    "named_tables",
    "dicom_folder",
    "class_folders",
]
PLUGIN = """
from pathlib import Path
from tametail.data import ImageTable, Reader, read_images

class LinesReader(Reader):
    name = "lines"

    def matches(self, source):
        return str(source).endswith(".lines")

    def read(self, source, options):
        import pandas as pd
        rows = [line.split() for line in Path(source).read_text().splitlines()]
        frame = pd.DataFrame(rows, columns=["image", "label", "group"], dtype=object).assign(split="")
        return ImageTable.from_frame(frame, Path(source).parent, "lines")
"""


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).touch()
    (tmp_path / "set.toy").write_text("b.png nv\na.png mel\nc.png nv\n")
    return tmp_path / "set.toy"


def test_built_in_readers_are_registered_by_name() -> None:
    assert sorted(readers.names()) == sorted(BUILT_IN)
    assert all(issubclass(reader, Reader) and reader.__doc__ for reader in readers)


def test_a_registered_reader_reads_its_sources_and_only_those(toy: Path) -> None:
    with registered(ToyReader):
        table = read_images(toy)
        assert table.frame["image"].tolist() == ["a.png", "b.png", "c.png"]
        assert table.counts() == {"mel": 1, "nv": 2}
        assert dict(reading_facts(table))["Class"] == "read by the reader toy: mel, nv (2 classes)"
        assert read_images(str(toy)).fingerprint == table.fingerprint
        with pytest.raises(DataError, match="nothing is there"):
            read_images(toy.with_suffix(".csv"))
    with pytest.raises(DataError, match=r"got the file .*set\.toy"):
        read_images(toy)
    assert sorted(readers.names()) == sorted(BUILT_IN)


def test_options_that_do_not_apply_are_refused(toy: Path) -> None:
    with registered(ToyReader):
        with pytest.raises(
            UsageError, match=r"--label-col can only be given .* but .*set\.toy is a toy file"
        ):
            read_images(toy, label_col="dx")
        with pytest.raises(UsageError, match="--root, --download can only be given with the name"):
            read_images(toy, root=toy.parent, download=True)


def test_a_third_party_comes_before_folders_and_after_names(tmp_path: Path) -> None:
    class Everything(ToyReader):
        name = "everything"

        def matches(self, source: str | Path) -> bool:
            return True

        def read(self, source: str | Path, options: ReadOptions) -> ImageTable:
            raise DataError("read by everything")

    (tmp_path / "set").mkdir()
    with registered(Everything):
        for source in (tmp_path / "set", tmp_path / "t.csv", "nowhere", "lmdb://x"):
            with pytest.raises(DataError, match="read by everything"):
                read_images(source)
        with pytest.raises(DataError, match="folder of ham10000 in --root"):
            read_images("ham10000")


def test_a_name_is_given_to_one_reader() -> None:
    class AnotherDemo(ToyReader):
        name = "demo"

    with pytest.raises(ValueError, match=r"expected a new name among the readers .* 'demo'"):
        register_reader(AnotherDemo)


def _package(folder: Path, value: str, code: str) -> Path:
    """An installed package: one file, and the metadata with its entry point."""
    (folder / "my_reader.py").write_text(code)
    (folder / "my_reader-1.0.dist-info").mkdir()
    (folder / "my_reader-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: my-reader\nVersion: 1.0\n"
    )
    (folder / "my_reader-1.0.dist-info" / "entry_points.txt").write_text(
        f"[tametail.readers]\nlines = {value}\n"
    )
    return folder


def _run(package: Path, code: str, source: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a process that has the package installed; ``sys.argv[1]`` is the source."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(package)!r}); {code}", str(source)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_reader_of_an_installed_package_is_used_by_the_commands(tmp_path: Path, toy: Path) -> None:
    (tmp_path / "set.lines").write_text("a.png mel p1\nb.png nv p2\nc.png nv p2\n")
    (tmp_path / "package").mkdir()
    package = _package(tmp_path / "package", "my_reader:LinesReader", PLUGIN)
    code = "sys.argv.insert(1, 'inspect'); from tametail.cli.app import main; main()"
    done = _run(package, code, tmp_path / "set.lines")
    assert "3 files of 3 cannot be read" in done.stdout, (done.stdout, done.stderr)


def test_a_reader_that_cannot_be_loaded_is_reported_where_no_other_reads(tmp_path: Path, toy: Path) -> None:
    (tmp_path / "package").mkdir()
    package = _package(tmp_path / "package", "my_reader:Absent", "x = 1\n")
    done = _run(package, "from tametail.data import read_images; read_images(sys.argv[1])", toy)
    assert "'lines' of the readers comes from my_reader:Absent, which could not be loaded" in done.stderr
