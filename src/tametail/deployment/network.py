"""A model as one network, from decoded images to probabilities: what `predict` runs, and what is exported.

Shape legend: N images, C classes, D features, K canvas side, S image side, P points of a step function.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from itertools import zip_longest
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tametail.core.arrays import FloatArray
from tametail.deployment.study_unlikeness import StudyUnlikeness
from tametail.evaluation.calibration_maps import CalibrationMap
from tametail.evaluation.label_calibration import LabelMap
from tametail.evaluation.log_loss import LEAST
from tametail.evaluation.unlikeness import FeatureGaussian
from tametail.models.backbones import BackboneSpec
from tametail.training.strategies import DecisionRule


class Outputs(NamedTuple):
    """What a network says of N images, each (N, C) unless said otherwise.

    Attributes:
        probabilities: calibrated, at the class frequencies of the training set, float64; of exclusive classes they sum to one.
        scores: of which the predicted class has the highest, by the decision rule of the method; they sum to one, float64. For
            several labels per image they are the probabilities.
        saturated: probabilities at the end of the range of the link, for any of the models.
        unlikeness: (N,) to the training images, float32, of which 1 is the threshold; nan where it is not known.
    """

    probabilities: Tensor
    scores: Tensor
    saturated: Tensor
    unlikeness: Tensor


class Rule(nn.Module):
    """A decision rule as a module: outputs of a head (N, ...) → posterior, decision and saturated, each (N, C)."""

    def __init__(self, rule: DecisionRule) -> None:
        super().__init__()
        self.rule = rule
        self._traced: nn.Module | None = None

    def forward(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        said: tuple[Tensor, Tensor, Tensor] = (
            self._decide(outputs) if self._traced is None else self._traced(outputs)
        )
        return said

    def _decide(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rule = self.rule
        return rule.posterior(outputs), rule.decision(outputs), rule.saturated(outputs)

    def trace(self, outputs: Tensor) -> None:
        """Replace the rule by its operations, for an export: inverse links are derivatives, which are then computed already.

        Args:
            outputs: an example.
        """
        from torch.fx.experimental.proxy_tensor import make_fx

        def decide(outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # make_fx does not take methods
            return self._decide(outputs)

        decide(outputs)  # what losses compute once must not be traced
        self._traced = make_fx(decide, tracing_mode="symbolic", _allow_non_fake_inputs=True)(outputs)


class TrainedModel(NamedTuple):
    """A trained model: ``representation`` and ``head`` from inputs to outputs, and the rule from these to decisions."""

    representation: nn.Module
    head: nn.Module
    rule: DecisionRule


class Centre(nn.Module):
    """Decoded images (N, K, K, 3) uint8 → inputs of a backbone (N, 3, S, S): its centre crop, normalised.

    The same as `tametail.data.sampling.augmentation.Preprocess` without draws, of operations that can be exported.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: BackboneSpec) -> None:
        super().__init__()
        self._side, self.canvas, self._crop = spec.image_size, spec.canvas, spec.crop
        self.register_buffer("mean", torch.tensor(spec.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(spec.std)[:, None, None])

    def forward(self, pixels: Tensor) -> Tensor:
        side, canvas = self._side, self.canvas
        if round(self._crop * canvas) == side:
            at = (canvas - side) // 2
            images = pixels[:, at : at + side, at : at + side].permute(0, 3, 1, 2).float()
        else:
            images = pixels.permute(0, 3, 1, 2).float()
            theta = torch.eye(2, 3, device=pixels.device) * self._crop
            grid = F.affine_grid(theta[None], [1, 3, side, side], align_corners=False)
            images = F.grid_sample(
                images,
                grid.expand(images.shape[0], side, side, 2),
                mode="bilinear",
                padding_mode="reflection",
                align_corners=False,
            )
        return ((images / 255 - self.mean) / self.std).contiguous(memory_format=torch.channels_last)


class Calibration(nn.Module):
    """A `CalibrationMap` or `LabelMap` as a module: probabilities (N, C) float64 → calibrated ones."""

    slope: Tensor
    bias: Tensor
    floor: Tensor
    x: Tensor
    y: Tensor

    def __init__(self, calibration: CalibrationMap | LabelMap) -> None:
        super().__init__()
        self.kind = "labels" if isinstance(calibration, LabelMap) else calibration.kind
        bias = calibration.intercept if isinstance(calibration, LabelMap) else calibration.bias
        floor = bias * 0 if isinstance(calibration, LabelMap) else calibration.floor
        steps = () if isinstance(calibration, LabelMap) else calibration.steps
        self._floored = bool(floor.any())
        for name, values in (("slope", calibration.slope), ("bias", bias), ("floor", floor)):
            self.register_buffer(name, torch.from_numpy(values.astype("float64")))
        x, y = _padded([x for x, _ in steps]), _padded([y for _, y in steps])
        self.register_buffer("x", x)
        self.register_buffer("y", y)

    def forward(self, p: Tensor) -> Tensor:
        if self.kind == "labels":
            inside = p.clamp(LEAST, 1 - LEAST)
            mapped = torch.sigmoid(self.slope * (inside.log() - torch.log1p(-inside)) + self.bias)
            return torch.where((self.slope == 1) & (self.bias == 0), p, mapped)
        if self.kind == "identity" and not self._floored:
            return p
        p = torch.maximum(p, self.floor)
        if self.kind == "isotonic":
            p = torch.maximum(_interpolated(p, self.x, self.y), self.floor)
        elif self.kind != "identity":
            return torch.softmax(self.slope * p.clamp(min=LEAST).log() + self.bias, dim=1)
        return p / p.sum(dim=1, keepdim=True)


class Distance(nn.Module):
    """A `FeatureGaussian` as a module: features (N, D) → scores (N,), see `tametail.evaluation.unlikeness.score`."""

    mean: Tensor
    scale: Tensor
    components: Tensor
    variances: Tensor
    noise: Tensor

    def __init__(self, gaussian: FeatureGaussian) -> None:
        super().__init__()
        for name in ("mean", "scale", "components", "variances", "noise"):
            self.register_buffer(name, torch.from_numpy(getattr(gaussian, name)))

    def forward(self, features: Tensor) -> Tensor:
        scaled = (features.float() - self.mean) / self.scale
        inside = scaled @ self.components
        outside = scaled.square().sum(dim=1) - inside.square().sum(dim=1)
        distance = (inside.square() / self.variances).sum(dim=1) + outside / self.noise
        return distance / self.mean.shape[0]


class Network(nn.Module):
    """The mean of the calibrated probabilities and of the scores of trained models: decoded images (N, K, K, 3) uint8 → `Outputs`.

    Args:
        spec: the backbone and the images it takes.
        backbone: maps images (N, 3, S, S) to the inputs of the models: a shared frozen backbone, or the identity.
        models: the trained models, one per fold and seed.
        calibration: of the probabilities of each model.
        unlikeness: of images to the training images; None if it is not known.
    """

    def __init__(
        self,
        spec: BackboneSpec,
        backbone: nn.Module,
        models: Sequence[TrainedModel],
        calibration: CalibrationMap | LabelMap,
        unlikeness: StudyUnlikeness | None = None,
    ) -> None:
        super().__init__()
        self.several_labels = isinstance(calibration, LabelMap)
        self.centre, self.backbone = Centre(spec), backbone
        self.models = nn.ModuleList(nn.Sequential(each.representation, each.head) for each in models)
        # Models that decide by the same rule share it: it is computed once for all of them.
        by_key: dict[Hashable, list[int]] = {}
        for at, each in enumerate(models):
            by_key.setdefault(each.rule.key, []).append(at)
        self._of_rule = tuple(by_key.values())
        self.rules = nn.ModuleList(Rule(models[at[0]].rule) for at in self._of_rule)
        self.calibration = Calibration(calibration)
        gaussians = unlikeness.gaussians if unlikeness else ()
        self.distances = nn.ModuleList(map(Distance, gaussians))
        self._threshold = unlikeness.threshold if unlikeness else math.nan
        self._shared = not isinstance(
            backbone, nn.Identity
        )  # by all models, whose own features these are otherwise
        self.eval()

    def forward(self, pixels: Tensor) -> Outputs:
        return self.decide(self.backbone(self.centre(pixels)))

    def place(self, device: torch.device) -> Network:
        """Move what is computed there to a device. Rules and calibration stay on the CPU, as they need float64."""
        for module in (self.centre, self.backbone, self.models, self.distances):
            module.to(device)
        return self

    def trace(self) -> None:
        """Prepare the network on the CPU for an export, see `Rule.trace`."""
        with torch.no_grad():
            inputs = self.backbone(self.centre(self.example()))
            outputs = torch.zeros_like(self.models[0](inputs))
        for rule in self.rules:
            assert isinstance(rule, Rule)
            rule.trace(outputs)

    def example(self) -> Tensor:
        """Black images (2, K, K, 3)."""
        return torch.zeros(2, self.centre.canvas, self.centre.canvas, 3, dtype=torch.uint8)

    def decide(self, inputs: Tensor) -> Outputs:
        """The outputs for inputs (N, ...) of the models."""
        # Rules keep their tensors on the CPU, and some compute in float64, which not every device has.
        outputs: list[Tensor] = []
        distances = [distance(inputs) for distance in self.distances] if self._shared else []
        for at, model in enumerate(self.models):
            assert isinstance(model, nn.Sequential)
            features = model[0](inputs)
            outputs.append(model[1](features).float().cpu())
            if not self._shared and at < len(self.distances):
                distances.append(self.distances[at](features))
        probabilities: list[Tensor] = []
        scores: list[Tensor] = []
        at_limit: list[Tensor] = []
        for rule, of_rule in zip(self.rules, self._of_rule, strict=True):
            assert isinstance(rule, Rule)
            posterior, decision, saturated = rule(torch.cat([outputs[at] for at in of_rule]))
            p = posterior.double()
            p = self.calibration(p if self.several_labels else exclusive(p))
            score = p if self.several_labels else scores_of(decision.double(), rule.rule)
            for parts, values in ((probabilities, p), (scores, score), (at_limit, saturated)):
                parts.append(values.reshape(len(of_rule), -1, values.shape[1]))
        p = torch.cat(probabilities).mean(dim=0)
        unknown = torch.full_like(p[:, 0], math.nan, dtype=torch.float32)
        return Outputs(
            p,
            torch.cat(scores).mean(dim=0),
            torch.cat(at_limit).any(dim=0),
            torch.stack(distances).mean(dim=0).cpu() / self._threshold if distances else unknown,
        )


def exclusive(p: Tensor) -> Tensor:
    """Scale probabilities (N, C) to sum to one in each row; a row of zeros becomes uniform."""
    total = p.sum(dim=1, keepdim=True)
    return torch.where(total > 0, p / torch.where(total > 0, total, 1.0), 1 / p.shape[1])


def scores_of(logits: Tensor, rule: DecisionRule) -> Tensor:
    """Scores (N, C) that sum to one, in the order of a rule's logits; see `tametail.predictions.single_label.scores`."""
    return torch.softmax(logits if rule.family == "softmax" else F.logsigmoid(logits), dim=1)


def for_prevalence(p: Tensor, trained: Tensor, prevalence: Tensor) -> Tensor:
    """Probabilities (N, C) at another prevalence (C,); see `tametail.predictions.single_label.for_prevalence`."""
    weighted = p * torch.where(trained > 0, prevalence / torch.where(trained > 0, trained, 1.0), 0.0)
    return torch.where(
        weighted.sum(dim=1, keepdim=True) > 0, exclusive(weighted), prevalence / prevalence.sum()
    )


def _padded(rows: Sequence[FloatArray]) -> Tensor:
    """Rows of different lengths as one tensor (C, P), filled up with their last values; (0, 0) for none."""
    last = [row[-1] for row in rows]
    columns = [
        [end if value is None else value for value, end in zip(column, last, strict=True)]
        for column in zip_longest(*rows)
    ]
    return torch.tensor(columns, dtype=torch.float64).reshape(len(columns), len(rows)).T.contiguous()


def _interpolated(p: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Piecewise linear functions of each column of p (N, C) through points (C, P), constant outside of them."""
    # The number of points that are not above p; searchsorted cannot be exported.
    right = (x[None] <= p[:, :, None]).sum(dim=2).clamp(1, x.shape[1] - 1) if x.shape[1] > 1 else None
    if right is None:
        return y[:, 0].expand_as(p)
    x_of, y_of = x.expand(len(p), -1, -1), y.expand(len(p), -1, -1)

    def at(values: Tensor, index: Tensor) -> Tensor:
        return values.gather(2, index[:, :, None]).squeeze(2)

    x0, x1 = at(x_of, right - 1), at(x_of, right)
    y0, y1 = at(y_of, right - 1), at(y_of, right)
    width = x1 - x0
    share = torch.where(width > 0, (p - x0) / torch.where(width > 0, width, 1.0), 1.0)
    return y0 + (y1 - y0) * share.clamp(0, 1)
