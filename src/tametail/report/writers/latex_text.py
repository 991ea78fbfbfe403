"""Escaped text and numbers for TeX: names of methods and classes may contain any character."""

from __future__ import annotations

import re
from collections.abc import Sequence

ABSENT_TEX = "--"
# Brackets and stars would be options of the \\ before them; < > | and hyphens in a row are other letters in TeX's old fonts.
_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "[": "{[}", "]": "{]}", "*": "{*}", "`": r"\`{}", "'": "{'}", '"': "{''}", "-": "{-}",
    ",": "{,}", "?": "{?}", "!": "{!}",
}  # fmt: skip
_LATIN = "".join(map(chr, range(0xC0, 0x100))).translate(dict.fromkeys(map(ord, "ÐÞðþ×÷")))
_OTHER = re.compile(rf"[^\x20-\x7e{_LATIN}]+")


def tex(text: str) -> str:
    """The text on one line, escaped for every TeX engine.

    Characters that pdfTeX lacks are printed by XeTeX and LuaTeX, and replaced by their code points elsewhere.
    """
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in str(text)).split())
    parts, end = [], 0
    for found in _OTHER.finditer(text):
        parts += [_ascii(text[end : found.start()]), _by_engine(found.group())]
        end = found.end()
    return "".join([*parts, _ascii(text[end:])])


def _ascii(text: str) -> str:
    return "".join(_SPECIAL.get(letter, letter) for letter in text)


def _by_engine(letters: str) -> str:
    codes = " ".join(f"U+{ord(letter):04X}" for letter in letters)
    return rf"{{\ifdefined\Umathchar {letters}\else({codes})\fi}}"


def breakable(text: str) -> str:
    """The same, with line breaks allowed after a comma, a plus or an equals sign, and before a bracket."""
    pieces = re.split(r"(?<=[,+=])|(?=\[)", str(text))
    return r"\allowbreak{}".join(tex(piece) for piece in pieces if piece.strip())


def number_tex(text: str) -> str:
    """A printed number, range or p value with true minus signs; a dash for an undefined one."""
    if text == "–":
        return ABSENT_TEX
    text = text.replace("−", "$-$").replace("–", ABSENT_TEX)
    return re.sub(r"^(-)(?=\d)", "$-$", text).replace("<", "$<$").replace("%", r"\%")


def tabular(columns: str, header: Sequence[Sequence[str]], bodies: Sequence[Sequence[Sequence[str]]]) -> str:
    """A booktabs table of cells that are TeX already, with a rule between two bodies."""
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *map(_line, header)]
    for body in bodies:
        lines += [r"\midrule", *map(_line, body)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _line(cells: Sequence[str]) -> str:
    if len(cells) == 1 and cells[0].startswith(r"\cmidrule"):
        return cells[0]
    return " & ".join(cells) + r" \\"
