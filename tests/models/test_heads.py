from __future__ import annotations

import pytest
import torch

from tametail.models import heads


def test_the_normalised_head_gives_cosines() -> None:
    head = heads.build_head("normalised", 5, 3)
    features = torch.randn(4, 5)
    expected = torch.nn.functional.cosine_similarity(features[:, None], head.weight[None], dim=-1)
    torch.testing.assert_close(head(features), expected)
    torch.testing.assert_close(head(7 * features), expected)


def test_standardised_features_have_mean_zero_and_mean_square_one_and_keep_their_proportions() -> None:
    features = torch.randn(50, 4) * torch.tensor([1.0, 2.0, 3.0, 4.0]) + 7
    standardise = heads.Standardise([4])
    standardise.fit(features)
    found = standardise(features)
    torch.testing.assert_close(found.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    assert float(found.square().mean()) == pytest.approx(1, rel=1e-4)
    torch.testing.assert_close(found.std(0) / found.std(0)[0], features.std(0) / features.std(0)[0])
    assert not list(standardise.parameters())


def test_means_and_scales_of_blocks_of_rows_are_those_of_all_rows() -> None:
    features = torch.randn(500, 6) * torch.tensor([1.0, 2.0, 3.0, 4.0, 0.0, 0.0]) + 7
    fitted = []
    for rows in (features, [features], features.split(500), features.split(130)):
        standardise = heads.Standardise([3, 1, 2])
        standardise.fit(rows)
        fitted.append((standardise.mean, standardise.scale))
    (mean, scale), *others, (of_blocks, scale_of_blocks) = fitted
    assert torch.equal(mean, features.mean(dim=0))  # the same bits
    for also in others:
        assert torch.equal(also[0], mean)
        assert torch.equal(also[1], scale)
    torch.testing.assert_close(of_blocks, mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(scale_of_blocks, scale, rtol=1e-6, atol=0)
