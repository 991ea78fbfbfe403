"""What the levels of a folder tree mean: which one names the class, which the split, which the group.

Levels count from 1, the folders directly below the root. Nothing is guessed: where a tree can be read in several ways, the
readings are listed, and one has to be chosen with ``--class-level``.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tametail.core.errors import DataError, UsageError
from tametail.core.text import counted, sample_of
from tametail.data.readers.split_names import UNLABELLED, split_folders, split_words, without_split_words
from tametail.data.reading import NO_GROUPS, NO_SPLIT, SourceReading, named_classes

Folder = tuple[str, ...]
DEEPEST = "deepest"
_MOST_CLASSES = 30  # folders at the lowest of several levels; more of them are rather patients or series
_FEWEST_IMAGES = 5  # per such folder, on average
_SHOWN = 12  # classes of a possible reading that are named
_NAMED = 12  # names of a level that are listed where it is not used
# Folders of persons, whose names do not belong in reports.
_OWNER = re.compile(
    r"(patient|pat|subject|subj|sub|case|person|participant|donor)(?![^\W\d_])", re.IGNORECASE
)
_PLAIN = re.compile(r"images?|imgs?|pictures?|photos?|jpe?g|png|tiff?|dicom", re.IGNORECASE)


@dataclass(frozen=True)
class FolderLevels:
    """The meaning of each level of a tree.

    Attributes:
        class_level: level whose folder is the class; None for the folder that an image lies in.
        split_level: level of split folders, or None.
        splits: name of a split folder → ``train``, ``val``, ``test`` or ``unlabelled``.
        group_level: level whose folder is the group, or None.
    """

    class_level: int | None
    split_level: int | None = None
    splits: Mapping[str, str] | None = None
    group_level: int | None = None

    def class_folder(self, folder: Folder) -> Folder:
        """The class folder that a folder is or lies in; empty if it lies above all of them."""
        if self.class_level is not None:
            return folder[: self.class_level] if len(folder) >= self.class_level else ()
        return folder[: self._depth(folder)]

    def label(self, folder: Folder) -> str:
        """The class of the images in a folder."""
        at = self._depth(folder) if self.class_level is None else self.class_level
        return folder[at - 1].strip()

    def split(self, folder: Folder) -> str:
        """The split of the images in a folder; empty if none is given."""
        if self.split_level is None or self.splits is None or len(folder) < self.split_level:
            return ""
        return self.splits.get(folder[self.split_level - 1], "")

    def _depth(self, folder: Folder) -> int:
        """The lowest level of a folder that is not the split."""
        return len(folder) - 1 if len(folder) == self.split_level else len(folder)


def find_levels(
    root: Path,
    files: Sequence[Path],
    kind: str,
    class_level: int | str | None = None,
    group_level: int | None = None,
) -> FolderLevels:
    """What each level means, by the names of the folders.

    Args:
        files: the images, relative to ``root``.
        kind: what the files are, for messages.
        class_level: level of the classes, or ``"deepest"``, if it was given.
        group_level: level of the groups, if it was given; a negative one counts from the image.

    Raises:
        DataError: images lie outside class folders, names of splits and of classes are mixed, the tree holds a copy of itself,
            or it can be read in several ways.
        UsageError: a given level does not exist in the tree or is that of the splits.
    """
    counts = Counter(file.parts[:-1] for file in files)
    _refuse_copies(root, counts)
    split_level, splits = _find_split(root, counts)
    labelled = {folder: n for folder, n in counts.items() if not _is_unlabelled(folder, split_level, splits)}
    if split_level is not None and not labelled:
        raise DataError(f"expected labelled images in {root}, but all lie in folders without labels")
    _refuse_strays(root, files, labelled, split_level, kind)
    if class_level is None:
        found = _infer_class_level(root, labelled, split_level)
    else:
        found = _given_level(root, labelled, split_level, class_level)
    depths = {len(folder) for folder in labelled}
    if group_level is not None and group_level < 0:
        if found is None and group_level == -1:
            raise UsageError(
                "expected --group-from folder at another level than the classes, got the folders that images lie in"
            )
        # Where images lie at several depths, it is no single level.
        group_level = max(depths) + 1 + group_level if len(depths) == 1 else None
    if group_level is not None:
        _check_level(root, labelled, group_level, "the level of --group-from folder")
        if group_level in (found, split_level):
            raise UsageError(
                f"expected --group-from folder at another level than the classes and the split, got level {group_level}"
            )
    levels = FolderLevels(found, split_level, splits, group_level)
    _refuse_split_classes(root, {levels.label(folder) for folder in labelled})
    return levels


def describe_levels(root: Path, counts: Counter[Folder], levels: FolderLevels) -> SourceReading:
    """How a tree was read: in words, with the levels that were not used."""
    name = root.resolve().name
    depths = {len(levels.class_folder(folder)) for folder in counts}
    at = f"level {depths.pop()}" if len(depths) == 1 else f"levels {min(depths)} to {max(depths)}"
    splits = NO_SPLIT
    if levels.splits:
        splits = "folders " + ", ".join(
            f"{folder}/" + ("" if folder.lower() == split else f" as {split}")
            for folder, split in sorted(levels.splits.items())
        )
    unused = []
    offered = ""
    for level, names in _level_names(counts).items():
        is_class = level == levels.class_level or (
            levels.class_level is None and level == max(map(len, counts))
        )
        if is_class or level in (levels.split_level, levels.group_level):
            continue
        patients = _are_many_small(names, counts) or any(map(_OWNER.match, names))
        listed = f": {', '.join(sorted(names))}" if len(names) <= _NAMED and not patients else ""
        unused.append(f"folder level {level} ({counted(len(names), 'name')}{listed})")
        if not offered and len(names) > _NAMED and _are_many_small(names, counts):
            offered = f"; --group-from folder:{level} keeps the images of each of the {len(names)} folders of level {level} together"
    groups = NO_GROUPS + offered if levels.group_level is None else f"folder level {levels.group_level}"
    return SourceReading(f"folder {at} below {name}/", groups, splits, tuple(unused))


def _level_names(counts: Iterable[Folder]) -> dict[int, set[str]]:
    """Level → the names of its folders."""
    names: dict[int, set[str]] = defaultdict(set)
    for folder in counts:
        for level, name in enumerate(folder, start=1):
            names[level].add(name)
    return dict(names)


def _refuse_copies(root: Path, counts: Iterable[Folder]) -> None:
    """Refuse a folder that holds folders named like its neighbours, as some archives unpack twice."""
    inside: dict[Folder, set[str]] = defaultdict(set)
    for folder in counts:
        for level in range(len(folder)):
            inside[folder[:level]].add(folder[level])
    for parent, names in inside.items():
        for name in sorted(names):
            copied = names - {name}
            if len(copied) > 1 and copied <= inside.get((*parent, name), set()):
                above = root.joinpath(*parent)
                raise DataError(
                    f"expected each image once, but {above} holds {sample_of(sorted(copied))}, and its folder {name} holds "
                    f"folders of the same names: it looks like a copy of the whole set; give the folder "
                    f"{above / name} instead, or remove it"
                )


def _find_split(root: Path, counts: Iterable[Folder]) -> tuple[int | None, dict[str, str]]:
    """The level of split folders and what they mean."""
    found: tuple[int | None, dict[str, str]] = (None, {})
    listed = list(counts)
    for level, names in _level_names(listed).items():
        splits = split_folders(names)
        if not splits:
            continue
        others = sorted(names - set(splits))
        short = [folder for folder in listed if len(folder) < level]
        if others or short:
            named = ", ".join(f"{name}/" for name in splits)
            rest = (
                f"mixed with others ({sample_of([f'{name}/' for name in others])})"
                if others
                else f"missing in {sample_of(['/'.join(folder) or str(root) for folder in short])}, where images lie as well"
            )
            inside = _with_classes(listed, level, others, splits)
            instead = f"give one of the folders instead, such as {root.joinpath(*inside)}, " if inside else ""
            raise DataError(
                f"at folder level {level} of {root} names of a split ({named}) are "
                f"{rest}; {instead}move the others elsewhere, or rename a class that is called like a split"
            )
        if found[0] is not None:
            before = found[0] - 1
            if any(found[1][folder[before]] != splits[folder[level - 1]] for folder in listed):
                raise DataError(
                    f"the folder levels {found[0]} and {level} of {root} both name a split, and they differ; rename one of them"
                )
            continue
        found = (level, splits)
    return found


def _with_classes(
    folders: Sequence[Folder], level: int, others: Sequence[str], splits: Mapping[str, str]
) -> Folder:
    """A folder at a level that holds folders itself: one that is no split, else the training set; empty if none does."""
    preferred = (*others, *(name for name, split in splits.items() if split == "train"))
    holding = {folder[level - 1]: folder[:level] for folder in folders if len(folder) > level}
    return next((holding[name] for name in preferred if name in holding), ())


def _is_unlabelled(folder: Folder, split_level: int | None, splits: Mapping[str, str]) -> bool:
    return split_level is not None and splits.get(folder[split_level - 1]) == UNLABELLED


def _refuse_strays(
    root: Path, files: Sequence[Path], folders: Iterable[Folder], split_level: int | None, kind: str
) -> None:
    """Refuse images that lie in no folder, or directly in that of a split."""
    outside = {folder for folder in folders if not folder or (len(folder) == 1 and split_level == 1)}
    if not outside:
        return
    stray = [file.as_posix() for file in files if file.parts[:-1] in outside]
    rest = sorted(folder[0] for folder in folders if folder not in outside and split_level == 1)
    instead = f"; or give {root / rest[0]} alone" if rest else ""
    raise DataError(
        f"expected every {kind} of {root} in the folder of its class, but {len(stray)} of {len(files)} lie outside "
        f"({sample_of(stray)}); move them, or add a labels.csv with the columns image and label{instead}"
    )


def _given_level(
    root: Path, counts: Mapping[Folder, int], split_level: int | None, class_level: int | str
) -> int | None:
    if class_level == DEEPEST:
        depths = {len(folder) - (len(folder) == split_level) for folder in counts}
        return depths.pop() if len(depths) == 1 else None
    try:
        level = int(class_level)
    except ValueError:
        raise UsageError(f"expected --class-level as a number or {DEEPEST}, got {class_level!r}") from None
    _check_level(root, counts, level, "--class-level")
    if level == split_level:
        raise DataError(
            f"expected classes at folder level {level} of {root}, but its folders are named like a split of the data; "
            f"give another --class-level"
        )
    return level


def _check_level(root: Path, counts: Iterable[Folder], level: int, flag: str) -> None:
    above = ["/".join(folder) for folder in counts if len(folder) < level]
    if level < 1 or above:
        depths = {len(folder) for folder in counts}
        raise UsageError(
            f"expected {flag} from 1 to {min(depths)}, as images of {root} lie in folders of level {min(depths)}"
            f"{f' to {max(depths)}' if len(depths) > 1 else ''}, got {level}"
        )


def _infer_class_level(root: Path, counts: Mapping[Folder, int], split_level: int | None) -> int | None:
    """The level of the classes where there is one reading only."""
    depths = {len(folder) for folder in counts}
    names = _level_names(counts)
    # The folders of splits may repeat, as in train/train/benign.
    levels = [
        level
        for level in range(1, min(depths) + 1)
        if level != split_level
        and not (split_level and len(split_folders(names[level])) == len(names[level]))
    ]
    if not levels:
        raise DataError(f"expected folders of classes in {root}, but found folders of splits only")
    if len(depths) > 1:
        raise DataError(
            _several_readings(root, counts, [level for level in levels if len(names[level]) > 1], split_level)
        )
    varying = [
        level
        for level in levels
        if len(names[level]) > 1 and not all(_PLAIN.fullmatch(name) for name in names[level])
    ]
    if len(varying) < 2:
        return varying[0] if varying else levels[-1]
    lowest = varying[-1]
    above: dict[str, set[Folder]] = defaultdict(set)
    for folder in counts:
        above[folder[lowest - 1]].add(tuple(folder[level - 1] for level in varying[:-1]))
    if any(len(paths) > 1 for paths in above.values()) or _are_many_small(names[lowest], counts):
        raise DataError(_several_readings(root, counts, varying, split_level))
    return lowest


def _are_many_small(names: Iterable[str], counts: Mapping[Folder, int]) -> bool:
    """Whether folders look like patients or series: many, with few images, or named with numbers."""
    listed = list(names)
    numbered = sum(any(letter.isdigit() for letter in name) for name in listed)
    return (
        len(listed) > _MOST_CLASSES
        or sum(counts.values()) < _FEWEST_IMAGES * len(listed)
        or numbered > len(listed) / 2
    )


def _several_readings(
    root: Path, counts: Mapping[Folder, int], levels: Sequence[int], split_level: int | None
) -> str:
    """The message on a tree that can be read in several ways, with the options that choose."""
    names = _level_names(counts)
    depths = {len(folder) for folder in counts}
    readings, groups = [], []
    for level in levels:
        readings.append(f"--class-level {level}: {named_classes(sorted(names[level]), _SHOWN)}")
        if _are_many_small(names[level], counts):
            groups.append(
                f"; if the {len(names[level])} folders of level {level} are patients or series, add --group-from folder:{level}"
            )
    if len(depths) > 1:
        lowest = {folder[len(folder) - 1 - (len(folder) == split_level)] for folder in counts}
        readings.append(f"--class-level {DEEPEST}: {named_classes(sorted(lowest), _SHOWN)}")
    return (
        f"the folders of {root} can be read in several ways{_shared(counts, levels)}; choose the level of the classes: "
        f"{' | '.join(readings)}{''.join(groups)}"
    )


def _shared(counts: Mapping[Folder, int], levels: Sequence[int]) -> str:
    """Which names repeat below which folders, if some do."""
    if len(levels) < 2:
        return ""
    below: dict[str, set[str]] = defaultdict(set)
    for folder in counts:
        below[folder[levels[-1] - 1]].add(folder[levels[-2] - 1])
    repeated = {name: above for name, above in below.items() if len(above) > 1}
    if not repeated:
        return ""
    above = sorted(set.union(*repeated.values()))
    return f" ({sample_of(sorted(repeated))} repeat below {sample_of(above)})"


def _refuse_split_classes(root: Path, labels: set[str]) -> None:
    """Refuse classes that are named like splits, or alike but for the words of a split."""
    called = sorted(split_folders(labels) or {name for label in labels for name in split_folders([label])})
    if called:
        raise DataError(
            f"the classes {sample_of(called)} of {root} are named like a split of the data; give another --class-level, or "
            f"rename them"
        )
    plain: dict[str, list[str]] = defaultdict(list)
    for label in sorted(labels):
        plain[without_split_words(label)].append(label)
    for same in plain.values():
        if len(same) > 1 and any(map(split_words, same)):
            raise DataError(
                f"the folders {sample_of(same)} of {root} differ only by the name of a split; move them into folders named "
                f"train, val and test"
            )
