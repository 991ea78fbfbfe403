"""Features of all stages of a frozen network, from one forward pass: what its last layer averages away.

The network's own features come first; behind them, for each stage, the mean and the standard deviation of its output over the
positions of the image, and for transformers the class token. The early stages hold colour and texture, of which the last
layer of a network trained on photographs keeps little.

Shape legend: B batch, D features, H and W height and width of a feature map, N tokens, S image side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

Layout = Literal["maps", "maps_last", "tokens"]
Pooling = Literal["mean", "mean_std"]
Views = Literal["none", "horizontal_flip", "flips", "flips_and_rotations"]
MOST_STAGES = 8  # of more, every few: consecutive blocks of a transformer are alike
_OF_MANY = 4


@dataclass(frozen=True)
class Stage:
    """A module of a network whose output is pooled.

    Attributes:
        module: its name, as in ``named_modules``.
        channels: of its output.
        layout: of its output: ``maps`` (B, channels, H, W), ``maps_last`` (B, H, W, channels) or ``tokens`` (B, N, channels).
        prefix: number of tokens that are not patches and come first.
        token: whether the first of them, the class token, is taken.
        mean: whether the mean over the positions is taken.
    """

    module: str
    channels: int
    layout: Layout
    prefix: int = 0
    token: bool = False
    mean: bool = True

    def sizes(self, pooling: Pooling) -> list[int]:
        """Lengths of the parts that `pooled` returns."""
        return [self.channels] * (self.token + self.mean + (pooling == "mean_std"))

    def pooled(self, output: Tensor, pooling: Pooling) -> list[Tensor]:
        """Parts (B, channels) of an output: class token, mean and standard deviation over the positions."""
        output = output.float()
        positions: tuple[int, ...] = {"maps": (2, 3), "maps_last": (1, 2), "tokens": (1,)}[self.layout]
        patches = output[:, self.prefix :] if self.layout == "tokens" else output
        variance, mean = torch.var_mean(patches, positions, correction=0)
        parts = [output[:, 0]] if self.token else []
        if self.mean:
            parts.append(mean)
        if pooling == "mean_std":
            parts.append(variance.sqrt())
        return parts


class PooledBackbone(nn.Module):
    """A network whose features are those of all stages: images (B, 3, S, S) → features (B, D).

    Args:
        network: maps images to its own features.
        stages: those that are pooled.
        pooling: ``mean`` over the positions, or ``mean_std`` with the standard deviation as well.
        views: the features are the mean of those of the image and its mirror images and rotations by quarter turns.
    """

    def __init__(
        self, network: nn.Module, stages: Sequence[Stage], pooling: Pooling, views: Views = "none"
    ) -> None:
        super().__init__()
        self.network = network
        self._stages, self._pooling, self._views = tuple(stages), pooling, views

    def forward(self, images: Tensor) -> Tensor:
        total: Tensor | None = None
        count = 0
        for view in _views(images, self._views):
            features = self._features(view)
            total = features if total is None else total + features
            count += 1
        assert total is not None
        return total / count if count > 1 else total

    def _features(self, images: Tensor) -> Tensor:
        parts: dict[str, list[Tensor]] = {}

        def keep(stage: Stage) -> Callable[[nn.Module, Any, Tensor], None]:
            def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
                parts[stage.module] = stage.pooled(output, self._pooling)

            return hook

        with _hooked(self.network, {stage.module: keep(stage) for stage in self._stages}):
            own = self.network(images)
        pooled = [part for stage in self._stages for part in parts[stage.module]]
        return torch.cat([own.float(), *pooled], dim=1)


def find_stages(network: nn.Module, image_size: int) -> tuple[int, tuple[Stage, ...]]:
    """The length of a timm network's own features and its stages, by one forward pass.

    There are no stages where its modules cannot be pooled.

    Args:
        network: on any device, also ``meta``.
        image_size: S.
    """
    names = _stage_names(network)
    modules = dict(network.named_modules())
    outputs: dict[str, Any] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            outputs[name] = output

        return hook

    with _hooked(network, {name: keep(name) for name in names if name in modules}):
        device = next(network.parameters()).device
        own = network(torch.zeros(2, 3, image_size, image_size, device=device))
    found = []
    for name, output in outputs.items():
        if isinstance(output, Tensor) and output.ndim in {3, 4} and len(output) == 2:
            found.append(_stage(name, output, network))
    features = int(own.shape[-1])
    if found and found[-1].channels == features:  # what the network's own features repeat is left out
        of_token = getattr(network, "global_pool", None) == "token"
        found[-1] = replace(found[-1], token=found[-1].token and not of_token, mean=of_token)
    return features, tuple(found)


def _stage_names(network: nn.Module) -> list[str]:
    """Names of the modules at the ends of the stages, in the order of the data."""
    given: Any = getattr(network, "feature_info", None) or ()
    listed = given if isinstance(given, list) else [dict(each) for each in given.get_dicts()]
    names = list(dict.fromkeys(str(each["module"]) for each in listed if each.get("module")))
    blocks = getattr(network, "blocks", None)
    # EfficientNets list the stages where the resolution falls; the others see more as well.
    if isinstance(blocks, nn.Sequential) and any(name.startswith("blocks.") for name in names):
        names = [f"blocks.{at}" for at in range(len(blocks))]
    if len(names) > MOST_STAGES:
        names = [names[len(names) * (at + 1) // _OF_MANY - 1] for at in range(_OF_MANY)]
    return names


def _stage(name: str, output: Tensor, network: nn.Module) -> Stage:
    if output.ndim == 3:
        patches = getattr(getattr(network, "patch_embed", None), "num_patches", output.shape[1])
        prefix = max(output.shape[1] - int(patches), 0)
        token = prefix > 0 and getattr(network, "cls_token", None) is not None
        return Stage(name, output.shape[2], "tokens", prefix, token)
    if getattr(network, "output_fmt", "NCHW") == "NHWC":
        return Stage(name, output.shape[3], "maps_last")
    return Stage(name, output.shape[1], "maps")


@contextmanager
def _hooked(network: nn.Module, hooks: Mapping[str, Callable[..., None]]) -> Iterator[None]:
    """Forward hooks on the modules of these names, inside the block."""
    handles = [network.get_submodule(name).register_forward_hook(hook) for name, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _views(images: Tensor, views: Views) -> Iterator[Tensor]:
    """The images (B, 3, S, S) and their mirror images and rotations."""
    yield images
    if views == "none":
        return
    yield images.flip(3)
    if views == "horizontal_flip":
        return
    yield images.flip(2)
    yield images.flip(2, 3)
    if views == "flips_and_rotations":
        turned = images.transpose(2, 3)
        for axes in ((), (3,), (2,), (2, 3)):
            yield turned.flip(axes)
