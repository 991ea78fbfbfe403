"""Measure again what docs/results shows: run its commands, and write their results into its pages.

    python scripts/results.py --ham10000 DATA/ham10000_224 --aptos DATA/aptos2019_gf224_dev
    python scripts/results.py --pages-only          the pages again, from the folders in runs/results
    (make results HAM10000=... APTOS=...)

A page has its results between ``<!-- results: NAME -->`` and ``<!-- end -->``; all other text is written by hand. Folders of
finished studies in runs/results are continued, so that an interrupted run of this script costs only what was not finished.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tametail.core.errors import TametailError
from tametail.evaluation import Estimate
from tametail.evaluation.calibration import calibration_of
from tametail.evaluation.calibration_maps import calibrate_out_of_fold
from tametail.evaluation.log_loss import log_losses
from tametail.evaluation.paired import Paired, against_one
from tametail.predictions.single_label import Predictions
from tametail.recommend import metric_text
from tametail.recommend.objective import OBJECTIVES
from tametail.report import read_results
from tametail.report.formatting import p_equals, p_value
from tametail.report.study.runs import find_runs
from tametail.report.writers.markdown_table import NUMBER, markdown_lines, markdown_text
from tametail.storage.study_file import read_study_file

ROOT = Path(__file__).resolve().parents[1]
RUNS, PAGES = Path("runs/results"), ROOT / "docs"
SETS = {"ham10000": "HAM10000", "aptos": "APTOS 2019"}
FOLDERS = {"ham10000": "DATA/ham10000_224", "aptos": "DATA/aptos2019_gf224_dev"}
ALL = (
    "alpa,asl,asl_single_label,apl,ral,hill,focal,focal_softmax,ce,ce+la,ce+la[tau=0.5],bce,weighted_ce,class_balanced,poly1,"
    "balanced_softmax,vs,lade,seql,label_aware_smoothing,ldam,alpa[variant=pade],alpa[variant=code],alpa[preset=v3],"
    "alpa[tau=1],bce[tau=1],logistic_regression,logistic_regression+la,logistic_regression+la[tau=0.5]"
)
CANDIDATE = "new_loss_variants:CountedPade[alpha=0.625,gamma_pos=0.105,gamma_neg=0.404,order=4/4,tau=1.356,kappa=0.26]"
REPRODUCED = (("table4", "ham10000"), ("table3", "aptos"), ("table2", "aptos"))
METRICS = ("balanced_accuracy", "macro_f1", "accuracy", "log_loss")
FINE_TUNED = "ce,ce+la,balanced_softmax,alpa"
_BLOCK = re.compile(r"(<!-- results: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def commands() -> dict[str, list[str]]:
    """The commands by the name of their folder in runs/results; DATA stands for the folder of the set that the name ends in."""
    offline = ["DATA", "--weights", "offline"]
    found = {}
    for name in SETS:
        longer = ["--set", "min_steps=1000"]
        found[f"all-{name}"] = ["compare", *offline, *longer, "--methods", ALL]
        found[f"own-{name}"] = [
            "compare",
            *offline,
            *longer,
            "--set",
            "features.stages=none",
            "--methods",
            ALL,
        ]
        found[f"new-loss-{name}"] = [
            "compare", *offline, "--methods", f"ce+la,balanced_softmax,bce[tau=1],alpa[tau=1],{CANDIDATE}",
        ]  # fmt: skip
        found[f"default-{name}"] = ["compare", *offline]
        for searched, more in (
            ("search", []),
            ("search-tau", ["--space", "tau=0:2"]),
            ("search-prior", ["--loss", "alpa[tau=1]"]),
        ):
            found[f"{searched}-{name}"] = ["search", *offline, "--trials", "50", *more]
        for objective in OBJECTIVES:
            found[f"recommend-{objective}-{name}"] = ["recommend", *offline, "--objective", objective]
    for table, name in REPRODUCED:
        found[f"{table}-{name}"] = [
            "reproduce", table, "--root", "DATA", "--recipe", "head", "--weights", "offline", "--no-test-set",
        ]  # fmt: skip
    halves = ["--folds", "2", "--repeats", "2", "--methods", FINE_TUNED]
    found["halves-ham10000"] = ["compare", *offline, *halves]
    found["quick-ham10000"] = ["compare", *offline, "--recipe", "quick", "--no-validate", *halves]
    return found


def run(folders: Mapping[str, Path], only: Sequence[str]) -> None:
    """Run the commands of the sets that are given, in the order in which they are listed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "scripts")])}
    for name, words in commands().items():
        data = folders.get(name.rsplit("-", 1)[1])
        if data is None or (only and name not in only):
            continue
        arguments = [str(data) if word == "DATA" else word for word in words]
        command = [sys.executable, "-m", "tametail", *arguments, "-o", str(RUNS / name)]
        print(shlex.join(command[2:]), flush=True)
        subprocess.run(command, check=True, env=environment)


