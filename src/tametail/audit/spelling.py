"""Whether two class names are one name in two spellings."""

from __future__ import annotations

import re
import unicodedata

_ROMAN = re.compile(r"[ivx]+[a-c]?")
_NEGATIONS = ("non", "un", "in", "im", "a", "an", "dis", "hyper", "hypo")
_LONG = 6  # letters from which one letter more or less, or two swapped, is taken for a slip


def same_word(left: str, right: str) -> bool:
    """Whether the names differ by no more than case, signs between words, British spelling, plural or a slip.

    Words with digits, single letters and Roman numerals are grades, stages and types: they have to be equal.
    """
    a, b = _words(left), _words(right)
    if "".join(a) == "".join(b) and _signs(left) == _signs(right):
        return True
    if len(a) != len(b):
        return False
    differing = [(x, y) for x, y in zip(a, b, strict=True) if x != y]
    return len(differing) == 1 and _slip(*differing[0])


def _words(name: str) -> list[str]:
    """Words in lower case, without accents; digits keep the signs beside them."""
    plain = unicodedata.normalize("NFKD", name).casefold()
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    plain = re.sub(r"(?<![\d])[-./](?![\d])", " ", plain)  # between letters a sign is a blank
    words = re.sub(r"[\s_]+", " ", plain).split()
    return [word if _is_grade(word) else _stem(word) for word in words]


def _signs(name: str) -> list[str]:
    """Blanks that stand between digits or beside a lone letter: grade 1 1 is not grade 11."""
    return re.findall(r"\d[\s_]+\d", unicodedata.normalize("NFKC", name))


def _is_grade(word: str) -> bool:
    return len(word) == 1 or any(letter.isdigit() for letter in word) or bool(_ROMAN.fullmatch(word))


def _stem(word: str) -> str:
    """American and singular."""
    word = word.replace("ae", "e").replace("oe", "e")
    word = re.sub(r"our$", "or", word)
    return (
        word[:-1] if len(word) > 4 and word.endswith("s") and not word.endswith(("ss", "is", "us")) else word
    )


def _slip(left: str, right: str) -> bool:
    """Whether two words differ by one letter too many, or by two neighbours swapped."""
    if _is_grade(left) or _is_grade(right) or min(len(left), len(right)) < _LONG:
        return False
    short, long = sorted((left, right), key=len)
    if len(long) == len(short) + 1:
        if any(long == prefix + short for prefix in _NEGATIONS):
            return False
        return any(long[:at] + long[at + 1 :] == short for at in range(len(long)))
    apart = [at for at in range(len(short)) if len(short) == len(long) and left[at] != right[at]]
    return len(apart) == 2 and apart[1] == apart[0] + 1 and left[apart[0]] == right[apart[1]]
