"""Tar archives as of WebDataset, on a disk or at a URL → `ImageTable`, whose images are read from the archives.

Files of one key (the name up to its first dot) belong together: an image with its label in KEY.cls, KEY.txt or KEY.json.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from tametail.core.errors import DataError
from tametail.core.json_file import parse_json
from tametail.core.text import counted, quoted, sample_of
from tametail.data.decoding.bit_depth import begins_deep
from tametail.data.decoding.shards import (
    MAX_IMAGE_BYTES,
    ImageMember,
    Shard,
    check_copies,
    explain_source,
    file_system,
    image_digest,
    is_inside,
    is_url,
    list_shard,
    open_copy,
    read_index,
    register_shards,
    write_index,
)
from tametail.data.decoding.tar_members import TarMember, tar_members
from tametail.data.readers.image_entries import DICOM_SUFFIXES, IMAGE_SUFFIXES
from tametail.data.readers.reader import Reader, ReadOptions, register_reader
from tametail.data.readers.split_names import splits_of_files
from tametail.data.reading import NO_GROUPS, NO_SPLIT, SourceReading
from tametail.data.table import LABEL_SEPARATOR, SPLIT_WORDS, ImageTable, join_classes

_IMAGES = {*IMAGE_SUFFIXES, *DICOM_SUFFIXES, ".img"}
_LABELS = ("label", "cls", "class", "txt")  # the first that all images have
_CLASS_FILES = ("classes.txt", "classnames.txt")
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_NUMBERED = re.compile(r"(.*?)[-_.]?\d+([-_]of[-_]\d+)?")  # train-000012
_MOST_TEXT = 2**20  # bytes of a .json, .cls or .txt file, and of the names of classes
_LONGEST = 1000  # characters of a value that is kept: longer ones are no labels
_MOST_KEPT = 2**28  # characters of the values of an archive


class _Archive(NamedTuple):
    """An archive, its name in image ids, and the name of its split, if it is one."""

    shard: Shard
    stem: str
    part: str


@register_reader
class WebDatasetReader(Reader):
    """Reads a .tar file, a folder of .tar files, or one with them in its sub-folders, such as ``train`` and ``test``."""

    name = "webdataset"
    priority = -25  # after tables

    def matches(self, source: str | Path) -> bool:
        if is_url(source):
            return False  # see `PackedReader`
        path = Path(source).expanduser()
        if path.is_file():
            return path.name.lower().endswith((".tar", *_COMPRESSED))
        if not path.is_dir() or not any(map(Path.is_file, _below(path, {".tar"}))):
            return False
        return not any(_below(path, _IMAGES))  # beside images an archive is the download that they are from

    def read(self, source: str | Path, options: ReadOptions) -> ImageTable:
        with explain_source(str(source)):
            system, path = file_system(source)
            archives = list_archives(system, path, str(source))
        return read_archives(archives, str(source), options)


def _below(folder: Path, suffixes: set[str]) -> Iterable[Path]:
    """Entries with these suffixes in a folder and in its sub-folders."""
    return (path for level in ("*", "*/*") for path in folder.glob(level) if path.suffix.lower() in suffixes)


def list_archives(system: Any, path: str, source: str) -> list[_Archive]:
    """The archives of a folder, or of its sub-folders if it has none itself, or the one that is named.

    Raises:
        DataError: it is compressed.
    """
    if path.lower().endswith(_COMPRESSED):
        raise DataError(
            f"expected archives without compression, from which single images can be read, got {source}; decompress it (gunzip)"
        )
    if path.lower().endswith(".tar"):
        folder, found = path.rpartition("/")[0], [path]
    else:
        folder, found = path, system.glob(f"{path}/*.tar") or system.glob(f"{path}/*/*.tar")
    base = source.rstrip("/").rpartition("/")[0] if found == [path] else source.rstrip("/")
    archives = []
    for file in found:
        inside = file.removeprefix(f"{folder}/")
        shard = list_shard(system, file, f"{base}/{inside}" if is_url(source) else file, "tar")
        stem = PurePosixPath(inside).with_suffix("")
        numbered = _NUMBERED.fullmatch(stem.name)
        part = stem.parts[0] if len(stem.parts) > 1 else numbered[1] if numbered else stem.name
        archives.append(_Archive(shard, str(stem), part))
    return sorted(archives, key=lambda archive: f"{archive.stem}/")


def read_archives(archives: Sequence[_Archive], source: str, options: ReadOptions) -> ImageTable:
    """The table of the images of all archives, with ids as ``ARCHIVE/KEY.jpg``.

    Archives are read once, and their contents are remembered; those at a URL are copied to the cache one at a time.

    Raises:
        DataError: an archive is damaged or holds other things than plain files; an image has no label; a label is no class.
        TametailError: the cache cannot be written, or the largest archives do not fit in it.
    """
    import pandas as pd

    options.refuse(
        "images and labels are in the archives of a WebDataset",
        "image_col", "image_root", "label_cols", "header", "metadata", "blank_groups", "join_rows", "reader_col", "split_values",
        "fold_col", "uncertain", "blank",
    )  # fmt: skip
    check_copies([archive.shard for archive in archives])
    members: list[ImageMember] = []
    shards, parts = [], []
    for shard, stem, part in archives:
        found = read_index(shard)
        if found is None:
            with explain_source(shard.url), open_copy(shard) as file:
                found = _scan(file, stem, shard.url)
            write_index(shard, found)
        if found:
            shards.append(replace(shard, first=found[0].image, start=len(members), rows=len(found)))
            members += found
            parts += [part] * len(found)
    if not members:
        raise DataError(
            f"expected images ({', '.join(IMAGE_SUFFIXES)}) in the archives of {source}, found none"
        )
    described = [json.loads(member.sidecar) for member in members]
    fields = [each["fields"] for each in described]
    label = options.label_col or next(
        (name for name in _LABELS if all(name in each for each in fields)), None
    )
    classes = _class_names(source)
    images = [member.image for member in members]
    labels = _texts(fields, label, images, source, "label", "--label-col")
    if label == "cls":  # text, of which each is a number
        labels = [int(text) if isinstance(text, str) and text.isdecimal() else text for text in labels]
    columns = {
        "image": images,
        "label": [
            _label(value, classes, options, image) for value, image in zip(labels, images, strict=True)
        ],
    }
    grouped = options.group_col or ("group" if all("group" in each for each in fields) else None)
    values = _texts(fields, grouped, images, source, "group", "--group-col") if grouped else images
    columns["group"] = list(map(str, values))
    splits = splits_of_files(parts)
    split = options.split_col or (None if splits or not all("split" in each for each in fields) else "split")
    if split:
        values = _texts(fields, split, images, source, "split", "--split-col")
        columns["split"] = list(map(_split, values, images))
    else:
        columns["split"] = [splits.get(part, "") for part in parts]
    deep = any(each["deep"] for each in described)
    root = register_shards(shards, images, [member.digest for member in members], may_be_deep=deep)
    reading = SourceReading(
        f"{label!r} of {counted(len(archives), 'tar archive')}"
        + (f", named by {classes[0]}" if classes else ""),
        f"{grouped!r} of the archives" if grouped else NO_GROUPS,
        f"{split!r} of the archives"
        if split
        else f"file names: {', '.join(sorted(splits))}"
        if splits
        else NO_SPLIT,
    )
    name = PurePosixPath(source.rstrip("/")).name.removesuffix(".tar") or "images"
    return ImageTable.from_frame(
        pd.DataFrame(columns, dtype=object),
        root,
        name,
        multi_label=options.multi_label,
        allow_leaks=options.allow_leaks,
        reading=reading,
    )


def _scan(file: IO[bytes], stem: str, name: str) -> list[ImageMember]:
    """The images of an archive, sorted, with the fields of the files that belong to them."""
    samples: dict[str, dict[str, TarMember]] = defaultdict(dict)
    for member in tar_members(file, name):
        folder, _, base = member.name.rpartition("/")
        key, dot, suffix = base.partition(".")
        if key:  # a hidden file belongs to nothing
            samples[f"{folder}/{key}" if folder else key][f"{dot}{suffix.lower()}"] = member
    found = []
    kept = 0
    for key, files in samples.items():
        suffixes = [suffix for suffix in files if suffix in _IMAGES]
        if len(suffixes) > 1:
            raise DataError(
                f"expected one image for each key in {name}, found {' and '.join(suffixes)} of {quoted(key)}; leave one out"
            )
        if not suffixes:
            continue
        image = f"{stem}/{key}{suffixes[0]}"
        if not is_inside(image):
            raise DataError(f"expected names inside of {name}, found {quoted(key)}; write the archive again")
        content = _content(file, files[suffixes[0]], MAX_IMAGE_BYTES, name)
        fields = _fields(file, files, name)
        sidecar = json.dumps({"deep": begins_deep(content[:26]), "fields": fields})
        kept += len(sidecar)
        if kept > _MOST_KEPT:
            raise DataError(
                f"expected at most {_MOST_KEPT:,} characters of labels in {name}; keep fewer fields in its .json files"
            )
        member = files[suffixes[0]]
        found.append(ImageMember(image, member.offset, member.size, image_digest(content), sidecar))
    return sorted(found)


def _content(file: IO[bytes], member: TarMember, most: int, name: str) -> bytes:
    if member.size > most:
        raise DataError(
            f"expected at most {most:,} bytes in {quoted(member.name)} of {name}, found {member.size:,}; leave it out"
        )
    file.seek(member.offset)
    return file.read(member.size)


def _fields(file: IO[bytes], files: dict[str, TarMember], name: str) -> dict[str, Any]:
    """Field → value, of the short ones in .json, and of .cls and .txt."""
    fields: dict[str, Any] = {}
    for suffix in (".json", ".cls", ".txt"):
        if suffix not in files:
            continue
        try:
            text = _content(file, files[suffix], _MOST_TEXT, name).decode("utf-8").strip()
            found = parse_json(text) if suffix == ".json" else {suffix[1:]: text}
        except ValueError as error:
            raise DataError(
                f"expected text in UTF-8 in {quoted(files[suffix].name)} of {name}: {error}; write the archive again"
            ) from error
        if isinstance(found, dict):
            fields |= {field: value for field, value in found.items() if len(str(value)) <= _LONGEST}
    return fields


def _texts(
    fields: Sequence[dict[str, Any]],
    name: str | None,
    images: Sequence[str],
    source: str,
    what: str,
    option: str,
) -> list[Any]:
    """The values of a field, which all images must have."""
    lacking = [
        image
        for image, each in zip(images, fields, strict=True)
        if name is None or each.get(name) in (None, "")
    ]
    if lacking:
        there = sorted({field for each in fields[:1000] for field in each})
        expected = f"a {what} in {name!r}" if name else f"a {what} in one of {', '.join(_LABELS)}"
        raise DataError(
            f"expected {expected} for every image of {source}, found none for {counted(len(lacking), 'image')} "
            f"({sample_of(lacking)}); the .cls, .txt and .json files hold {sample_of(there, most=20) or 'nothing'}: name a field with {option}"
        )
    return [each[name] for each in fields if name is not None]


def _label(value: Any, classes: tuple[str, list[str]] | None, options: ReadOptions, image: str) -> str:
    values = value if isinstance(value, list) else [value]
    if options.multi_label and isinstance(value, str):
        values = [part.strip() for part in value.split(options.label_sep or LABEL_SEPARATOR) if part.strip()]
    elif isinstance(value, list) and not options.multi_label:
        raise DataError(f"expected one label for {image}, found a list of {len(value)}; add --multi-label")
    names = [_class_name(each, classes, image) for each in values]
    return join_classes(names) if options.multi_label else names[0]


def _class_name(value: Any, classes: tuple[str, list[str]] | None, image: str) -> str:
    if isinstance(value, (dict, list, float)) or value is None:
        raise DataError(
            f"expected the name or number of a class for {image}, found {quoted(repr(value))}; name another field with --label-col"
        )
    if classes is None or not isinstance(value, int):
        return str(value)
    file, names = classes
    if not 0 <= value < len(names):
        raise DataError(
            f"expected the number of one of {len(names)} classes in {file} for {image}, found {value}"
        )
    return names[value]


def _split(value: Any, image: str) -> str:
    split = SPLIT_WORDS.get(str(value).strip().lower())
    if split is None:
        raise DataError(f"expected train, val or test as the split of {image}, found {quoted(value)}")
    return split


def _class_names(source: str) -> tuple[str, list[str]] | None:
    """The file with the names of the classes by number, beside the archives, and the names; None if there is none."""
    with explain_source(source):
        system, path = file_system(source)
        folder = path.rpartition("/")[0] if path.lower().endswith(".tar") else path
        for name in _CLASS_FILES:
            if system.exists(f"{folder}/{name}") and system.info(f"{folder}/{name}")["type"] == "file":
                with system.open(f"{folder}/{name}", "rb") as file:
                    content = file.read(_MOST_TEXT + 1)
                names = content.decode("utf-8").splitlines()
                if len(content) > _MOST_TEXT or "" in names or len(set(names)) < len(names):
                    raise DataError(
                        f"expected the name of a class in each line of {name} in {source}, each once"
                    )
                return name, names
    return None