def percent(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.1f} ({100 * estimate.low:.1f}–{100 * estimate.high:.1f})"


def points(paired: Paired) -> str:
    d = paired.difference
    mark = " *" if paired.verdict != "no significant difference" else ""
    return f"{100 * d.value:+.1f} ({100 * d.low:+.1f} to {100 * d.high:+.1f}){mark}"


def tables_of(name: str) -> dict[str, list[Predictions]]:
    """The out-of-fold predictions of each method of a study in runs/results, one table per repeat."""
    directory = RUNS / name
    runs = find_runs(directory, read_study_file(directory))
    return {each.method: each.replicates for each in runs if each.complete}


def command_of(name: str) -> str:
    """The command of a folder, as a block of code."""
    words = commands()[name]
    return "    " + shlex.join(["tametail", *words]).replace("DATA", FOLDERS[name.rsplit("-", 1)[1]], 1)


def all_losses(name: str) -> str:
    """All losses with features of all stages, beside the own features of the last layer."""
    full, own = read_results(RUNS / f"all-{name}"), read_results(RUNS / f"own-{name}")
    before = {result.method: result for result in own.methods}
    to_ce = against_one(tables_of(f"all-{name}"), "ce")
    n = full.counts.train_images
    header = ["Method", f"Balanced accuracy, % (n = {n:,})", "Difference from `ce`, points", "Accuracy, %", "Macro-F1", "Log-loss", "ECE, points", "Own features: balanced accuracy, %", "Accuracy, %"]  # fmt: skip
    rows = []
    for result in full.ranking:
        evaluation, calibration, old = (
            result.out_of_fold,
            result.calibration,
            before[result.method].out_of_fold,
        )
        assert evaluation
        assert calibration
        assert calibration.after
        assert old
        difference = to_ce.get(result.method)
        rows.append(
            [
                f"`{result.method}`",
                percent(evaluation["balanced_accuracy"]),
                points(difference.reversed()) if difference else "",
                f"{100 * evaluation['accuracy'].value:.1f}",
                f"{evaluation['macro_f1'].value:.2f}",
                f"{calibration.after.log_loss:.3f}",
                f"{100 * calibration.after.ece:.1f}",
                percent(old["balanced_accuracy"]),
                f"{100 * old['accuracy'].value:.1f}",
            ]
        )
    return command_of(f"all-{name}") + "\n\n" + markdown_lines(header, ["---", *[NUMBER] * 8], rows)


