"""The network that predicts: its parts beside the functions of which they are the torch form."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from tametail.core.arrays import FloatArray
from tametail.data.sampling.augmentation import Preprocess
from tametail.deployment.classifier import Classifier
from tametail.deployment.facts import ModelFacts, Said
from tametail.deployment.network import Calibration, Centre, Network, TrainedModel, for_prevalence
from tametail.evaluation.calibration_maps import CalibrationMap, identity
from tametail.evaluation.conformal import ScoreDistribution
from tametail.evaluation.label_calibration import LabelMap
from tametail.losses import list_losses
from tametail.models.backbones import BackboneSpec
from tametail.predictions import single_label
from tametail.training.strategies import list_strategies, parse_method

COUNTS = ([50, 20, 6, 2], [40, 22, 7, 1])


def probabilities(seed: int, rows: int = 40, classes: int = 4) -> FloatArray:
    p = np.random.default_rng(seed).dirichlet(np.full(classes, 0.3), rows)
    p[0] = np.eye(classes)[0]  # a certain one
    return p


def maps(seed: int) -> list[CalibrationMap]:
    rng = np.random.default_rng(seed)
    plain = identity(4)
    slope, bias, floor = rng.uniform(0.2, 3, 4), rng.normal(size=4), np.array([0, 0.01, 0.02, 0])
    steps = []
    for points in (1, 2, 5, 30):
        x = np.sort(rng.uniform(0, 1, points))
        steps.append((x, np.sort(rng.uniform(0, 1, points))))
    return [
        plain,
        replace(plain, floor=floor),
        CalibrationMap("temperature", np.full(4, slope[0]), np.zeros(4), np.zeros(4)),
        CalibrationMap("vector", slope, bias, floor),
        CalibrationMap("isotonic", np.ones(4), np.zeros(4), np.full(4, 0.005), tuple(steps)),
    ]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_calibration_maps_are_the_same_in_torch(seed: int) -> None:
    p = probabilities(seed)
    for each in maps(seed):
        found = Calibration(each)(torch.from_numpy(p)).numpy()
        np.testing.assert_allclose(found, each(p), rtol=1e-9, atol=1e-12, err_msg=each.kind)
        # Also exactly on a point of a step function, and outside of all.
        for x, _ in each.steps:
            at = np.tile(np.r_[0.0, x, 1.0][:, None], 4)
            np.testing.assert_allclose(Calibration(each)(torch.from_numpy(at)).numpy(), each(at), atol=1e-9)
    rng = np.random.default_rng(seed)
    labels = LabelMap(
        np.array([1.0, 1.0, *rng.uniform(0.3, 2, 2)]), np.array([0.0, 0.4, *rng.normal(size=2)])
    )
    given_p = rng.uniform(0, 1, (30, 4))
    given_p[0] = [0, 1, 0, 1]
    np.testing.assert_allclose(
        Calibration(labels)(torch.from_numpy(given_p)).numpy(), labels(given_p), atol=1e-12
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_prevalences_are_the_same_in_torch(seed: int) -> None:
    p = probabilities(seed)
    trained, target = np.array([0.7, 0.2, 0.1, 0.0]), np.array([0.0, 0.5, 0.2, 0.3])
    found = for_prevalence(torch.from_numpy(p), torch.from_numpy(trained), torch.from_numpy(target)).numpy()
    np.testing.assert_allclose(found, single_label.for_prevalence(p, trained, target), atol=1e-12)


@pytest.mark.parametrize(("canvas", "crop"), [(32, 1.0), (48, 0.75), (40, 0.8), (46, 0.875)])
def test_preprocessing_is_that_of_evaluation(canvas: int, crop: float) -> None:
    spec = BackboneSpec("any", 4, 32, canvas, crop)
    pixels = torch.randint(0, 256, (5, canvas, canvas, 3), dtype=torch.uint8)
    expected = Preprocess(32, spec.mean, spec.std, crop=crop)(pixels)
    torch.testing.assert_close(Centre(spec)(pixels), expected, rtol=0, atol=2e-6)


METHODS = [
    *list_losses(),
    *(f"ce+{name}" for name in list_strategies()),
    "alpa+la",
    "bce[tau=1]",
    "asl+crt",
    "logistic_regression",
]


@pytest.mark.parametrize("text", METHODS)
def test_the_highest_score_is_that_of_the_predicted_class(text: str) -> None:
    """In every row, for every method: without and with a prevalence and operating points, also when the table is read again."""
    method = parse_method(text).in_order((0, 1, 2, 3))
    spec = BackboneSpec("any", 3, 8, canvas=8, crop=1.0)
    rules = [method.decision_rule(counts, sum(counts)) for counts in COUNTS]
    columns = method.build_head(6, 4, "auto")(torch.randn(1, 6)).shape[1]
    heads = [nn.Linear(3, columns) for _ in rules]
    models = [TrainedModel(nn.Identity(), *each) for each in zip(heads, rules, strict=True)]
    network = Network(spec, nn.Identity(), models, maps(1)[3])
    given_outputs = torch.randn(60, 3, generator=torch.Generator().manual_seed(0)) * 8
    scores = [np.sort(np.random.default_rng(c).uniform(0, 1, 40)) for c in range(4)]
    facts = ModelFacts(
        text, tuple("abcd"), (45.0, 21.0, 6.5, 1.5), spec, 2, False, "softmax", 1.0, maps(1)[3],
        tuple(ScoreDistribution(each, np.arange(1, 41) / 40, 40, 40) for each in scores),
    )  # fmt: skip

    def run(pixels: NDArray[np.uint8]) -> Said:
        with torch.no_grad():
            return Said(*(each.numpy() for each in network.decide(given_outputs[: len(pixels)])))

    classifier = Classifier(facts, run, "torch on cpu", batch_size=60)
    images = np.zeros((60, 8, 8, 3), np.uint8)
    for options in (
        {},
        {"operating": {"d": 0.9}},
        {"operating": {"c": 0.5, "d": 0.9}},
        {"prevalence": {"a": 1, "b": 1, "c": 5, "d": 1}},
        {"prevalence": {"a": 1, "b": 1, "c": 5, "d": 1}, "operating": {"a": 0.8}},
    ):
        table = classifier.predict_table(images, **options)
        written = pd.read_csv(io.StringIO(table.to_csv(index=False, float_format="%.9g")))
        for each in (table, written):
            score = each[[f"score_{name}" for name in facts.class_names]].to_numpy()
            assert [facts.class_names[at] for at in score.argmax(axis=1)] == each["predicted"].tolist()
            np.testing.assert_allclose(score.sum(axis=1), 1, rtol=1e-6)
        if not options:
            decided = np.mean([
                single_label.scores(rule.decision(head(given_outputs)).detach().numpy(), rule.family)
                for rule, head in zip(rules, heads, strict=True)
            ], axis=0)  # fmt: skip
            np.testing.assert_allclose(
                table[[f"score_{name}" for name in facts.class_names]].to_numpy(), decided, atol=1e-6
            )


@pytest.mark.parametrize("text", ["alpa", "ce+la", "alpa[tau=1]", "bce+crt", "balanced_softmax"])
def test_models_that_share_a_rule_are_averaged_like_others(text: str) -> None:
    """Also where the counts differ, so that the rules do."""
    method = parse_method(text)
    spec = BackboneSpec("any", 3, 8, canvas=8, crop=1.0)
    rules = [method.decision_rule(counts, sum(counts)) for counts in (*COUNTS, COUNTS[0])]
    heads = [nn.Linear(3, 4) for _ in rules]
    models = [TrainedModel(nn.Identity(), head, rule) for head, rule in zip(heads, rules, strict=True)]
    calibration = maps(3)[3]
    inputs = torch.randn(9, 3)
    with torch.no_grad():
        p, score, saturated, _ = Network(spec, nn.Identity(), models, calibration).decide(inputs)
        alone = [Network(spec, nn.Identity(), [model], calibration).decide(inputs) for model in models]
    torch.testing.assert_close(p, torch.stack([each.probabilities for each in alone]).mean(dim=0))
    torch.testing.assert_close(score, torch.stack([each.scores for each in alone]).mean(dim=0))
    assert torch.equal(saturated, torch.stack([each.saturated for each in alone]).any(dim=0))
    depends = rules[0].key != rules[1].key
    assert depends == (text not in {"alpa"}), "of the counts"
    assert rules[0].key == rules[2].key
