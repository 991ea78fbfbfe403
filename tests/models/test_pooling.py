"""The feature vector of a frozen backbone: its own features and those of its stages."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tametail.models.backbones import BackboneSpec, build_backbone, describe_backbone
from tametail.models.heads import Standardise

FAMILIES = ("test_efficientnet", "test_resnet", "test_convnext", "test_vit")
SIZE = 64


def described(name: str) -> BackboneSpec:
    return describe_backbone(name, 160 if name == "test_vit" else SIZE)


def images(spec: BackboneSpec) -> Tensor:
    return torch.randn(3, 3, spec.image_size, spec.image_size, generator=torch.Generator().manual_seed(1))


def built(spec: BackboneSpec) -> nn.Module:
    """The backbone with the same random weights each time."""
    torch.manual_seed(0)
    return build_backbone(spec, "none").eval()


@torch.no_grad()
@pytest.mark.parametrize("name", FAMILIES)
def test_the_features_are_the_networks_own_and_those_of_each_stage(name: str) -> None:
    spec = described(name)
    pooled = spec.pooled("mean_std", "none")
    own, network = built(spec), built(pooled)
    found = network(images(spec)).split(pooled.blocks, dim=1)
    assert sum(pooled.blocks) == pooled.features
    assert len(found) >= 1 + 2 * len(spec.stages) - 1
    torch.testing.assert_close(found[0], own(images(spec)))
    parts = list(found[1:])
    outputs: dict[str, Tensor] = {}
    for stage in spec.stages:
        own.get_submodule(stage.module).register_forward_hook(
            lambda module, inputs, output, name=stage.module: outputs.update({name: output})
        )
    own(images(spec))
    for at, stage in enumerate(spec.stages):
        output, last = outputs[stage.module], at == len(spec.stages) - 1
        if name == "test_vit":
            token, positions = output[:, 0], output[:, 1:]
            if not last:
                torch.testing.assert_close(parts.pop(0), token)
        else:
            positions = output.flatten(2).transpose(1, 2)
        # The last stage's mean is what these networks' own features are made of, where it is as wide.
        if name == "test_vit" or not (last and output.shape[1] == found[0].shape[1]):
            torch.testing.assert_close(parts.pop(0), positions.mean(1))
        torch.testing.assert_close(parts.pop(0), positions.std(1, correction=0), atol=1e-5, rtol=1e-4)
    assert not parts


def test_all_stages_of_an_efficientnet_are_seen() -> None:
    spec = describe_backbone("tf_efficientnet_lite0").pooled("mean_std", "none")
    assert [stage.channels for stage in spec.stages] == [16, 24, 40, 80, 112, 192, 320]
    assert spec.features == 2848
    assert describe_backbone("tf_efficientnet_lite0").pooled("mean", "none").features == 1280 + 784
    assert describe_backbone("tf_efficientnet_lite0").pooled(None, "none").blocks == (1280,)


def test_of_many_blocks_a_few_are_pooled_and_the_last_is_among_them() -> None:
    stages = describe_backbone("vit_tiny_patch16_224").stages
    assert [stage.module for stage in stages] == ["blocks.2", "blocks.5", "blocks.8", "blocks.11"]


@pytest.mark.parametrize(
    ("name", "prefix", "tokens", "means"),
    [
        (
            "vit_tiny_patch16_224",
            1,
            [True, True, True, False],
            [True] * 4,
        ),  # its own features are the last class token
        (
            "vit_medium_patch16_reg4_gap_256",
            4,
            [False] * 4,
            [True, True, True, False],
        ),  # registers, no class token
        ("xcit_nano_12_p16_224", 0, [False] * 4, [True] * 4),  # the class token comes after these blocks
        ("deit_tiny_distilled_patch16_224", 2, [True, True, True, False], [True] * 4),
        ("swin_tiny_patch4_window7_224", 0, [False] * 4, [True, True, True, False]),  # maps
    ],
)
def test_tokens_of_transformers_are_told_apart(
    name: str, prefix: int, tokens: list[bool], means: list[bool]
) -> None:
    stages = describe_backbone(name).stages
    assert [stage.prefix for stage in stages] == [prefix] * 4
    assert [stage.token for stage in stages] == tokens
    assert [stage.mean for stage in stages] == means


@torch.no_grad()
@pytest.mark.parametrize(
    ("views", "same"),
    [
        ("none", ()),
        ("horizontal_flip", [(3,)]),
        ("flips", [(3,), (2,), (2, 3)]),
        ("flips_and_rotations", [(3,), (2,), (2, 3), "turned"]),
    ],
)
def test_features_do_not_depend_on_how_an_image_is_turned(views: str, same: list[object]) -> None:
    spec = described("test_efficientnet").pooled("mean_std", views)  # type: ignore[arg-type]
    network, inputs = built(spec), images(spec)
    found = network(inputs)
    for change in ((3,), (2,), (2, 3), "turned"):
        changed = inputs.rot90(1, (2, 3)) if change == "turned" else inputs.flip(change)
        alike = (network(changed) - found).abs().max() <= 1e-4 * found.abs().max()
        assert alike == (change in same)


def test_views_without_stages_are_averaged_as_well() -> None:
    spec = described("test_resnet").pooled(None, "horizontal_flip")
    network, own, inputs = built(spec), built(described("test_resnet")), images(spec)
    with torch.no_grad():
        torch.testing.assert_close(network(inputs), (own(inputs) + own(inputs.flip(3))) / 2)


def test_blocks_get_equal_shares_of_the_variance_that_the_first_one_has_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    blocks = (8, 3, 5)
    features = torch.randn(200, 16, generator=generator) * torch.logspace(-3, 3, 16) + 5
    standardise = Standardise(blocks)
    standardise.fit(features)
    found = standardise(features)
    torch.testing.assert_close(found.mean(0), torch.zeros(16), atol=1e-4, rtol=0)
    for block in found.split(blocks, dim=1):
        assert block.square().sum(1).mean() == pytest.approx(8 / 3, rel=1e-3)
    alone = Standardise([8])
    alone.fit(features[:, :8])
    torch.testing.assert_close(alone(features[:, :8]) / 3**0.5, found[:, :8])


def test_a_block_that_does_not_vary_in_training_stays_small_elsewhere() -> None:
    features = torch.cat([torch.randn(20, 4), torch.ones(20, 3)], dim=1)
    standardise = Standardise((4, 3))
    standardise.fit(features)
    assert not standardise(features)[:, 4:].any()
    assert standardise(features)[:, :4].square().mean() == pytest.approx(1, rel=1e-4)
    assert standardise(features + 1)[:, 4:].abs().max() <= 1