def calibration(name: str) -> str:
    """Uncalibrated and calibrated probabilities of each method."""
    header = ["Method", "Log-loss", "calibrated", "difference (standard error)", "ECE, points", "calibrated", "Class-wise ECE", "calibrated", "Slope", "calibrated", "Map for new images"]  # fmt: skip
    rows = []
    for method, tables in tables_of(f"all-{name}").items():
        calibrated = calibrate_out_of_fold(tables)
        found = calibration_of(tables, calibrated)
        after = found.after
        assert after is not None
        losses = [
            np.mean([log_losses(table.target, table.probabilities) for table in each], axis=0)
            for each in (tables, calibrated.tables)
        ]
        change = losses[1] - losses[0]
        rows.append(
            [
                f"`{method}`",
                f"{found.log_loss:.4f}",
                f"{after.log_loss:.4f}",
                f"{change.mean():+.4f} ({change.std() / len(change) ** 0.5:.4f})",
                *(
                    f"{scale * getattr(each, value):{form}}"
                    for value, scale, form in (
                        ("ece", 100, ".1f"),
                        ("class_wise_ece", 100, ".1f"),
                        ("slope", 1, ".2f"),
                    )
                    for each in (found, after)
                ),
                calibrated.map.summary,
            ]
        )
    rows.sort(key=lambda row: float(row[2]))
    return markdown_lines(header, ["---", *[NUMBER] * 9, "---"], rows)


def new_loss(name: str) -> str:
    """The methods of the new-loss protocol again, with the old candidate."""
    tables = tables_of(f"new-loss-{name}")
    names = {
        method: "candidate" if method.startswith("new_loss_variants") else f"`{method}`" for method in tables
    }
    candidate = next(method for method, said in names.items() if said == "candidate")
    compared = against_one(tables, candidate)
    results = {result.method: result for result in read_results(RUNS / f"new-loss-{name}").methods}
    rows = []
    for method in sorted(tables, key=lambda method: -(results[method].score or 0)):
        evaluation = results[method].out_of_fold
        assert evaluation is not None
        rows.append(
            [
                names[method],
                percent(evaluation["balanced_accuracy"]),
                f"{100 * evaluation['accuracy'].value:.1f}",
                points(compared[method]) if method in compared else "",
                f"{compared[method].p:.2g}" if method in compared else "",
            ]
        )
    n = len(next(iter(tables.values()))[0])
    header = ["Method", f"Balanced accuracy, % (n = {n:,})", "Accuracy, %", "Candidate minus it, points", "p"]
    return markdown_lines(header, ["---", *[NUMBER] * 4], rows)


def fine_tuning(name: str) -> str:
    """Fine-tuned networks beside heads on frozen features, on the same folds."""
    tuned, frozen = tables_of(f"quick-{name}"), tables_of(f"halves-{name}")
    results = {study: read_results(RUNS / f"{study}-{name}") for study in ("quick", "halves")}
    by_method = {study: {r.method: r for r in found.methods} for study, found in results.items()}
    rows = []
    for method, tables in tuned.items():
        both = [by_method[study][method] for study in ("quick", "halves")]
        pair = against_one({"fine-tuned": tables, "frozen": frozen[method]}, "fine-tuned")["frozen"]
        to_ce = against_one(tuned, "ce").get(method)
        cells = [f"`{method}`"]
        for result in both:
            evaluation, found = result.out_of_fold, result.calibration
            assert evaluation
            assert found
            assert found.after
            cells += [
                percent(evaluation["balanced_accuracy"]),
                f"{100 * evaluation['accuracy'].value:.1f}",
                f"{found.after.log_loss:.3f}",
            ]
        cells[4:4] = [points(to_ce.reversed()) if to_ce else ""]
        rows.append([*cells, points(pair)])
    header = ["Method", "Fine-tuned: balanced accuracy, %", "Accuracy, %", "Log-loss", "Difference from `ce`, points", "Frozen: balanced accuracy, %", "Accuracy, %", "Log-loss", "Fine-tuned minus frozen, points"]  # fmt: skip
    minutes = results["quick"].seconds / 60
    n = results["quick"].counts.train_images
    return "\n\n".join(
        [
            command_of(f"quick-{name}") + "\n" + command_of(f"halves-{name}"),
            markdown_lines(header, ["---", *[NUMBER] * 8], rows),
            f"n = {n:,} images, each predicted by a network trained on the other half, in two repeats. Training took {minutes:.0f} minutes in total.",
        ]
    )


