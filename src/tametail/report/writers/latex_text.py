"""Escaped text and numbers for TeX: names of methods and classes may contain any character."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from tametail.evaluation import Estimate

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


def interval_tex(estimate: Estimate, write: Callable[[float], str], between: str = "--") -> str:
    """``68.0--74.3``, or nothing where it is undefined."""
    if estimate.low != estimate.low:
        return ""
    return f"{signed(write(estimate.low))}{between}{signed(write(estimate.high))}"


def signed(number: str) -> str:
    """A printed number with a true minus sign; a dash for an undefined one."""
    if number == "–":
        return ABSENT_TEX
    return number.replace("−", "-").replace("-", "$-$")


def row_of_best(estimates: Sequence[Estimate], write: Callable[[float], str]) -> list[str]:
    """Values as printed, the highest and those equal to it as printed in bold; a single value is not bold."""
    printed = [write(estimate.value) for estimate in estimates]
    defined = [estimate.value for estimate in estimates if estimate.value == estimate.value]
    best = write(max(defined)) if len(estimates) > 1 and defined else None
    return [rf"\textbf{{{signed(number)}}}" if number == best else signed(number) for number in printed]


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
