"""A small study of exclusive classes with made-up predictions, written as the study itself writes it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from tametail.predictions import Predictions, write_predictions

CELLS = ("basophil", "blast", "eosinophil", "lymphocyte", "monocyte", "neutrophil", "smudge cell")
COUNTS = (14, 40, 90, 160, 60, 300, 22)
SKILL = {"alpa": 2.2, "asl": 2.0, "ce": 1.6, "focal": 1.2, "ldam": 0.3}


def write_study(
    directory: Path,
    *,
    losses: Sequence[str] = ("alpa", "asl", "ce"),
    class_names: Sequence[str] = CELLS,
    counts: Sequence[int] = COUNTS,
    folds: int = 3,
    seeds: Sequence[int] = (0,),
    opened: int = 0,
    synthetic: bool = False,
    unreadable: Sequence[tuple[str, str]] = (),
    images_per_group: int = 3,
    image_root: Path | None = None,
    findings: Sequence[dict[str, Any]] = (),
) -> Path:
    """Write a finished study; tests then break what they need broken. With ``image_root``, its images too."""
    rng = np.random.default_rng(7)
    names = sorted(class_names)
    target = np.repeat(np.arange(len(names)), counts)
    images = np.array([f"images/{index:05d}.png" for index in range(len(target))])
    group = np.array([f"patient-{code}-{index // images_per_group}" for index, code in enumerate(target)])
    hold_out = np.arange(len(target)) // images_per_group % 5 == 0
    fold = np.where(hold_out, -1, np.arange(len(target)) // images_per_group % folds)
    part = np.where(hold_out, "test", "train")
    directory.mkdir(parents=True)
    labels = np.array(names)[target]
    frame = pd.DataFrame({"image": images, "label": labels, "group": group, "split": ""})
    frame.to_parquet(directory / "table.parquet", index=False)
    pd.DataFrame({"image": images, "part": part, "fold": fold}).to_csv(directory / "splits.csv", index=False)
    settings = {
        "format": 1,
        "tametail": "0.1.0",
        "name": "cells",
        "synthetic": synthetic,
        "table": {
            "fingerprint": "ab12" * 16,
            "images": len(target) + len(unreadable),
            "groups": len(set(group)),
            "unreadable": [{"image": image, "error": why} for image, why in unreadable],
        },
        "findings": list(findings),
        "class_names": names,
        "splits": {
            "folds": folds,
            "seed": 0,
            "test_fraction": 0.2,
            "given": False,
            "fingerprint": "cd34" * 16,
        },
        "recipe": {
            "name": "head",
            "epochs": 40,
            "batch_size": 128,
            "optimizer": {"lr": 0.001},
            "ema_decay": None,
        },
        "backbone": "tf_efficientnet_lite0",
        "weights": "offline",
        "image_size": 224,
        "losses": list(losses),
        "seeds": list(seeds),
    }
    (directory / "study.json").write_text(json.dumps(settings), encoding="utf-8")
    for loss in losses:
        for seed in seeds:
            for number in range(folds):
                run = (
                    directory / "runs" / loss.replace("[", "-").replace("]", "") / f"seed{seed}-fold{number}"
                )
                run.mkdir(parents=True)
                skill = SKILL.get(loss, 1.0)

                def predict(rows: np.ndarray, path: Path, skill: float = skill, number: int = number) -> None:
                    logits = rng.normal(size=(len(rows), len(names)))
                    logits[np.arange(len(rows)), target[rows]] += skill
                    own_fold = np.full(len(rows), number)
                    write_predictions(
                        Predictions(
                            images[rows], group[rows], target[rows], own_fold, logits.astype(np.float32),
                            tuple(names), "softmax",
                        ),
                        path,
                    )  # fmt: skip

                predict(np.flatnonzero(fold == number), run / "predictions.parquet")
                if opened:
                    predict(np.flatnonzero(hold_out), run / "test_predictions.parquet")
                epochs = np.arange(1, 21)
                values = 0.4 + 1.5 * np.exp(-epochs / 6) + rng.normal(0, 0.02, len(epochs))
                history = pd.DataFrame({"epoch": epochs, "step": epochs * 9, "loss": values, "lr": 0.001})
                history.to_csv(run / "history.csv", index=False)
                described = {
                    "loss": loss,
                    "seed": seed,
                    "fold": number,
                    "status": "finished",
                    "message": "",
                    "link": "softmax",
                    "parameters": {},
                    "class_counts": dict(zip(names, map(int, counts), strict=True)),
                    "seconds": 1.5,
                    "environment": {"python": "3.11.2", "torch": "2.13.0", "device": "cpu"},
                }
                (run / "run.json").write_text(json.dumps(described), encoding="utf-8")
    for number in range(1, opened + 1):
        entry = {
            "opening": number,
            "time": f"2026-01-0{number}T12:00:00+00:00",
            "losses": list(losses),
            "runs": folds * len(losses),
            "best_out_of_fold": "alpa",
            "new_runs": folds * len(losses) if number == 1 else 0,
        }
        with (directory / "openings.jsonl").open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(entry) + "\n")
    if image_root is not None:
        write_images(image_root, images, target)
        (directory / "source.json").write_text(json.dumps({"image_root": str(image_root)}), encoding="utf-8")
    return directory


def write_images(root: Path, images: Sequence[str], target: Sequence[int]) -> None:
    """A disc on noise for each image, in a colour for each class."""
    rng = np.random.default_rng(11)
    for image, code in zip(images, target, strict=True):
        pixels = rng.integers(150, 200, (48, 48, 3), dtype=np.uint8)
        colour = tuple(int(40 + 37 * (code + 1) * step % 200) for step in (1, 2, 3))
        cv2.circle(pixels, (24, 24), int(rng.integers(9, 18)), colour, -1)
        path = root / str(image)
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), pixels)
