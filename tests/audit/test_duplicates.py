"""Duplicates: what is planted is found, what is only alike is not, and joining them keeps groups whole."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tametail.audit import find_duplicates, merge_groups, stats_of_pixels
from tametail.audit.duplicates import Duplicates, connected_sets
from tametail.data import ImageTable

SIDE = 96


def _pictures(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth random pictures with fine noise, each of its own."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (count, 7, 7, 3)).astype(np.float32)
    smooth = np.stack([cv2.resize(one, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) for one in coarse])
    return (smooth + rng.normal(0, 6, smooth.shape)).clip(0, 255).astype(np.uint8)


def _find(pixels: NDArray[np.uint8], digests: list[str] | None = None) -> Duplicates:
    return find_duplicates(stats_of_pixels(pixels, digests or [str(row) for row in range(len(pixels))]))


def _as_jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def _table(groups: list[str], labels: list[str] | None = None) -> ImageTable:
    images = [f"{row:03}.png" for row in range(len(groups))]
    named = labels or ["a", "b"] * len(groups)
    frame = pd.DataFrame(
        {"image": images, "label": named[: len(groups)], "group": groups, "split": ""}, dtype=object
    )
    return ImageTable(frame, Path(), tuple(sorted(set(frame["label"]))), "t")


def test_files_of_equal_bytes_are_sets() -> None:
    found = _find(_pictures(5)[[0, 1, 0, 3, 0]], ["x", "y", "x", "z", "x"])
    assert found.exact == ((0, 2, 4),)
    assert found.near == ()
    assert found.merged == ((0, 2, 4),)


@pytest.mark.parametrize("change", ["jpeg", "scaled", "brighter", "noise", "inverted"])
def test_a_picture_saved_again_is_found(change: str) -> None:
    pixels = _pictures(40)
    again = pixels[7].copy()
    if change == "jpeg":
        again = _as_jpeg(again, 40)
    elif change == "scaled":
        again = cv2.resize(cv2.resize(again, (61, 61), interpolation=cv2.INTER_AREA), (SIDE, SIDE))
    elif change == "brighter":
        again = (again * 0.8 + 30).astype(np.uint8)
    elif change == "inverted":
        again = 255 - again
    else:
        again = (again + np.random.default_rng(1).normal(0, 5, again.shape)).clip(0, 255).astype(np.uint8)
    assert _find(np.concatenate([pixels, again[None]])).near == ((7, 40),)


def test_pictures_that_are_alike_are_not_the_same() -> None:
    pixels = _pictures(300)
    mixed = (0.8 * pixels[:1].astype(float) + 0.2 * pixels[1:2]).astype(np.uint8)
    assert _find(np.concatenate([pixels, mixed])).merged == ()


TURNED = {
    "mirrored": ("mirrored", lambda image: image[:, ::-1]),
    "upside down": ("mirrored", lambda image: image[::-1]),
    "by 180": ("rotated", lambda image: image[::-1, ::-1]),
    "by 90": ("rotated", np.rot90),
    "by 270": ("rotated", lambda image: np.rot90(image, 3)),
    "transposed": ("mirrored and rotated", lambda image: image.transpose(1, 0, 2)),
    "mirrored and inverted": ("mirrored", lambda image: 255 - image[:, ::-1]),
}


@pytest.mark.parametrize("change", TURNED)
def test_a_turned_picture_is_found_also_if_it_was_saved_again(change: str) -> None:
    name, turn = TURNED[change]
    pixels = _pictures(40)
    again = _as_jpeg(np.ascontiguousarray(turn(pixels[7])), 80)
    found = _find(np.concatenate([pixels, again[None]]))
    assert (found.near, found.changed, found.changes) == ((), ((7, 40),), (name,))
    assert found.merged == ((7, 40),)


@pytest.mark.parametrize("share", [0.95, 0.8, 0.65])
def test_the_middle_of_a_picture_is_found(share: float) -> None:
    pixels = _pictures(40)
    margin = round(SIDE * (1 - share) / 2)
    middle = pixels[7, margin : SIDE - margin, margin : SIDE - margin]
    found = _find(np.concatenate([pixels, _as_jpeg(cv2.resize(middle, (SIDE, SIDE)), 90)[None]]))
    assert (found.near, found.changed, found.changes) == ((), ((7, 40),), ("cropped",))


def test_the_order_of_the_table_is_of_no_consequence() -> None:
    pixels = _pictures(30)
    pixels = np.concatenate([pixels, pixels[[3, 9]] // 2 + 60, pixels[4:5, ::-1]])
    digests = np.array([f"{row:02}" for row in range(33)])
    order = np.random.default_rng(0).permutation(33)
    found, again = _find(pixels, digests.tolist()), _find(pixels[order], digests[order].tolist())
    assert {tuple(sorted(order[list(pair)])) for pair in again.near} == set(found.near) == {(3, 30), (9, 31)}
    assert {tuple(sorted(order[list(pair)])) for pair in again.changed} == set(found.changed) == {(4, 32)}


def test_smooth_pictures_of_one_kind_are_not_the_same() -> None:
    """Bright discs on a plain ground, as cells are: all correlate above 0.99, and one is there twice."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    discs = []
    for _ in range(60):
        cy, cx, r, level = (
            0.5 + rng.normal(0, 0.004, 2)[0],
            0.5,
            0.3 + rng.normal(0, 0.004),
            rng.uniform(60, 90),
        )
        disc = 220 - level / (1 + np.exp((np.hypot(x - cx, y - cy) - r) * 60)) + rng.normal(0, 2, x.shape)
        discs.append(np.repeat(disc.clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2))
    pixels = np.stack([*discs, (discs[5] * 0.9 + 10).astype(np.uint8)])
    found = _find(pixels)
    assert (found.near, found.changed) == (((5, 60),), ())
    assert found.similar > 1000


