"""Detection of class names that are two spellings of one name."""

from __future__ import annotations

import re
import unicodedata

_ROMAN = re.compile(r"[ivx]+[a-c]?")
_NEGATIONS = ("non", "un", "in", "im", "a", "an", "dis", "hyper", "hypo")
_LONG = 6  # least letters of a word in which an extra letter, or two swapped ones, count as a typing error


def same_word(left: str, right: str) -> bool:
    """Whether names differ only by case, punctuation, British spelling, plural or one typing error.

    Words with digits, single letters and Roman numerals are grades, stages and types, which must be equal.
    """
    a, b = _words(left), _words(right)
    if "".join(a) == "".join(b) and _spaced_digits(left) == _spaced_digits(right):
        return True
    if len(a) != len(b):
        return False
    differing = [(x, y) for x, y in zip(a, b, strict=True) if x != y]
    return len(differing) == 1 and _is_typing_error(*differing[0])


def _words(name: str) -> list[str]:
    """Words in lower case, without accents; punctuation between digits is kept."""
    plain = unicodedata.normalize("NFKD", name).casefold()
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    plain = re.sub(r"(?<![\d])[-./](?![\d])", " ", plain)  # punctuation between letters counts as a blank
    words = re.sub(r"[\s_]+", " ", plain).split()
    return [word if _is_grade(word) else _stem(word) for word in words]


def _spaced_digits(name: str) -> list[str]:
    """Digits with blanks between them: grade 1 1 is not grade 11."""
    return re.findall(r"\d[\s_]+\d", unicodedata.normalize("NFKC", name))


def _is_grade(word: str) -> bool:
    return len(word) == 1 or any(letter.isdigit() for letter in word) or bool(_ROMAN.fullmatch(word))


def _stem(word: str) -> str:
    """A word in American spelling and singular."""
    word = word.replace("ae", "e").replace("oe", "e")
    word = re.sub(r"our$", "or", word)
    return (
        word[:-1] if len(word) > 4 and word.endswith("s") and not word.endswith(("ss", "is", "us")) else word
    )


def _is_typing_error(left: str, right: str) -> bool:
    """Whether two words differ by one extra letter, or by two adjacent letters swapped."""
    if _is_grade(left) or _is_grade(right) or min(len(left), len(right)) < _LONG:
        return False
    short, long = sorted((left, right), key=len)
    if len(long) == len(short) + 1:
        if any(long == prefix + short for prefix in _NEGATIONS):
            return False
        return any(long[:at] + long[at + 1 :] == short for at in range(len(long)))
    differing = [at for at in range(len(short)) if len(short) == len(long) and left[at] != right[at]]
    return (
        len(differing) == 2 and differing[1] == differing[0] + 1 and left[differing[0]] == right[differing[1]]
    )
