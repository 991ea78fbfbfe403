"""A small multi-label study with made-up predictions, written as the study itself writes it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tametail.predictions_multi_label import LabelPredictions, write_label_predictions

NAMES = ("a<b>", "edema", "mass", "scar")
PREVALENCE = (0.4, 0.25, 0.12, 0.06)
SKILL = {"bce": 2.0, "asl": 1.2, "focal": 0.5}


def write_label_study(
    directory: Path,
    *,
    losses: Sequence[str] = ("focal", "asl", "bce"),
    folds: int = 3,
    seeds: Sequence[int] = (0,),
    opened: int = 0,
    images: int = 300,
    absent_from_test: str | None = None,
) -> Path:
    """Write a finished study of images that have several labels or none, three images to a group."""
    rng = np.random.default_rng(7)
    labels = np.random.default_rng(5).random((images, len(NAMES))) < np.array(PREVALENCE)
    names = np.array([f"images/{index:05d}.png" for index in range(images)])
    group = np.array([f"patient-{index // 3}" for index in range(images)])
    hold_out = np.arange(images) // 3 % 5 == 0
    fold = np.where(hold_out, -1, np.arange(images) // 3 % folds)
    if absent_from_test:
        labels[hold_out, NAMES.index(absent_from_test)] = False
    directory.mkdir(parents=True)
    joined = ["|".join(np.array(NAMES)[row]) for row in labels]
    frame = pd.DataFrame({"image": names, "label": joined, "group": group, "split": ""})
    frame.to_parquet(directory / "table.parquet", index=False)
    part = np.where(hold_out, "test", "train")
    pd.DataFrame({"image": names, "part": part, "fold": fold}).to_csv(directory / "splits.csv", index=False)
    settings = {
        "format": 1,
        "tametail": "0.1.0",
        "name": "lungs",
        "synthetic": False,
        "multi_label": True,
        "table": {"fingerprint": "ab" * 32, "images": images, "groups": len(set(group)), "unreadable": []},
        "class_names": list(NAMES),
        "splits": {"folds": folds, "seed": 0, "given": False, "fingerprint": "cd" * 32},
        "recipe": {"name": "head", "epochs": 40, "batch_size": 128, "optimizer": {"lr": 0.001}},
        "backbone": "tf_efficientnet_lite0",
        "weights": "offline",
        "image_size": 224,
        "losses": list(losses),
        "seeds": list(seeds),
    }
    (directory / "study.json").write_text(json.dumps(settings), encoding="utf-8")

    def predict(rows: np.ndarray, path: Path, loss: str, number: int) -> None:
        logits = rng.normal(-1.5, 1, (len(rows), len(NAMES))) + SKILL[loss] * labels[rows]
        table = LabelPredictions(
            names[rows],
            group[rows],
            labels[rows],
            np.full(len(rows), number),
            logits.astype(np.float32),
            NAMES,
            (1 / (1 + np.exp(-logits))).astype(np.float32),
        )
        write_label_predictions(table, path)

    for loss in losses:
        for seed in seeds:
            for number in range(folds):
                run = directory / "runs" / loss / f"seed{seed}-fold{number}"
                run.mkdir(parents=True)
                predict(np.flatnonzero(fold == number), run / "predictions.parquet", loss, number)
                if opened:
                    predict(np.flatnonzero(hold_out), run / "test_predictions.parquet", loss, number)
                history = pd.DataFrame({"epoch": [1, 2], "step": [9, 18], "loss": [1.0, 0.5], "lr": 0.001})
                history.to_csv(run / "history.csv", index=False)
                described = {"loss": loss, "seed": seed, "fold": number, "status": "finished", "seconds": 1.5}
                (run / "run.json").write_text(json.dumps(described), encoding="utf-8")
    for number in range(1, opened + 1):
        entry = {
            "opening": number,
            "time": f"2026-01-0{number}T12:00:00+00:00",
            "losses": list(losses),
            "runs": folds * len(losses),
            "best_out_of_fold": "bce",
            "new_runs": folds * len(losses),
        }
        with (directory / "openings.jsonl").open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(entry) + "\n")
    return directory
