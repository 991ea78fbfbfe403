"""HDF5 files of images → `ImageTable`, with the images in the cache, as PNG or as the files that they are.

Three layouts are read: a dataset of N images with one of N labels, in one file or in a pair of files called ``..._x.h5`` and
``..._y.h5`` (PatchCamelyon); a dataset for each image and a table that names them (ISIC 2024); and groups of such datasets, which
are classes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tametail.core.errors import DataError
from tametail.core.text import counted, quoted, sample_of
from tametail.data.decoding.cache import content_digests
from tametail.data.decoding.cache_folder import cache_dir, cached_folder, make_room
from tametail.data.decoding.file_kinds import image_suffix
from tametail.data.decoding.hdf5_file import (
    HDF5_SUFFIXES,
    Hdf5Dataset,
    Hdf5File,
    listed_datasets,
    opened_hdf5,
)
from tametail.data.decoding.png import save_png
from tametail.data.decoding.shards import is_inside, is_url
from tametail.data.readers.class_folders import ClassFolderReader
from tametail.data.readers.image_entries import IMAGE_SUFFIXES, list_folder, walk
from tametail.data.readers.reader import Reader, ReadOptions, register_reader
from tametail.data.readers.split_names import splits_of_files
from tametail.data.readers.table_file import read_table_file
from tametail.data.readers.table_folders import folder_name
from tametail.data.readers.tables import table_of_images
from tametail.data.reading import NO_GROUPS, NO_SPLIT, SourceReading
from tametail.data.table import COLUMNS, RESERVED, ImageTable

if TYPE_CHECKING:
    import pandas as pd

_BESIDE = (".csv", ".tsv", ".txt", ".md", ".pdf", ".json", "")  # files beside those of a set
_PAIR = re.compile(r"(.+)_[xy]")
_LABELS = ("label", "labels", "y", "target", "targets")
_RECORD = ".complete"  # in a folder of the cache: how many images it has
_MOST_CLASSES = 1000
_ROOT_ADVICE = (
    "name the folder they are relative to with --image-root, "  # of tables, which is of no use here
)
_MANY = 10_000  # datasets above which each is an image
_BATCH = 256  # images that are compressed at a time
_ADVICE = "Free some disk space, raise TAMETAIL_CACHE_GB, or name a folder on another disk by the environment variable TAMETAIL_CACHE"


@register_reader
class Hdf5Reader(Reader):
    """Reads an HDF5 file of images, or a folder of nothing but such files and tables."""

    name = "hdf5_images"
    priority = -5
    takes_folder_options = True

    def matches(self, source: str | Path) -> bool:
        return not is_url(source) and bool(_files(Path(source).expanduser()))

    def read(self, source: str | Path, options: ReadOptions) -> ImageTable:
        path = Path(source).expanduser()
        files = _files(path)
        if options.metadata is not None:
            if len(files) > 1:
                raise DataError(
                    f"expected one HDF5 file with --metadata, found {counted(len(files), 'file')} in {path}; give the path of one"
                )
            options.refuse("the images are in an HDF5 file", "image_root")
            table, root = options.metadata, _stored_images(files[0])
            try:
                return table_of_images(table, replace(options, metadata=None, image_root=root), path.stem)
            except DataError as error:  # it names the file, not the cache
                text = str(error).replace(str(root), str(files[0]))
                raise DataError(text.replace(_ROOT_ADVICE, "correct their names, ")) from error
        if len(files) == 1 and _has_groups(files[0]):
            options.refuse_table_options("the classes are groups of an HDF5 file")
            read = ClassFolderReader().read(_stored_images(files[0]), options)
            reading = read.reading and replace(read.reading, classes=f"groups of {path.name}")
            return replace(read, name=path.stem, reading=reading)
        options.refuse_folder_options(f"{path} is a dataset of images")
        options.refuse(
            "the images and labels are in HDF5 files",
            "split_col", "image_root", "label_cols", "multi_label", "label_sep", "header", "blank_groups", "join_rows", "reader_col",
            "split_values", "fold_col", "uncertain", "blank",
        )  # fmt: skip
        return _read_stacks(files, folder_name(path) if path.is_dir() else path.stem, options)


def _files(path: Path) -> list[Path]:
    """The HDF5 files of a source; none if it is something else."""
    if path.is_file():
        return [path] if path.suffix.lower() in HDF5_SUFFIXES else []
    if not path.is_dir():
        return []
    inside = [Path(item.path) for item in list_folder(path)]
    files = [file for file in inside if file.suffix.lower() in HDF5_SUFFIXES and file.is_file()]
    others = [file for file in inside if file not in files]
    if any(file.is_dir() or file.suffix.lower() not in (*_BESIDE, ".gz") for file in others):
        return []
    return files


def _has_groups(path: Path) -> bool:
    """Whether a file has nothing but single images in groups."""
    with opened_hdf5(path) as file:
        if not any("/" in name for name in file.names()[0]):
            return False
        datasets, _ = file.datasets()
    return bool(datasets) and all(each.is_image and "/" in each.name for each in datasets)


@dataclass(frozen=True)
class _Stack:
    """N images with their labels.

    Attributes:
        part: what the files are called, without ``_x``.
        images, labels: the files, and the datasets in them.
        others: name → N values, of the table ``..._meta.csv``.
    """

    part: str
    images: tuple[Path, Hdf5Dataset]
    labels: tuple[Path, Hdf5Dataset]
    others: pd.DataFrame | None

    def __len__(self) -> int:
        return self.images[1].shape[0]


def _read_stacks(files: Sequence[Path], name: str, options: ReadOptions) -> ImageTable:
    """The table of datasets of N images, one for each file or pair of files."""
    import pandas as pd

    stacks = [_stack(group, options) for group in _pairs(files)]
    splits = splits_of_files(stack.part for stack in stacks)
    several = len(stacks) > 1
    frames = []
    for stack in stacks:
        rows = range(len(stack))
        images = [f"{stack.part}/{row:07d}.png" if several else f"{row:07d}.png" for row in rows]
        columns: dict[str, Any] = {"image": images, "label": _labels(stack), "group": images}
        if options.group_col is not None:
            columns["group"] = _groups(stack, options.group_col)
        columns["split"] = [splits.get(stack.part, "")] * len(stack)
        frame = pd.DataFrame(columns, dtype=object)
        if stack.others is not None:
            for column in stack.others:
                if column not in (*COLUMNS, *RESERVED, options.group_col):
                    frame[column] = stack.others[column].to_numpy()
        frames.append(frame)
    frame = pd.concat(frames, ignore_index=True)
    # Last, so that files with wrong labels leave no images behind.
    place = (
        cache_dir()
        / "hdf5"
        / _key([stack.images[0] for stack in stacks], [stack.images[1].name for stack in stacks])
    )
    folder = cached_folder(place, partial(_write_stacks, stacks, several), _is_complete)
    tables = sum(stack.others is not None for stack in stacks)
    reading = SourceReading(
        f"dataset {stacks[0].labels[1].name!r} of {counted(len(stacks), 'HDF5 file')}",
        f"{options.group_col!r} of the {'tables beside them' if tables else 'files'}"
        if options.group_col
        else NO_GROUPS,
        f"file names: {', '.join(sorted(splits))}" if splits else NO_SPLIT,
        notes=(f"images of dataset {stacks[0].images[1].name!r}",),
    )
    return ImageTable.from_frame(frame, folder, name, allow_leaks=options.allow_leaks, reading=reading)


def _pairs(files: Sequence[Path]) -> list[dict[str, Path]]:
    """The files of each part: its images, its labels if they are in another file, and its table."""
    named: dict[str, dict[str, Path]] = {}
    for file in files:
        pair = _PAIR.fullmatch(file.stem)
        for suffix in ("x", "y"):  # the partner of a single file too
            partner = file.with_name(f"{file.stem[:-1]}{suffix}{file.suffix}") if pair else file
            if partner.is_file():
                part, kind = (pair[1], suffix) if pair else (file.stem, "x")
                if (other := named.setdefault(part, {}).setdefault(kind, partner)) != partner:
                    raise DataError(
                        f"expected files with names of their own, but {other} and {partner} are both the part {part}; rename or remove one"
                    )
    for part, group in named.items():
        if "x" not in group:
            images = group["y"].with_name(f"{part}_x{group['y'].suffix}")
            packed = images.with_name(f"{images.name}.gz")
            advice = f"decompress {packed.name} (gunzip)" if packed.is_file() else "add it"
            raise DataError(
                f"expected the images of {group['y']} in a file {images.name} beside it, but there is none; {advice}"
            )
        table = group["x"].with_name(f"{part}_meta.csv")
        if table.is_file():
            group["meta"] = table
    return [{"part": Path(part), **group} for part, group in sorted(named.items())]


def _stack(group: dict[str, Path], options: ReadOptions) -> _Stack:
    path = group["x"]
    with opened_hdf5(path) as file:
        names = len(file.names()[0])
        if names > _MANY:
            raise DataError(
                f"expected a dataset of all images in {path}, found {names:,} datasets and groups; for a dataset per image give the table "
                f"that names them with --metadata"
            )
        datasets, links = file.datasets()
        images = _chosen(
            [each for each in datasets if each.is_stack],
            options.image_col,
            "images",
            "--image-col",
            datasets,
            path,
            links,
        )
        file.check_images(images)
    labelled = group.get("y", path)
    if labelled != path:
        with opened_hdf5(labelled) as file:
            datasets, links = file.datasets()
    count = images.shape[0]
    fitting = [each for each in datasets if each.name != images.name or labelled != path]
    fitting = [each for each in fitting if each.has_values(count)]
    if options.label_col is None and len(fitting) > 1:
        fitting = [each for each in fitting if each.name.lower() in _LABELS] or fitting
    fitting = [each for each in fitting if each.name != options.group_col]
    labels = _chosen(
        fitting,
        options.label_col,
        f"{count:,} labels, one for each image of {images}",
        "--label-col",
        datasets,
        labelled,
        links,
    )
    return _Stack(group["part"].name, (path, images), (labelled, labels), _others(group.get("meta"), count))


def _chosen(
    fitting: Sequence[Hdf5Dataset],
    given: str | None,
    what: str,
    option: str,
    datasets: Sequence[Hdf5Dataset],
    path: Path,
    links: int,
) -> Hdf5Dataset:
    """The dataset of this name, or the only one that fits."""
    named = [each for each in fitting if given is None or each.name == given.strip("/")]
    if len(named) == 1:
        return named[0]
    unread = f" and {counted(links, 'link')}, which are not followed" if links else ""
    wanted = f"the dataset {given!r} of {what}" if given else f"one dataset of {what}"
    expected = "(N, H, W) or (N, H, W, 3) of uint8" if what == "images" else "as many values as images"
    advice = f"name it with {option}"
    if not fitting and what == "images":
        advice = "write the images so; for a dataset per image give the table that names them with --metadata"
    elif not fitting:
        advice = "add it to the file, or give the labels of ..._x.h5 in a file ..._y.h5 beside it"
    raise DataError(
        f"expected {wanted} ({expected}) in {path}, found {listed_datasets(fitting if len(named) > 1 else datasets)}{unread}; {advice}"
    )


def _others(path: Path | None, count: int) -> pd.DataFrame | None:
    if path is None:
        return None
    file = read_table_file(path)
    if len(file) != count:
        raise DataError(
            f"expected a row for each of the {count:,} images in {path}, found {len(file):,}; fetch it again, or take it away"
        )
    return file.typed[file.columns].reset_index(drop=True)


def _labels(stack: _Stack) -> list[str]:
    path, dataset = stack.labels
    with opened_hdf5(path) as file:
        values = file.values(dataset)
    names = [
        str(int(value)) if isinstance(value, float) and value.is_integer() else str(value) for value in values
    ]
    if wrong := [row + 1 for row, name in enumerate(names) if not name or name == "nan"]:
        raise DataError(
            f"expected a label in every row of {dataset} of {path}, found none in row {sample_of(wrong)}; fill them in"
        )
    if len(set(names)) > _MOST_CLASSES:
        raise DataError(
            f"expected at most {_MOST_CLASSES:,} classes in {dataset} of {path}, found {len(set(names)):,}; name another dataset with --label-col"
        )
    return names


def _groups(stack: _Stack, column: str) -> list[str]:
    if stack.others is not None and column in stack.others:
        values = stack.others[column].tolist()
    else:
        path = stack.labels[0]
        with opened_hdf5(path) as file:
            datasets = {each.name: each for each in file.datasets()[0]}
            if column not in datasets or not datasets[column].has_values(len(stack)):
                table = (
                    ""
                    if stack.others is None
                    else f" or {sample_of(list(stack.others), most=20)} of its table"
                )
                raise DataError(
                    f"expected {column!r} (--group-col) as a dataset of {len(stack):,} values in {path} or a column of a table "
                    f"{stack.part}_meta.csv beside it, found {listed_datasets(list(datasets.values()))}{table}"
                )
            values = file.values(datasets[column])
    if empty := sum(value is None or value != value or value == "" for value in values):
        raise DataError(f"{empty:,} of {len(values):,} images have no group in {column!r}; fill them in")
    return list(map(str, values))


def _write_stacks(stacks: Sequence[_Stack], several: bool, folder: Path) -> None:
    total = 0
    for stack in stacks:
        with opened_hdf5(stack.images[0]) as file:
            total += file.check_images(stack.images[1])
    make_room(total, advice=_ADVICE)
    for stack in stacks:
        place = folder / stack.part if several else folder
        place.mkdir(exist_ok=True)
        with opened_hdf5(stack.images[0]) as file, ThreadPoolExecutor(os.cpu_count()) as pool:
            images = enumerate(file.images(stack.images[1]))
            while batch := list(islice(images, _BATCH)):
                for saved in [
                    pool.submit(save_png, pixels, place / f"{row:07d}.png") for row, pixels in batch
                ]:
                    saved.result()
    _complete(folder, sum(map(len, stacks)))


def _stored_images(path: Path) -> Path:
    """The folder in the cache with the image of each dataset of a file, by its name."""
    place = cache_dir() / "hdf5" / _key([path], ["each"])
    return cached_folder(place, partial(_write_each, path), _is_complete)


def _write_each(path: Path, folder: Path) -> None:
    with opened_hdf5(path) as file:
        datasets, links = file.datasets()
        images = [each for each in datasets if each.is_image]
        if not images:
            unread = f" and {counted(links, 'link')}, which are not followed" if links else ""
            raise DataError(
                f"expected a dataset for each image in {path} (the bytes of its file, or 8-bit pixels), found {listed_datasets(datasets)}{unread}; "
                f"a dataset of all images is read without --metadata"
            )
        size = path.stat().st_size
        total = sum(int(np.prod(each.shape, dtype=object)) * each.dtype.itemsize for each in images)
        encoded = sum(
            int(np.prod(each.shape, dtype=object)) * each.dtype.itemsize for each in images if each.is_encoded
        )
        if encoded > size or total > max(50 * size, 1 << 28):
            raise DataError(
                f"expected images of about the {size:,} bytes of {path}, found {total:,}: several names lead to the same bytes, or the file "
                f"is damaged; write it again"
            )
        make_room(total, advice=_ADVICE)
        for dataset in images:
            _write_one(file, dataset, folder)
    _complete(folder, len(images))


def _write_one(file: Hdf5File, dataset: Hdf5Dataset, folder: Path) -> None:
    unseen = any(part.startswith((".", "__MACOSX")) for part in dataset.name.split("/"))  # see list_folder
    if not is_inside(dataset.name) or unseen or "\0" in dataset.name or len(dataset.name) > 200:
        raise DataError(
            f"expected names that visible files can have in {file.path}, found {quoted(dataset.name)}; rename it"
        )
    content = file.image(dataset)
    suffix = image_suffix(content) if isinstance(content, bytes) else ".png"
    named = dataset.name.lower().endswith(IMAGE_SUFFIXES)
    place = folder / (dataset.name if named and isinstance(content, bytes) else f"{dataset.name}{suffix}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch(exist_ok=False)
    except FileExistsError as error:
        raise DataError(
            f"expected images with names of their own in {file.path}, but {quoted(dataset.name)} is written to the same file or folder "
            f"({place.relative_to(folder)}) as another one; rename it"
        ) from error
    if isinstance(content, bytes):
        place.write_bytes(content)
    else:
        save_png(content, place)


def _key(files: Sequence[Path], names: Sequence[str]) -> str:
    """Digest of the content of files, and of what is read of them."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        absolute = [str(file.absolute()) for file in files]
        digests = content_digests(Path("/"), absolute, pool, cache_dir() / "digests.sqlite")
    return hashlib.sha256(json.dumps([digests, names]).encode()).hexdigest()[:32]


def _complete(folder: Path, count: int) -> None:
    (folder / _RECORD).write_text(str(count), encoding="ascii")


def _is_complete(folder: Path) -> bool:
    try:
        return sum(1 for _ in walk(folder)) == int((folder / _RECORD).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return False
