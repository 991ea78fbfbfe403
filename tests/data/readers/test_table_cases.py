"""Tables that are not written as we would write them: they are read as they were meant, or refused with a command that does it.

Each refusal's suggested options are given to ``tametail inspect``, which must then count the right classes.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from cli.test_app import run
from fixtures.table_layouts import draw, write_table

LETTERS = "abc"


class Case(NamedTuple):
    """A layout; the options that are refused, and with what; those that the message suggests; and what they give."""

    write: Callable[[Path], Path]
    refused: str | None
    message: str | None
    suggested: str
    counts: dict[str, int]
    read: str = ""


def blank_rows(folder: Path) -> Path:
    rows = [[f"IDRiD_{at:03d}", at % 3, at % 2, "", ""] for at in range(1, 13)]
    draw(*(folder / f"{row[0]}.jpg" for row in rows))
    header = ["Image name", "Retinopathy grade", "Risk of macular edema ", "", ""]
    return write_table(folder / "labels.csv", header, [*rows, [""] * 5, [""] * 5])


def other_case(folder: Path) -> Path:
    draw(*(folder / "Nel" / f"Nel{at:03d}.jpg" for at in range(12)))
    rows = [[f"NEL/NEL{at:03d}.JPG", LETTERS[at % 2]] for at in range(12)]
    return write_table(folder / "labels.csv", ["image", "label"], rows)


def commas_in_names(folder: Path) -> Path:
    names = ["Carcinoma, ductal", "Carcinoma, lobular", "Normal"]
    draw(*(folder / f"g{at}.png" for at in range(12)))
    rows = [[f"g{at}.png", names[at % 3]] for at in range(12)]
    return write_table(folder / "labels.csv", ["image", "label"], rows)


def several_folders(folder: Path) -> Path:
    draw(*(folder / f"imgs_part_{at % 3 + 1}" / f"PAT_{at}.png" for at in range(24)))
    rows = [[f"PAT_{at}.png", LETTERS[at % 2]] for at in range(24)]
    return write_table(folder / "labels.csv", ["image", "label"], rows)


def lists_as_text(folder: Path) -> Path:
    lists = ["['normal']", "['cardiomegaly', 'pleural effusion']", '["cardiomegaly"]', "[]"]
    draw(*(folder / f"g{at}.png" for at in range(12)))
    return write_table(
        folder / "labels.csv", ["image", "label"], [[f"g{at}.png", lists[at % 4]] for at in range(12)]
    )


def second_table(folder: Path) -> Path:
    names = [f"ISIC_{at:07d}" for at in range(12)]
    draw(*(folder / "ISIC_2019_Training_Input" / f"{name}.jpg" for name in names))
    lesions = [[name, 55, f"MSK4_{at // 4}"] for at, name in enumerate(names)]
    write_table(folder / "Metadata.csv", ["image", "age_approx", "lesion_id"], lesions[::-1])
    hot = [[name, *(float(at % 3 == k) for k in range(3))] for at, name in enumerate(names)]
    return write_table(folder / "GroundTruth.csv", ["image", "MEL", "NV", "BCC"], hot)


def row_per_reader(folder: Path) -> Path:
    """Images 0 and 1 are a by both readers, 2 is a and b, 3 is b by both and c by one; 4 is c."""
    rows = [
        ("g0", "a", "R8"), ("g0", "a", "R9"), ("g1", "a", "R8"), ("g1", "a", "R9"), ("g2", "a", "R8"), ("g2", "b", "R9"),
        ("g3", "b", "R8"), ("g3", "c", "R8"), ("g3", "b", "R9"), ("g4", "c", "R9"),
    ]  # fmt: skip
    draw(*(folder / f"g{at}.png" for at in range(5)))
    return write_table(folder / "labels.csv", ["image", "label", "rad_id"], rows)


def joined_names(folder: Path) -> Path:
    names = ["No Finding", "Effusion", "Effusion|Emphysema", "Emphysema"]
    draw(*(folder / f"g{at}.png" for at in range(24)))
    rows = [[f"g{at}.png", names[at % 4], f"P{at}"] for at in range(24)]
    return write_table(folder / "labels.csv", ["image", "label", "group"], rows)


def dead_links(folder: Path) -> Path:
    draw(*(folder / f"g{at}.jpg" for at in range(12) if at != 5))
    rows = [[f"g{at}.jpg", LETTERS[at % 2] if at != 8 else ""] for at in range(12)]
    return write_table(folder / "labels.csv", ["image", "label"], rows)


def no_header(folder: Path) -> Path:
    draw(*(folder / f"g{at}.png" for at in range(12)))
    return write_table(folder / "gt.csv", None, [[f"g{at}.png", LETTERS[at % 2]] for at in range(12)])


def no_header_or_extensions(folder: Path) -> Path:
    draw(*(folder / f"mdb{at:03d}.png" for at in range(12)))
    (folder / "info.txt").write_text("".join(f"mdb{at:03d} G {LETTERS[at % 2]}\n" for at in range(12)))
    return folder / "info.txt"


def uncertain(folder: Path) -> Path:
    marks = ["", "0.0", "-1.0"]
    rows = [
        [f"g{at}.jpg", *("1.0" if at % 3 == k else marks[(at + k) % 3] for k in range(3))] for at in range(12)
    ]
    draw(*(folder / str(row[0]) for row in rows))
    return write_table(folder / "train.csv", ["Path", "Edema", "Mass", "None"], rows)


GRADES = '--image-col "Image name" --label-col "Retinopathy grade"'
FINDINGS = "--image-col Path --label-cols Edema,Mass,None"
CASES = {
    "blank rows at the end": Case(
        blank_rows, None, None, GRADES, {"0": 4, "1": 4, "2": 4}, "2 blank rows of labels.csv"
    ),
    "another case": Case(
        other_case, None, None, "", {"a": 6, "b": 6}, "12 images found by name in another case"
    ),
    "commas in names": Case(
        commas_in_names,
        "--multi-label",
        "split at ',': Carcinoma, ductal → Carcinoma + ductal; .* --label-sep '|'",
        "--multi-label --label-sep '|'",
        {"Carcinoma, ductal": 4, "Carcinoma, lobular": 4, "Normal": 4},
    ),
    "several folders": Case(
        several_folders,
        None,
        None,
        "",
        {"a": 12, "b": 12},
        "24 images found by name in other folders (imgs_part_1/, imgs_part_2/, imgs_part_3/)",
    ),
    "lists as text": Case(
        lists_as_text,
        "",
        "unsafe: 4 classes look like several labels written as lists: .*--multi-label",
        "--multi-label",
        {"cardiomegaly": 6, "normal": 3, "pleural effusion": 3},
        "column 'label' (lists)",
    ),
    "a second table": Case(
        second_table,
        "--label-cols MEL,NV,BCC",
        "Metadata.csv, with the columns age_approx, lesion_id of 12 of the images .--metadata",
        "--label-cols MEL,NV,BCC --metadata {folder}/Metadata.csv --group-col lesion_id",
        {"BCC": 4, "MEL": 4, "NV": 4},
        "column 'lesion_id'",
    ),
    "a row per reader, all labels": Case(
        row_per_reader,
        "",
        "4 images are listed .*--multi-label --join-rows union",
        "--multi-label --join-rows union",
        {"a": 3, "b": 2, "c": 2},
        "values of rad_id where the rows of an image differ",
    ),
    "a row per reader, majority": Case(
        row_per_reader,
        "--multi-label",
        "4 images are listed .*--join-rows majority .with --reader-col",
        "--multi-label --join-rows majority --reader-col rad_id",
        {"a": 2, "b": 1, "c": 1},
        "majority of the readers",
    ),
    "a row per reader, one label": Case(
        row_per_reader,
        "--join-rows majority",
        "1 images .* no most frequent one .*--missing skip",
        "--join-rows majority --missing skip",
        {"a": 2, "b": 1, "c": 1},
        "1 image without a most frequent label",
    ),
    "joined names": Case(
        joined_names,
        "",
        "unsafe: 1 class looks like several labels joined by '.': .*--multi-label",
        "--multi-label",
        {"Effusion": 12, "Emphysema": 12, "No Finding": 6},
    ),
    "absent images": Case(
        dead_links,
        "",
        "1 of 12 rows .* no label .*--missing skip",
        "--missing skip",
        {"a": 5, "b": 5},
        "1 row without a label; 1 row whose image file is absent",
    ),
    "no header": Case(
        no_header,
        "--image-col g0.png --label-col a",
        "first row .* looks like data .g0.png, a.*--no-header --image-col 1 --label-col 2",
        "--no-header --image-col 1 --label-col 2",
        {"a": 6, "b": 6},
    ),
    "no header, blanks": Case(
        no_header_or_extensions,
        "",
        "first row .* looks like data .mdb000, G, a.*--no-header --image-col 1 --label-col",
        "--no-header --image-col 1 --label-col 3",
        {"a": 6, "b": 6},
    ),
    "unknown labels": Case(
        uncertain,
        f"{FINDINGS} --multi-label",
        "8 cells in 8 rows hold -1 .*--uncertain ignore, zero or one.* 8 cells in 8 rows are blank .*--blank ignore or zero",
        f"{FINDINGS} --multi-label --uncertain ignore --blank zero",
        {"Edema": 4, "Mass": 4, "None": 4},
        "8 uncertain (-1) labels are unknown, and left out of losses and metrics; 8 blank labels are taken as 0",
    ),
    "uncertain labels as 1": Case(
        uncertain,
        FINDINGS,
        "ignore needs --multi-label",
        f"{FINDINGS} --multi-label --uncertain one --blank ignore",
        {"Edema": 8, "Mass": 4, "None": 8},
        "8 blank labels are unknown",
    ),
}


def inspect(table: Path, words: str) -> tuple[str, dict[str, int], str]:
    """What the command prints, the classes with their counts, and the text of how the table was read."""
    given = shlex.split(words.format(folder=table.parent))
    code, output, errors = run("inspect", table, *given, "--json", "--quiet")
    content = json.loads(output)
    if "error" in content:
        assert code == 3
        return content["error"], {}, ""
    findings = [f"{one['severity']}: {one['message']} {one['advice']}" for one in content["findings"]]
    reading = "; ".join(
        text if isinstance(text, str) else "; ".join(text) for text in content["reading"].values()
    )
    counts = {one["name"]: one["images"] for one in content["classes"]}
    return re.sub(r"\s+", " ", "\n".join([*findings, reading, errors])), counts, reading


@pytest.mark.parametrize("name", CASES)
def test_the_right_classes_are_read_with_what_the_message_suggests(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    table = case.write(tmp_path)
    if case.refused is not None:
        assert case.message is not None
        said, counts, _ = inspect(table, case.refused)
        assert re.search(case.message, said), said
        assert counts != case.counts or "Metadata" in said
    said, counts, reading = inspect(table, case.suggested)
    assert counts == case.counts, said
    assert case.read in reading
    assert "several labels" not in said.replace("(several labels", "")


@pytest.mark.parametrize("name", CASES)
def test_a_column_less_or_a_stray_file_more_is_noticed(tmp_path: Path, name: str) -> None:
    """Nothing that lies there is ignored in silence."""
    case = CASES[name]
    table = case.write(tmp_path)
    before = inspect(table, case.suggested)
    images = sorted(path for path in tmp_path.rglob("*") if path.suffix in {".jpg", ".png"})
    draw(images[0].with_name("stray.png"))
    after = inspect(table, case.suggested)
    assert after[1] == before[1]
    assert after[2] != before[2]
    assert "1 image file that no row names" in after[2]
    if "header" in name:  # without names no column is missed by its name, but by its position
        return
    lines = table.read_text(encoding="utf-8").splitlines()
    header = lines[0].split(",")
    named = [at for at, column in enumerate(header) if column]
    for at in named:
        rows = [
            [cell for k, cell in enumerate(row) if k != at]
            for row in csv.reader(io.StringIO("\n".join(lines)))
        ]
        write_table(table, None, rows)
        assert inspect(table, case.suggested)[1:] != after[1:], header[at]
