r"""results.tex: numbers, bold of what is best as printed, and names that TeX would take for commands."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.label_study import write_label_study
from fixtures.tex_reader import read_tables
from tametail.report import read_results
from tametail.report.writers.latex import MOST_ACROSS, results_tex
from tametail.report.writers.latex_text import breakable, number_tex, tex

MakeStudy = Callable[..., Path]
ODD = ("*star", "[b] & c", "naïve 白血球 $x$ \\", "d_e%#~^{}", "f--g", "<script>|`'\"")
DOCUMENT = r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{results}\end{document}"


def plain(cell: str) -> str:
    return re.sub(r"\\textbf\{(.*)\}", r"\1", cell).removeprefix(r"{\scriptsize ").removesuffix("}")


def test_the_paper_s_table_has_the_numbers_of_results_csv(held_out_study: Path) -> None:
    tables = read_tables((held_out_study / "results.tex").read_text(encoding="utf-8"))
    assert len(tables) == 2
    rows = {r["method"]: r for r in csv.DictReader(io.StringIO((held_out_study / "results.csv").read_text()))}
    methods = [cell[cell.rindex("{") + 1 : -1] for cell in tables[1].rows[0][3:]]
    assert methods == ["alpa", "asl", "ce"]
    values = {row[0]: row for row in tables[1].rows[2::2]}
    limits = {
        above[0]: below for above, below in zip(tables[1].rows[2::2], tables[1].rows[3::2], strict=True)
    }
    for name in ("neutrophil", "smudge cell"):
        for place, method in enumerate(methods):
            recall, low, high = (float(rows[method][f"recall_{name}{end}"]) for end in ("", "_low", "_high"))
            assert plain(values[name][3 + 2 * place]) == f"{100 * recall:.1f}"
            assert plain(limits[name][3 + 2 * place]) == f"{100 * low:.1f}--{100 * high:.1f}"
            assert plain(values[name][4 + 2 * place]) == f"{float(rows[method][f'f1_{name}']):.2f}"
    assert next(iter(values)) == "neutrophil"
    assert "Balanced accuracy" in list(values)[-1]
    assert plain(tables[0].rows[1][2]) == f"{100 * float(rows['alpa']['balanced_accuracy']):.1f}"


def test_of_each_row_what_is_highest_as_printed_is_bold(held_out_study: Path) -> None:
    for row in read_tables((held_out_study / "results.tex").read_text(encoding="utf-8"))[1].rows[2::2]:
        for side in (3, 4):
            cells = row[side::2]
            printed = [float(plain(cell)) for cell in cells]
            assert [cell.startswith(r"\textbf") for cell in cells] == [v == max(printed) for v in printed]


def test_numbers_have_true_signs_and_dashes() -> None:
    assert number_tex("-0.10–0.20") == "$-$0.10--0.20"
    assert number_tex("−1.0 to +2.0") == "$-$1.0 to +2.0"
    assert number_tex("–") == "--"
    assert number_tex("< 0.001") == "$<$ 0.001"


@settings(deadline=None)
@given(st.text(max_size=30))
def test_any_name_is_one_cell(name: str) -> None:
    table = "\\begin{table}\\caption{}\\label{x}\\begin{tabular}{lr}\n" + tex(name) + " & 1 \\\\\n"
    read = read_tables(table + breakable(name) + " & 2 \\\\\n\\end{tabular}\\end{table}")
    assert [row[1] for row in read[0].rows] == ["1", "2"]


def test_names_are_set_as_they_are() -> None:
    assert tex("a_b & 5% #1 {x}") == r"a\_b \& 5\% \#1 \{x\}"
    assert tex("[*]") == "{[}{*}{]}"
    assert tex("x\ny\u202ez") == "x y z"
    assert tex("naïve") == "naïve"
    assert tex("α") == r"{\ifdefined\Umathchar α\else(U+03B1)\fi}"


def test_a_study_of_odd_names_is_read(make_study: MakeStudy) -> None:
    study = make_study(
        methods=("ce", "alpa[variant=code,preset=v1]", "=2+2", "ldam"),
        class_names=ODD,
        counts=(30, 30, 40, 60, 35, 45),
        test_set_evaluations=1,
        synthetic=True,
    )
    text = results_tex(read_results(study))
    tables = read_tables(text)
    assert len(tables) == 1 + 3 * 2, "more losses than fit are divided"
    assert all(len(table.columns) <= 3 + 2 * MOST_ACROSS for table in tables[1:])
    assert "Synthetic demo images" in text
    assert sum("ensemble of the fold models" in table.caption for table in tables) == 2
    assert all("made-up" not in table.caption for table in tables)


def test_a_multi_label_study_has_labels(tmp_path: Path) -> None:
    study = write_label_study(tmp_path / "study", test_set_evaluations=1, absent_from_test="scar")
    tables = read_tables(results_tex(read_results(study)))
    assert tables[1].rows[1][3:5] == (r"AP{,} \%", r"AUROC{,} \%")
    scar = next(row for row in tables[2].rows if row[0] == "scar")
    assert set(scar[3:]) == {"--"}


def test_unfinished_losses_are_named_in_a_comment(make_study: MakeStudy) -> None:
    study = make_study(methods=("alpa", "ce"))
    shutil.rmtree(study / "runs" / "alpa" / "seed0-fold1")
    text = results_tex(read_results(study))
    assert "% Not finished, and therefore not ranked: alpa: 2 of 3 runs finished" in text
    assert "alpa" not in "".join(line for line in text.splitlines() if not line.startswith("%"))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_pdflatex_sets_it(make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study(
        methods=("ce", "alpa[variant=code]"),
        class_names=ODD,
        counts=(30, 30, 40, 60, 35, 45),
        test_set_evaluations=1,
    )
    (tmp_path / "results.tex").write_text(results_tex(read_results(study)), encoding="utf-8")
    (tmp_path / "main.tex").write_text(DOCUMENT, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
