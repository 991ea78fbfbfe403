"""Does a variant of ALPA outperform balanced softmax and logit-adjusted cross-entropy? Protocol: docs/results/new-loss.md.

    python scripts/new_loss.py try --ham STUDY --aptos STUDY -o FOLDER      train all configurations of all families
    python scripts/new_loss.py table --ham STUDY --aptos STUDY -o FOLDER    choose in nested folds, and print the tables
    python scripts/new_loss.py confirm --ham STUDY --aptos STUDY -o FOLDER --candidate FAMILY    once: the test sets

STUDY is a folder made by ``tametail compare DATA --recipe head --weights offline --folds 5``. Finished trainings are
reused. ``try`` also accepts only one of the two studies, so that both can run in parallel. ``table`` and ``confirm`` need the
trainings of all families and seeds.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from new_loss_choice import (
    SEEDS,
    Compared,
    Family,
    all_configurations,
    balanced_accuracy,
    compare,
    configuration,
    default_of,
    described,
    percent,
    points,
    rivals_of,
    trial_file,
)
from new_loss_families import (
    ALSO_COMPARED,
    CONFIGURATIONS,
    FAMILIES,
    REFERENCES,
    RIVALS,
    Configuration,
    configurations,
)
from new_loss_trials import Ints, Part, cross_validated, load, trained

from tametail.core.errors import UsageError
from tametail.training.recipe import load_recipe
from tametail.training.strategies import parse_method

CONFIRMING_SEEDS = (0, 1, 2, 3, 4)
ORIENTATION = ("pade, prior, cosine",)
AS_THEY_COME = ("ce+la", "balanced_softmax", "alpa")
Predicted = dict[str, dict[str, Ints]]


def try_all(parts: dict[str, Part], out: Path, families: list[str], seeds: list[int]) -> None:
    """Train the missing configurations, all families of a set and seed together; one file per set, family and seed."""
    out.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        for name, part in parts.items():
            start = time.monotonic()
            missing = [each for each in families if not trial_file(out, name, each, seed).exists()]
            if "references" in missing:
                missing.remove("references")
                found = cross_validated(_plain(REFERENCES), part, seed, nested=False, usual=True)
                np.savez_compressed(trial_file(out, name, "references", seed), **found)
            configured = [each for family in missing for each in configurations(family)]
            if not configured:
                continue
            found = cross_validated(configured, part, seed, nested=seed == SEEDS[0])
            for at, family in enumerate(missing):
                own = slice(at * CONFIGURATIONS, (at + 1) * CONFIGURATIONS)
                of_family = {"predicted": found["predicted"][own]}
                if "inner" in found:
                    of_family["inner"] = found["inner"][:, :, own]
                np.savez_compressed(trial_file(out, name, family, seed), **of_family)
            print(f"{name}, seed {seed}: {time.monotonic() - start:.0f} s", flush=True)


def _plain(methods: tuple[str, ...]) -> list[Configuration]:
    """Methods with their default parameters and the settings of the recipe."""
    return [Configuration(parse_method(text), load_recipe("head")) for text in methods]


def report(parts: dict[str, Part], out: Path) -> str:
    """Nested estimates and choices of all families, and their differences from the tuned rivals."""
    families = [Family.read(out, name, parts) for name in FAMILIES]
    nested = {family.name: family.nested(parts)[0] for family in families}
    n = {name: len(part.target) for name, part in parts.items()}
    lines = [
        f"| family | defaults: HAM10000 | APTOS | nested: HAM10000 (n = {n['ham']:,}) | APTOS (n = {n['aptos']:,}) | mean |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for family in families:
        usual = [balanced_accuracy(part, default_of(family, name)) for name, part in parts.items()]
        found = [balanced_accuracy(part, nested[family.name][name]) for name, part in parts.items()]
        mean = 100 * np.mean([each.value for each in found])
        cells = [f"{100 * each.value:.1f}" for each in usual] + [percent(each) for each in found]
        if family.name.endswith("weaker"):  # the usual reading is not among its own
            cells[: len(usual)] = [""] * len(usual)
        lines.append(f"| {family.name} | {' | '.join(cells)} | {mean:.1f} |")
    references = Family.read(out, "references", parts)
    for at, text in enumerate(REFERENCES):
        of_sets = [
            balanced_accuracy(part, references.predicted[name][:, at, 0]) for name, part in parts.items()
        ]
        lines.append(f"| {text} | {' | '.join(f'{100 * each.value:.1f}' for each in of_sets)} | | | |")
    lines += ["", "| family | chosen over all five folds, for both sets |", "|---|---|"]
    lines += [f"| {each.name} | {described(each.name, each.chosen(parts))} |" for each in families]
    variants = [name for name in FAMILIES if name not in (*RIVALS, *ALSO_COMPARED)]
    lines += ["", *_by_family(compare(parts, nested, _pairs([*ALSO_COMPARED, *variants])))]
    (out / "configurations.csv").write_text(all_configurations(families, parts), encoding="utf-8")
    return "\n".join(lines) + "\n"


def _pairs(families: list[str]) -> list[tuple[str, str]]:
    """Each family with the rivals it is compared with."""
    return [(family, rival) for family in families for rival in rivals_of(family) if rival != family]


def _by_family(found: list[Compared]) -> list[str]:
    """Differences with a row for each family and set, significant ones marked."""
    rivals = list(dict.fromkeys(c.b for c in found))
    lines = [f"| | on | {' | '.join(rivals)} |", "|---|---|" + "---:|" * len(rivals)]
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for c in found:
        told = "" if c.verdict == "no significant difference" else f" **{c.verdict}**"
        rows.setdefault((c.a, c.of_set), {})[c.b] = points(c) + told
    for (family, of_set), cells in rows.items():
        lines.append(f"| {family} | {of_set} | {' | '.join(cells.get(rival, '') for rival in rivals)} |")
    return [*lines, "", f"Corrected for all {len(found)} comparisons of the table."]


def _differences(found: list[Compared]) -> list[str]:
    lines = [
        "| | compared with | data set | difference, points | p | p, Holm | verdict |",
        "|---|---|---|---:|---:|---:|---|",
    ]
    return lines + [
        f"| {c.a} | {c.b} | {c.of_set} | {points(c)} | {c.paired.p:.2g} | {c.p_holm:.2g} | {c.verdict} |"
        for c in found
    ]


def confirm(parts: dict[str, Part], tests: dict[str, Part], out: Path, candidates: list[str]) -> str:
    """Train the chosen configurations on the whole development sets, and evaluate them on the test sets."""
    tuned = list(dict.fromkeys([*candidates, *RIVALS, *ALSO_COMPARED, *ORIENTATION]))
    choices = [Family.read(out, name, parts).chosen(parts) for name in tuned]
    configured = [configuration(name, choice) for name, choice in zip(tuned, choices, strict=True)]
    usual = [f"{text} (as it comes)" for text in AS_THEY_COME]
    predicted: Predicted = {name: {} for name in (*tuned, *usual)}
    for of_set, part in parts.items():
        rows, features = np.arange(len(part.target)), tests[of_set].features
        found = []
        for seed in CONFIRMING_SEEDS:
            own = trained(configured, part, rows, features, (seed, part.folds))
            plain = trained(_plain(AS_THEY_COME), part, rows, features, (seed, part.folds), usual=True)
            chosen = [own[at, reading] for at, (_, reading) in enumerate(choices)]
            found.append([*chosen, *plain[:, 0]])
        for name, of_seeds in zip(predicted, zip(*found, strict=True), strict=True):
            predicted[name][of_set] = np.stack(of_seeds)
    np.savez_compressed(
        out / "confirmed.npz",
        **{f"{name}@{s}": p for name, sets in predicted.items() for s, p in sets.items()},
    )
    n = {name: len(part.target) for name, part in tests.items()}
    lines = [
        f"| method | HAM10000, test (n = {n['ham']}) | APTOS, test (n = {n['aptos']}) |",
        "|---|---:|---:|",
    ]
    for name, of_sets in predicted.items():
        cells = [percent(balanced_accuracy(tests[of_set], found)) for of_set, found in of_sets.items()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    primary = _pairs(candidates)
    secondary = [(a, b) for a in candidates for b in predicted if a != b and (a, b) not in primary]
    lines += ["", "Primary, corrected for these alone:", ""]
    lines += [*_differences(compare(tests, predicted, primary)), "", "Other comparisons:", ""]
    return "\n".join([*lines, *_differences(compare(tests, predicted, secondary))]) + "\n"


def main() -> None:
    """Run one of the three commands."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("try", "table", "confirm"))
    parser.add_argument("--ham", type=Path)
    parser.add_argument("--aptos", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--families", nargs="*", default=[*FAMILIES, "references"])
    parser.add_argument("--random-seeds", nargs="*", type=int, default=list(SEEDS))
    parser.add_argument("--candidate", nargs="*", default=[])
    chosen = parser.parse_args()
    torch.set_num_threads(1)  # heads are too small to benefit from several threads
    studies = {name: path for name in ("ham", "aptos") if (path := getattr(chosen, name))}
    parts = {name: load(path) for name, path in studies.items()}
    if chosen.what == "try":
        try_all(parts, chosen.out, chosen.families, chosen.random_seeds)
        return
    page = chosen.out / ("tables.md" if chosen.what == "table" else "confirmed.md")
    if chosen.what == "table":
        text = report(parts, chosen.out)
    else:
        if page.exists():
            raise UsageError(f"{page} exists: the test sets are evaluated once")
        tests = {name: load(path, "test") for name, path in studies.items()}
        text = confirm(parts, tests, chosen.out, chosen.candidate)
    page.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