def test_blank_pictures_are_compared_by_their_bytes_alone() -> None:
    blank = np.zeros((4, SIDE, SIDE, 3), np.uint8)
    blank[1] += 255
    assert _find(blank, ["a", "b", "c", "a"]).merged == ((0, 3),)


def test_near_pairs_reach_across_blocks() -> None:
    pixels = _pictures(50)
    stats = stats_of_pixels(
        np.concatenate([pixels, pixels[[3, 30]] // 2 + 60]), [str(row) for row in range(52)]
    )
    assert find_duplicates(stats, block_size=8).near == ((3, 50), (30, 51))


def test_of_equal_files_one_stands_for_all() -> None:
    pixels = _pictures(3)
    again = pixels[[0, 0]] // 2 + 60
    found = _find(np.concatenate([pixels, again]), ["a", "b", "c", "d", "d"])
    assert (found.exact, found.near, found.merged) == (((3, 4),), ((0, 3),), ((0, 3, 4),))


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 30), min_size=2, max_size=5), max_size=12))
def test_connected_sets_are_the_components(sets: list[list[int]]) -> None:
    joined = connected_sets(sets)
    assert sum(map(len, joined)) == len({row for rows in joined for row in rows}), "no row in two sets"
    of = {row: place for place, rows in enumerate(joined) for row in rows}
    for rows in sets:
        if len(set(rows)) > 1:
            assert len({of[row] for row in rows}) == 1
    reachable = {row: {row} for rows in sets for row in rows}
    for _ in reachable:
        for rows in sets:
            together = set().union(*(reachable[row] for row in rows))
            for row in together:
                reachable[row] = together
    assert {frozenset(rows) for rows in joined} == {frozenset(r) for r in reachable.values() if len(r) > 1}


def test_joining_keeps_what_each_group_held() -> None:
    table = _table(["p1", "p1", "p2", "p3", "p4", "p2"])
    joined = merge_groups(table, Duplicates((), ((1, 2), (4, 3)), ((1, 2), (3, 4))))
    assert joined.groups.tolist() == ["p1", "p1", "p1", "p3", "p3", "p1"]
    assert table.groups.tolist()[2] == "p2", "the table given is left as it was"
    untouched = merge_groups(table, Duplicates((), (), ()))
    assert untouched.fingerprint == table.fingerprint