def searches(_: str) -> str:
    """The nested searches."""
    header = ["Data set", "Searched", "Tuned, nested estimate, %", "Default, %", "Difference, points", "p", "Verdict", "Best cross-validation score", "Selection optimism"]  # fmt: skip
    labels = {
        "search": "α, β, γ+, γ-",
        "search-tau": "the same and τ",
        "search-prior": "α, β, γ+, γ- of `alpa[tau=1]`",
    }
    rows, values, done = [], [], []
    for kind, said in labels.items():
        for name, title in SETS.items():
            path = RUNS / f"{kind}-{name}" / "search.json"
            if not path.is_file():
                continue  # not run yet
            done.append(command_of(f"{kind}-{name}"))
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            result = content.get("result", content)
            nested, found = result["nested"]["balanced_accuracy"], result["best"]
            difference = nested["difference"]
            rows.append(
                [
                    f"{title} (n = {result['nested']['n']:,})",
                    said,
                    percent(Estimate(**nested["tuned"])),
                    percent(Estimate(**nested["default"])),
                    f"{100 * difference['value']:+.1f} ({100 * difference['low']:+.1f} to {100 * difference['high']:+.1f})",
                    f"{nested['p']:.2g}",
                    nested["verdict"],
                    f"{100 * found['score']:.1f}",
                    f"{100 * result['optimism']:.1f}",
                ]
            )
            for parameter, chosen in result["values"].items():
                values.append(
                    [
                        title, said, parameter, chosen["default"], chosen["best"],
                        ", ".join(chosen["folds"]),
                    ]
                )  # fmt: skip
    tables = [
        markdown_lines(header, ["---", "---", *[NUMBER] * 4, "---", NUMBER, NUMBER], rows),
        markdown_lines(["Data set", "Searched", "Parameter", "Default", "Best over all folds", "Chosen by the five outer folds"], ["---"] * 3 + [NUMBER] * 2 + ["---"], values),
    ]  # fmt: skip
    return "\n\n".join(["\n".join(done), *tables])


def reproduced(_: str) -> str:
    """What `tametail reproduce` says of each table, with its headings one level lower."""
    said = [command_of(f"{table}-{name}") for table, name in REPRODUCED]
    for table, name in REPRODUCED:
        text = (RUNS / f"{table}-{name}" / "reproduce.md").read_text(encoding="utf-8")
        text = text.replace("docs/paper.md of tametail", "[docs/paper.md](../paper.md)")
        said.append(re.sub(r"^#", "##", text, flags=re.MULTILINE))
    return "\n".join(said[:3]) + "\n\n" + "\n".join(said[3:])


def recommended(objective: str, name: str) -> Mapping[str, Any]:
    path = RUNS / f"recommend-{objective}-{name}" / "recommend.json"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def recommendations(_: str) -> str:
    """The nested estimate of each recommendation, in all metrics."""
    header = ["Data", "Objective", "Recommended (or best)", *map(metric_text.heading, METRICS), "Compared with ce, in the objective", "Chosen in folds"]  # fmt: skip
    rows = []
    for name, title in SETS.items():
        for key, objective in OBJECTIVES.items():
            content = recommended(key, name)
            for kind in ("nested", "nested_best"):
                nested = content[kind]
                against = nested["against_baseline"]
                difference = metric_text.difference_with_interval(
                    objective, Estimate(**against["difference"])
                )
                chosen = Counter(nested["selected_by_fold"]).most_common()
                rows.append(
                    [
                        title,
                        f"**{objective.title}**"
                        if kind == "nested"
                        else f"{objective.title}: the {objective.extreme}",
                        f"`{content['recommended' if kind == 'nested' else 'best']}`",
                        *(
                            metric_text.with_interval(metric, Estimate(**nested[metric]))
                            for metric in METRICS
                        ),
                        f"{difference}, p {p_equals(against['p'])}",
                        ", ".join(f"`{method}` in {folds}" for method, folds in chosen),
                    ]
                )
    used = "\n".join(command_of(f"recommend-{objective}-{name}") for name in SETS for objective in OBJECTIVES)
    return f"{used}\n\n" + markdown_lines(header, ["---"] * 3 + [NUMBER] * 5 + ["---"], rows)


