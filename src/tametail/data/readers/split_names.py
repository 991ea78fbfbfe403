"""Names of split folders: ``train``, ``Training_Set``, ``stage_2_test_images`` → train, val, test or unlabelled."""

from __future__ import annotations

import re
from collections.abc import Iterable

UNLABELLED = "unlabelled"  # images without a class, which no study can use
_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing", "holdout", "heldout"), "test"),
    **dict.fromkeys(("unlabelled", "unlabeled"), UNLABELLED),
    **dict.fromkeys(("dev", "development"), "development"),
    **dict.fromkeys(("eval", "evaluation"), "evaluation"),
}
# Words that may stand beside them, as in test_data_2 and stage_1_train_images.
_FILLERS = frozenset(
    [
        "set",
        "sets",
        "data",
        "dataset",
        "datasets",
        "image",
        "images",
        "img",
        "imgs",
        "input",
        "inputs",
        "stage",
        "phase",
        "split",
        "splits",
        "part",
        "folder",
        "original",
        "originals",
        "resized",
        "cropped",
        "final",
        "public",
        "private",
        "labelled",
        "labeled",
        "png",
        "jpg",
        "jpeg",
        "processed",
        "preprocessed",
        "all",
        "the",
        "of",
        "and",
        "for",
        "samples",
        "cases",
    ]
)
_JOINED = re.compile(
    rf"({'|'.join(sorted(_WORDS, key=len, reverse=True))})(set|sets|data|dataset|images|imgs|samples)"
)


def split_folders(names: Iterable[str]) -> dict[str, str]:
    """The names of sibling folders that stand for a split: name → ``train``, ``val``, ``test`` or ``unlabelled``.

    Words that all names share are ignored (``ISIC_train``, ``ISIC_test``). An evaluation set is the test set, or the
    validation set beside a test set; a development set is the training set, or the validation set beside a training set.
    """
    listed = sorted(set(names))
    words = {name: _words_of(name) for name in listed}
    shared = set.intersection(*map(set, words.values())) - set(_WORDS) if len(listed) > 1 else set()
    found = {
        name: kind for name in listed if (kind := _kind([one for one in words[name] if one not in shared]))
    }
    kinds = set(found.values())
    later = {
        "evaluation": "val" if "test" in kinds else "test",
        "development": "val" if "train" in kinds else "train",
    }
    return {name: later.get(kind, kind) for name, kind in found.items()}


def splits_of_files(parts: Iterable[str]) -> dict[str, str]:
    """The names of files, without their numbers, → their splits; empty unless all of them are names of splits."""
    listed = set(parts)
    found = split_folders(listed)
    return found if listed <= set(found) and UNLABELLED not in found.values() else {}


def split_words(name: str) -> list[str]:
    """The words for splits in a name: ``test_images_2`` → test."""
    return [word for word in _words_of(name) if word in _WORDS]


def without_split_words(name: str) -> str:
    """A name without the words for splits: ``train_benign`` → ``benign``."""
    return " ".join(word for word in _words_of(name) if word not in _WORDS)


def _kind(words: list[str]) -> str:
    """What the words say, or nothing if other words are among them or they contradict each other."""
    kinds = {_WORDS[word] for word in words if word in _WORDS}
    others = [
        word
        for word in words
        if word not in _WORDS and word not in _FILLERS and not word.isdigit() and len(word) > 1
    ]
    if others or not kinds:
        return ""
    if UNLABELLED in kinds:
        return UNLABELLED
    if kinds == {"train", "val"}:  # trainval: the folds are drawn from it
        return "train"
    return kinds.pop() if len(kinds) == 1 else ""


def _words_of(name: str) -> list[str]:
    """Words in lower case; capitals, digits, punctuation and known compounds (``trainset``, ``hold-out``) divide them."""
    parts = [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]+", name)]
    joined = re.sub(r"\b(hold|held) out\b", r"\1out", " ".join(parts))
    joined = re.sub(r"\bun label", "unlabel", joined)
    joined = re.sub(r"\btrain val\b|\btrainval\b", "train val", joined)
    words: list[str] = []
    for word in joined.split():
        compound = _JOINED.fullmatch(word)
        words += compound.groups() if compound else [word]
    return words
