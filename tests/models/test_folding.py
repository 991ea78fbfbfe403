"""A frozen network without batch normalisation computes the same features."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tametail.models.backbones import build_backbone, describe_backbone
from tametail.models.folding import fold_batch_norms

SIZE = 64


def trained_like(network: nn.Module) -> nn.Module:
    """The network with statistics and weights of batch normalisation that a training could have left."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in ((module.running_mean, -0.5), (module.running_var, 0.5)):
                assert tensor is not None
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + low)
            module.weight.data.copy_(torch.rand(module.weight.shape, generator=generator) + 0.5)
            module.bias.data.copy_(torch.randn(module.bias.shape, generator=generator) / 5)
    return network.eval()


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@torch.no_grad()
def test_layers_that_see_several_views_are_folded_as_well() -> None:
    spec = describe_backbone("test_resnet", SIZE).pooled("mean_std", "horizontal_flip")
    torch.manual_seed(0)
    network = trained_like(build_backbone(spec, "none"))
    folded = fold_batch_norms(network, SIZE)
    assert norms(folded) == 0
    images = torch.randn(2, 3, SIZE, SIZE)
    expected = network(images)
    assert (folded(images) - expected).abs().max() <= 1e-4 * expected.abs().max()


@torch.no_grad()
@pytest.mark.parametrize(
    "name", ["test_efficientnet", "test_resnet", "mobilenetv3_small_050", "resnet10t", "densenet121"]
)
def test_features_stay_the_same(name: str) -> None:
    spec = describe_backbone(name, SIZE).pooled("mean_std", "none")
    torch.manual_seed(0)
    network = trained_like(build_backbone(spec, "none"))
    folded = fold_batch_norms(network, SIZE)
    assert norms(folded) < 0.6 * norms(network)  # in a DenseNet others come before the convolution
    images = torch.randn(5, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    expected = network(images)
    assert norms(network)
    assert (folded(images) - expected).abs().max() <= 1e-4 * expected.abs().max()


class Branching(nn.Module):
    """A network whose first convolution is used besides its batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)

    def forward(self, images: Tensor) -> Tensor:
        output = self.convolution(images)
        both: Tensor = (self.norm(output) + output.square()).mean((2, 3))
        return both


@torch.no_grad()
def test_what_cannot_be_folded_is_left_as_it_is() -> None:
    branching = trained_like(Branching())
    assert fold_batch_norms(branching, SIZE) is branching
    without = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert fold_batch_norms(without, SIZE) is without


def test_a_network_without_parameters_is_left_as_it_is() -> None:
    flat = nn.Flatten()
    assert fold_batch_norms(flat, SIZE) is flat
