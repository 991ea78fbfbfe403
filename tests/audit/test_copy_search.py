"""The search for copies finds exactly what comparing all pairs in all variants finds; near points are those within the radius."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tametail.audit.copy_search import CORRELATION, TURNS, find_copies
from tametail.audit.near_points import Cells

SIDE = 64


def _variants(image: NDArray[np.generic]) -> list[NDArray[np.generic]]:
    """All eight ways to turn a square."""
    return [np.rot90(mirrored, times) for mirrored in (image, image[:, ::-1]) for times in range(4)]


def _alike(seed: int, families: int, members: int) -> NDArray[np.uint8]:
    """Families of pictures that correlate around the limit, turned and inverted at random."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(families):
        base = np.kron(rng.normal(0, 40, (8, 8)), np.ones((8, 8)))
        for _ in range(members):
            image = base + np.kron(rng.normal(0, rng.uniform(1, 6), (16, 16)), np.ones((4, 4)))
            image = _variants(image)[rng.integers(8)] * rng.choice([-1, 1])
            found.append((image + rng.normal(0, 2, (SIDE, SIDE)) + 128).clip(0, 255).astype(np.uint8))
    return np.array(found)


def _by_all_pairs(thumbnails: NDArray[np.uint8]) -> set[tuple[int, int]]:
    pairs = set()
    for a in range(len(thumbnails)):
        for b in range(a + 1, len(thumbnails)):
            correlations = [
                np.corrcoef(thumbnails[a].ravel(), turned.ravel())[0, 1]
                for turned in _variants(thumbnails[b])
            ]
            if max(np.abs(correlations)) > CORRELATION:
                pairs.add((a, b))
    return pairs


@pytest.mark.parametrize("seed", range(3))
def test_the_search_finds_what_comparing_all_pairs_finds(seed: int) -> None:
    thumbnails = _alike(seed, 6, 8)
    found = find_copies(thumbnails, np.arange(len(thumbnails)), 16)
    expected = _by_all_pairs(thumbnails)
    assert {(int(a), int(b)) for a, b in found.pairs} == expected
    assert 20 < len(expected) < 6 * 28, "some pairs of a family are below the limit"
    assert len(set(found.turn.tolist())) > 4


def test_a_pair_comes_with_the_turn_that_makes_it_equal() -> None:
    thumbnails = _alike(5, 1, 1)
    for number, turn in enumerate(TURNS):
        pair = np.concatenate([thumbnails, turn.apply(thumbnails)])
        found = find_copies(pair, np.arange(2), 16)
        # One of a quarter turn is undone by the other one.
        undone = TURNS[int(found.turn[0])].apply(pair[1:])
        assert np.array_equal(undone, thumbnails), number
        assert found.detail[0] == pytest.approx(1)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.integers(1, 900), st.floats(0.01, 0.6))
def test_near_points_are_those_within_the_radius(seed: int, count: int, radius: float) -> None:
    points = np.random.default_rng(seed).normal(0, 0.3, (count, 3)).astype(np.float32)
    found = {tuple(sorted(pair)) for pairs in Cells.of(points).near(radius, count) for pair in pairs.tolist()}
    a, b = np.triu_indices(count, 1)
    distance = np.linalg.norm(points[a].astype(float) - points[b], axis=1)
    certain = {
        (int(x), int(y))
        for x, y in zip(a[distance < radius - 1e-4], b[distance < radius - 1e-4], strict=True)
    }
    possible = {
        (int(x), int(y))
        for x, y in zip(a[distance < radius + 1e-4], b[distance < radius + 1e-4], strict=True)
    }
    assert certain <= found <= possible


def test_of_very_many_near_points_the_nearest_are_taken() -> None:
    points = np.random.default_rng(0).normal(0, 1e-3, (600, 4)).astype(np.float32)
    cells = Cells.of(points)
    assert sum(len(pairs) for pairs in cells.near(1.0, 5)) <= 5 * 600
    assert cells.radius_of(5, 1.0) < 0.01
    assert cells.radius_of(600, 1.0) == 1.0
