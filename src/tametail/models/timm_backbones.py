"""The models of timm as backbones. The only file that builds timm models."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch
from torch import nn

from tametail.core.errors import TametailError, UsageError
from tametail.models import torchvision_ops
from tametail.models.backbones import BackboneProvider, BackboneSpec, register_backbone
from tametail.models.pooling import find_stages

torchvision_ops.ensure_importable()

import timm  # noqa: E402
from timm.data.config import resolve_data_config  # noqa: E402


@register_backbone
class TimmBackbones(BackboneProvider):
    """Every model of timm, with its default input configuration."""

    name = "timm"

    def list_names(self) -> list[str]:
        return list(timm.list_models())

    def describe(self, name: str, image_size: int | None) -> BackboneSpec | None:
        if not _is_own(name):
            return None
        config = timm.get_pretrained_cfg(name)
        own_size = config.input_size[-1] if config is not None else 224
        size = image_size or own_size
        if size < 8:
            raise UsageError(f"expected an image size of at least 8 pixels, got {size}")
        fixed = bool(config is not None and config.fixed_input_size)
        try:
            with torch.device("meta"), torch.no_grad():
                network = _create(name, size, fixed).eval()
                features, stages = find_stages(network, size)
        except (RuntimeError, ValueError, AssertionError, TypeError) as error:
            raise UsageError(
                f"backbone {name} cannot take images of {size}×{size} pixels: {str(error).splitlines()[0]}. "
                f"Use a larger --image-size (its default is {own_size}) or another --backbone."
            ) from error
        data = resolve_data_config({}, model=network)
        mean, std = tuple(data["mean"]), tuple(data["std"])
        if len(mean) != 3 or len(std) != 3:
            raise UsageError(f"backbone {name} does not take RGB images; choose another --backbone")
        canvas = round(size / data["crop_pct"])
        return BackboneSpec(name, features, size, canvas, size / canvas, mean, std, fixed, stages=stages)

    def build(self, spec: BackboneSpec, weights: str) -> nn.Module:
        if not _is_own(spec.name):
            raise UsageError(
                f"expected the name of one of timm's own models as the backbone, got {spec.name!r}; choose another one"
            )
        if weights == "auto":
            return _from_hub(spec)
        return _create(spec.name, spec.image_size, spec.fixed_size)


def _is_own(name: str) -> bool:
    """Whether the name is of timm itself; for one such as ``hf-hub:owner/model`` timm downloads what others wrote."""
    return ":" not in name and timm.is_model(name.split(".")[0])


def _create(name: str, size: int, fixed: bool, pretrained: bool = False) -> nn.Module:
    sized: dict[str, Any] = {"img_size": size} if fixed else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about renamed models and duplicates
        network: nn.Module = timm.create_model(name, pretrained=pretrained, num_classes=0, **sized)
    return network


def _from_hub(spec: BackboneSpec) -> nn.Module:
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it prints each of its retries
    try:
        return _create(spec.name, spec.image_size, spec.fixed_size, pretrained=True)
    except Exception as error:  # the hub's clients raise errors of many kinds
        raise TametailError(
            f"the weights of {spec.name} could not be downloaded from the hub ({type(error).__name__}: "
            f"{str(error).splitlines()[0][:200]}). Without a network use --weights offline (EfficientNet-Lite0), "
            f"the path of a weight file, or --weights none for random weights."
        ) from error
