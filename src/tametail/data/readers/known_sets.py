"""Public sets by name, read in the form in which they are downloaded, with their source and licence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tametail.core.errors import DataError, UsageError
from tametail.core.text import sample_of
from tametail.data.decoding.cache import cache_dir
from tametail.data.readers.class_folders import image_files, read_class_folders
from tametail.data.readers.image_entries import walk
from tametail.data.readers.medmnist import (
    MEDMNIST_NAMES,
    MEDMNIST_SOURCE,
    medmnist_file,
    read_medmnist,
    terms_of,
)
from tametail.data.readers.reader import Reader, ReadOptions, register_reader
from tametail.data.readers.table_folders import LABELS_FILE
from tametail.data.readers.tables import read_table
from tametail.data.table import ImageTable


@dataclass(frozen=True)
class KnownSet:
    """A set that can be read by its name.

    Attributes:
        title: full name.
        source: where it can be downloaded.
        terms: licence or conditions of use.
        read: (options, of which root and download are used; name of the set) → table.
        class_order: its classes from the lowest grade to the highest; empty unless they are ordinal.
    """

    title: str
    source: str
    terms: str
    read: Callable[[ReadOptions, str], ImageTable]
    class_order: tuple[str, ...] = ()


DEMO_SETS = ("demo", "demo-multilabel")
APTOS_GRADES = ("no_dr", "mild", "moderate", "severe", "proliferative_dr")

BONE_MARROW_CLASSES = (
    "ABE", "ART", "BAS", "BLA", "EBO", "EOS", "FGC", "HAC", "KSC", "LYI", "LYT", "MMZ", "MON", "MYB", "NGB", "NGS",
    "NIF", "OTH", "PEB", "PLM", "PMO",
)  # fmt: skip
BONE_MARROW_LEFT_OUT = ("ABE", "ART", "NIF", "OTH")
"""The paper does not name its 17 classes; without these four of the 21 its number of images, 147,904, is left."""


@register_reader
class KnownSetReader(Reader):
    """Reads one of `KNOWN_SETS` by its name, from ``root`` or, of MedMNIST, the cache folder."""

    name = "known_sets"
    priority = 20
    takes_root = True

    def matches(self, source: str | Path) -> bool:
        return isinstance(source, str) and source in KNOWN_SETS

    def read(self, source: str | Path, options: ReadOptions) -> ImageTable:
        name = str(source)
        options.refuse_table_options(f"{name} has fixed columns")
        return KNOWN_SETS[name].read(options, name)


def _root(options: ReadOptions, name: str) -> Path:
    if options.download:
        raise UsageError(f"--download is for MedMNIST sets; {_where_to_get(name)}")
    if options.root is None or not options.root.is_dir():
        found = "it was not given" if options.root is None else f"{options.root} is none"
        raise DataError(f"expected the folder of {name} in --root, but {found}; {_where_to_get(name)}")
    return options.root


def _where_to_get(name: str) -> str:
    known = KNOWN_SETS[name]
    return f"download {known.title} from {known.source} (terms: {known.terms}), unpack it and name its folder with --root"


def _missing(name: str, what: str, root: Path) -> DataError:
    return DataError(f"expected {what} in {root}, but there is none; {_where_to_get(name)}")


def _read_aptos(options: ReadOptions, name: str) -> ImageTable:
    """train.csv (id_code, diagnosis 0 to 4) and train_images/<id_code>.png; the test images have no labels."""
    root = _root(options, name)
    table, images = root / "train.csv", root / "train_images"
    if not table.is_file() or not images.is_dir():
        raise _missing(name, "train.csv and the folder train_images", root)
    columns = ReadOptions(image_col="id_code", label_col="diagnosis")
    frame, reading = read_table(table, columns, root, base=images)
    grades = {str(grade): label for grade, label in enumerate(APTOS_GRADES)}
    unknown = sorted(set(frame["label"]) - set(grades))
    if unknown:
        found = sample_of(unknown)
        raise DataError(f"expected grades 0 to 4 in the column diagnosis of {table}, found {found}")
    frame["label"] = frame["label"].map(grades).astype(object)
    return ImageTable.from_frame(frame, root, name, reading=reading)


def _read_ham10000(options: ReadOptions, name: str) -> ImageTable:
    """The metadata (lesion_id, image_id, dx, ...) and the images, in two folders or in any."""
    root = _root(options, name)
    names = ("HAM10000_metadata.csv", "HAM10000_metadata.tab", "HAM10000_metadata")
    table = next((root / file for file in names if (root / file).is_file()), None)
    if table is None:
        raise _missing(name, "HAM10000_metadata.csv (or .tab)", root)
    images = image_files(walk(root))
    # The copy on Kaggle unpacks each part twice, in two spellings.
    parts = [file for file in images if file.parts[0].startswith("HAM10000_images_part_")]
    columns = ReadOptions(image_col="image_id", label_col="dx", group_col="lesion_id")
    locate = partial(_by_stem, files=parts or images, root=root, name=name)
    frame, reading = read_table(table, columns, root, locate=locate)
    return ImageTable.from_frame(frame, root, name, reading=reading)


def _by_stem(entries: Sequence[str], *, files: Sequence[Path], root: Path, name: str) -> list[str]:
    """Image ids without folder or extension → POSIX paths relative to ``root``."""
    found: dict[str, Path] = {}
    requested = set(entries)
    for file in files:
        if file.stem in requested and file.stem in found:
            raise DataError(
                f"expected one file per image in {root}, found {found[file.stem]} and {file}; remove one of the folders"
            )
        found[file.stem] = file
    missing = [entry for entry in entries if entry not in found]
    if missing:
        listed = f"{len(missing)} of {len(entries)}: {sample_of(missing)}"
        raise _missing(name, f"every image of the table ({listed})", root)
    return [found[entry].as_posix() for entry in entries]


def _read_bone_marrow(options: ReadOptions, name: str, *, left_out: Sequence[str]) -> ImageTable:
    """BM_cytomorphology_data/<class>/<range>/<class>_<number>.jpg; the set names no patients."""
    root = _root(options, name)
    places = [root, *sorted(root.glob("*/")), *sorted(root.glob("*/*/"))]
    with_classes = (place for place in places if any((place / code).is_dir() for code in BONE_MARROW_CLASSES))
    folder = next(with_classes, None)
    if folder is None:
        what = "the folder BM_cytomorphology_data with a folder per class (BAS, BLA, ...)"
        raise _missing(name, what, root)
    frame, reading = read_class_folders(
        folder, [file for file in walk(folder) if file.parts[0] not in left_out], ReadOptions(class_level=1)
    )
    expected, found = set(BONE_MARROW_CLASSES) - set(left_out), set(frame["label"])
    if found != expected:
        raise DataError(
            f"expected images of the {len(expected)} classes of {name} in {folder}; missing: "
            f"{', '.join(sorted(expected - found)) or 'none'}, unknown: {', '.join(sorted(found - expected)) or 'none'}; "
            f"is the download complete? To read the images that are there, give the folder itself"
        )
    named = f"the classes {', '.join(left_out)}" if left_out else ""
    return ImageTable.from_frame(frame, folder, name, reading=reading.without(named))


def _read_medmnist(options: ReadOptions, name: str) -> ImageTable:
    return read_medmnist(medmnist_file(name, options.root, download=options.download))


_BONE_MARROW = (
    "Bone-Marrow-Cytomorphology_MLL_Helmholtz_Fraunhofer",
    "The Cancer Imaging Archive, doi 10.7937/TCIA.AXH3-T579",
    "CC BY 4.0",
)

KNOWN_SETS: dict[str, KnownSet] = {
    "aptos2019": KnownSet(
        "APTOS 2019 Blindness Detection",
        "https://www.kaggle.com/competitions/aptos2019-blindness-detection",
        "those of the competition",
        _read_aptos,
        APTOS_GRADES,
    ),
    "bone_marrow": KnownSet(*_BONE_MARROW, partial(_read_bone_marrow, left_out=BONE_MARROW_LEFT_OUT)),
    "bone_marrow_all": KnownSet(*_BONE_MARROW, partial(_read_bone_marrow, left_out=())),
    "ham10000": KnownSet(
        "HAM10000", "Harvard Dataverse, doi 10.7910/DVN/DBW86T", "CC BY-NC 4.0", _read_ham10000
    ),
    **{
        name: KnownSet(f"MedMNIST {name}", MEDMNIST_SOURCE, terms_of(name), _read_medmnist)
        for name in MEDMNIST_NAMES
    },
}
"""Name → set. ``bone_marrow`` is the paper's 17 classes, ``bone_marrow_all`` all 21."""


@register_reader
class DemoReader(Reader):
    """Reads the built-in generated sets: ``"demo"``, and ``"demo-multilabel"`` with several labels per image."""

    name = "demo"
    priority = 20

    def matches(self, source: str | Path) -> bool:
        return source in DEMO_SETS

    def read(self, source: str | Path, options: ReadOptions) -> ImageTable:
        from tametail.data.demo.demo import demo_directory, write_demo
        from tametail.data.demo.films import FINDINGS, films_directory, write_films

        options.refuse_table_options(f"the set {source} has fixed columns")
        name, several = str(source), source == "demo-multilabel"
        if several:
            directory = films_directory(cache_dir(), 0)
            write_films(directory, seed=0)
            columns = ReadOptions(label_cols=FINDINGS, group_col="patient", multi_label=True, blank="ignore")
        else:
            directory, columns = demo_directory(cache_dir(), 0), ReadOptions()
            write_demo(directory, seed=0)
        frame, reading = read_table(directory / LABELS_FILE, columns, directory)
        return ImageTable.from_frame(
            frame, directory, name, synthetic=True, multi_label=several, reading=reading
        )