def candidates(name: str) -> str:
    """All candidates where parameters are chosen for balanced accuracy."""
    content = recommended("balanced_accuracy", name)
    class_groups = list(content["candidates"][0]["recall_by_class_group"])
    rarest = class_groups[-1:] if len(class_groups) > 1 else []
    header = ["Candidate", *map(metric_text.heading, METRICS), *(f"Recall {group}-shot, %" for group in rarest), "Difference to ce, points", "p, Holm", "Below the best, SE"]  # fmt: skip
    rows = []
    for one in content["candidates"]:
        said = markdown_text(one["name"])
        if one["name"] == content["recommended"]:
            said = f"**{said}**"
        elif one["not_significantly_different_from_best"]:
            said += " ="
        if one["tuned"] and "chosen" in one["name"]:
            taus = [method.partition("tau=")[2].rstrip("]") or "1" for method in one["tuned"]["by_fold"]]
            on_all = one["tuned"]["on_all"].partition("tau=")[2].rstrip("]") or "1"
            by_fold = ", ".join(f"{tau} in {folds}" for tau, folds in Counter(taus).most_common())
            said += f", τ {on_all} (by fold: {by_fold})"
        against, below = one["against_baseline"], one["standard_errors_below_best"]
        difference = Estimate(**against["difference"]) if against else None
        rows.append(
            [
                said,
                *(metric_text.with_interval(metric, Estimate(**one[metric])) for metric in METRICS),
                *(percent(Estimate(**one["recall_by_class_group"][group])) for group in rarest),
                metric_text.difference_with_interval(OBJECTIVES["balanced_accuracy"], difference)
                if difference
                else "–",
                p_value(against["p_holm"]) if against else "–",
                "–" if one["against_best"] is None else f"{below:.2f}",
            ]
        )
    return markdown_lines(header, ["---", *[NUMBER] * (len(header) - 1)], rows)


BLOCKS: dict[str, tuple[Callable[[str], str], str]] = {
    **{f"all-losses-{name}": (all_losses, name) for name in SETS},
    **{f"calibration-{name}": (calibration, name) for name in SETS},
    **{f"new-loss-{name}": (new_loss, name) for name in SETS},
    "fine-tuning-ham10000": (fine_tuning, "ham10000"),
    "searches": (searches, ""),
    "reproduced": (reproduced, ""),
    "recommendations": (recommendations, ""),
    **{f"candidates-{name}": (candidates, name) for name in SETS},
}


def write_pages() -> None:
    """Replace the blocks of all pages under docs whose folders are there, and say which are not."""
    for page in sorted(PAGES.rglob("*.md")):
        text = page.read_text(encoding="utf-8")

        def block(match: re.Match[str], page: Path = page) -> str:
            make, name = BLOCKS[match[2]]
            try:
                return f"{match[1]}\n{make(name).strip(chr(10))}\n\n{match[3]}"
            except (OSError, KeyError, StopIteration, TametailError) as error:
                print(f"{page.name}: {match[2]} stays as it is ({error!r})")
                return match[0]

        written = _BLOCK.sub(block, text)
        if written != text:
            page.write_text(written, encoding="utf-8")
            print(f"{page.name} written")
    for name in SETS:
        study = RUNS / f"default-{name}"
        if (study / "results.md").is_file():
            page = PAGES / "results" / f"{markdown_text(name).replace(chr(92), '')}-head.md"
            page.write_text(
                f"{command_of(f'default-{name}')}\n\n" + (study / "results.md").read_text(encoding="utf-8")
            )


def main() -> None:
    """Read the arguments, run, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in SETS:
        parser.add_argument(f"--{name}", type=Path, help=f"folder of {SETS[name]}")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="only these of the commands")
    parser.add_argument("--pages-only", action="store_true")
    asked = parser.parse_args()
    if not asked.pages_only:
        run({name: path for name in SETS if (path := getattr(asked, name))}, asked.only)
    write_pages()


if __name__ == "__main__":
    main()
