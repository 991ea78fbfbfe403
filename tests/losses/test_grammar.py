"""Losses as text: reading, one spelling, directory names, messages."""

from __future__ import annotations

import pickle
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tametail.losses import ALPALoss, LDAMLoss, LossSpec, list_losses, parse_loss, split_losses


@pytest.mark.parametrize(
    ("text", "canonical", "slug"),
    [
        ("alpa", "alpa", "alpa"),
        (" asl[ ] ", "asl", "asl"),
        (
            "alpa[ variant = pade, order=1/1 ,gamma_neg=3.0]",
            "alpa[variant=pade,order=1/1,gamma_neg=3]",
            "alpa--variant-pade--order-1_1--gamma_neg-3",
        ),
        ("alpa[double_focus=false,gamma_pos=.50]", "alpa[double_focus=false,gamma_pos=0.5]", "alpa--double_focus-false--gamma_pos-0.5"),
        ("focal[alpha=none,gamma=1e-9]", "focal[alpha=none,gamma=1e-09]", "focal--alpha-none--gamma-1e-09"),
        ("asl[clip=-0]", "asl[clip=0]", "asl--clip-0"),
        ("ldam[scale=1E+20]", "ldam[scale=1e20]", "ldam--scale-1e20"),
    ],
)  # fmt: skip
def test_one_spelling(text: str, canonical: str, slug: str) -> None:
    spec = parse_loss(text)
    assert (spec.text, spec.slug) == (canonical, slug)
    assert parse_loss(spec.text) == spec
    assert parse_loss(spec.text).params == spec.params


def test_create_gives_the_loss_that_was_written() -> None:
    loss = parse_loss("alpa[variant=pade,order=2/1,double_focus=false,alpha=none]").create()
    assert isinstance(loss, ALPALoss)
    assert (loss.variant, loss.order, loss.double_focus, loss.alpha) == ("pade", (2, 1), False, 0.875)
    margins = parse_loss("ldam[max_margin=0.3]").create([5, 2])
    assert isinstance(margins, LDAMLoss)
    assert margins.class_counts.tolist() == [5, 2]


def test_a_spec_is_a_value() -> None:
    spec = parse_loss("asl[clip=0.1]")
    assert {spec, parse_loss("asl[clip=.1]")} == {spec}
    assert pickle.loads(pickle.dumps(spec)) == spec


NUMBER = st.floats(0, 1e30).map(lambda value: repr(value).replace("e+", "e"))
SPECS = st.builds(
    lambda name, gammas: f"{name}[{','.join(f'{key}={value}' for key, value in gammas.items())}]",
    st.sampled_from(["asl", "alpa"]),
    st.dictionaries(st.sampled_from(["gamma_pos", "gamma_neg"]), NUMBER, min_size=1),
).map(parse_loss)


@settings(max_examples=100, deadline=None)
@given(SPECS, SPECS)
def test_slugs_are_safe_and_never_collide(first: LossSpec, second: LossSpec) -> None:
    assert re.fullmatch(r"[a-z0-9._-]+", first.slug)
    assert (first.slug == second.slug) == (first.text == second.text)
    assert parse_loss(first.text) == first


@pytest.mark.parametrize("name", list_losses())
def test_every_name_reads(name: str) -> None:
    assert parse_loss(name).create([2, 1]).name == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alpah", "one of the losses .*did you mean alpa"),
        ("zzz", r"got 'zzz'; known: alpa, "),
        ("", "name or name"),
        ("alpa[", "name or name"),
        ("alpa]", "name or name"),
        ("alpa[preset=v1]x", "name or name"),
        ("alpa[preset]", "parameter=value .* got 'preset'"),
        ("alpa[preset=v1,]", "parameter=value"),
        (
            "asl[gama=1]",
            "parameters of asl among gamma_pos, gamma_neg, clip, detach_focal_weight, tau, got 'gama'",
        ),
        ("alpa[gama_neg=2]", "among .*gamma_neg.*, got 'gama_neg'; did you mean .*gamma_neg"),
        ("asl[reduction=sum]", "parameters of asl among"),
        ("asl[clip=0,clip=0]", "clip twice"),
        ("asl[clip=much]", "clip to be a number, got 'much'"),
        ("asl[clip=nan]", "clip to be a number"),
        ("asl[clip=none]", "clip to be a number"),
        ("asl[clip=1]", r"clip in \[0, 1\), got 1.0"),
        ("asl[gamma_neg=-1]", "gamma_neg >= 0, got -1.0"),
        ("asl[detach_focal_weight=1]", "detach_focal_weight to be true or false"),
        ("alpa[variant=released]", "variant to be one of paper, code, pade, got 'released'"),
        ("alpa[variant=pade,order=2]", "order as two whole numbers, such as 2/1, got '2'"),
        ("alpa[clip=0.1]", "clip only with variant code"),
    ],
)
def test_bad_text_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"expected .*{message}"):
        parse_loss(text)


def test_split_at_the_commas_outside_brackets() -> None:
    assert split_losses("alpa[variant=pade,order=1/1], asl,ce") == [
        "alpa[variant=pade,order=1/1]",
        "asl",
        "ce",
    ]
    assert split_losses("ce") == ["ce"]


@pytest.mark.parametrize("text", ["", "alpa,,asl", "alpa,", "alpa[preset=v1,asl", "alpa],asl"])
def test_split_names_what_does_not_fit(text: str) -> None:
    with pytest.raises(ValueError, match="expected "):
        split_losses(text)
