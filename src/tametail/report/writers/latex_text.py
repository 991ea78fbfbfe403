"""Text and numbers that TeX sets as they are: names of losses and classes come from outside and may hold anything."""

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
    """Any text on one line, whichever engine reads it.

    Letters that pdfTeX does not have are set by XeTeX and LuaTeX, and named by their code points elsewhere.
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
    """The same, where a line may end after a comma, a plus or an equals sign, or before a bracket."""
    pieces = re.split(r"(?<=[,+=])|(?=\[)", str(text))
    return r"\allowbreak{}".join(tex(piece) for piece in pieces if piece.strip())


def interval_tex(estimate: Estimate, write: Callable[[float], str], between: str = "--") -> str:
    """``68.0--74.3``, or nothing where it is undefined."""
    if estimate.low != estimate.low:
        return ""
    return f"{signed(write(estimate.low))}{between}{signed(write(estimate.high))}"


def signed(number: str) -> str:
    """A number as it is printed, with a true minus sign; a dash where it is undefined."""
    if number == "–":
        return ABSENT_TEX
    return number.replace("−", "-").replace("-", "$-$")


def row_of_best(estimates: Sequence[Estimate], write: Callable[[float], str]) -> list[str]:
    """Values as printed, the highest bold; of several that are equal as printed, all. Alone, none is bold."""
    printed = [write(estimate.value) for estimate in estimates]
    defined = [estimate.value for estimate in estimates if estimate.value == estimate.value]
    best = write(max(defined)) if len(estimates) > 1 and defined else None
    return [rf"\textbf{{{signed(number)}}}" if number == best else signed(number) for number in printed]


def tabular(columns: str, header: Sequence[Sequence[str]], bodies: Sequence[Sequence[Sequence[str]]]) -> str:
    """A booktabs table of cells that are TeX already; a rule stands between two bodies."""
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *map(_line, header)]
    for body in bodies:
        lines += [r"\midrule", *map(_line, body)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _line(cells: Sequence[str]) -> str:
    if len(cells) == 1 and cells[0].startswith(r"\cmidrule"):
        return cells[0]
    return " & ".join(cells) + r" \\"
