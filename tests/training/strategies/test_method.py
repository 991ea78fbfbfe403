from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tametail.core.errors import UsageError
from tametail.losses import NormalisedLinear
from tametail.models.heads import CosineLinear
from tametail.training.recipe import Recipe, load_recipe
from tametail.training.strategies import (
    Method,
    list_strategies,
    parse_method,
    split_methods,
    strategy_summary,
)

CONTRADICTIONS = [
    {"balanced", "sqrt", "progressive", "drs"},
    {"drw", "reweighted"},
    {"mixup", "cutmix", "remix"},
    {"taunorm", "crt", "lws", "ncm"},
]


def recipe(**changes: object) -> Recipe:
    fields: dict[str, object] = {
        "name": "test",
        "trains": "all",
        "backbone": "none",
        "epochs": 5,
        "batch_size": 16,
        "optimizer": {"lr": 0.05},
        "mixing": {"probability": 0.5},
    }
    return Recipe.model_validate(fields | changes)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("ce", "ce"),
        (" ce + la+ mixup ", "ce+mixup+la"),
        ("ce+la[tau=1.0]", "ce+la"),
        ("ce+la+crt+drw+balanced", "ce+balanced+drw+crt+la"),
        ("alpa[lam=1e+1]+crt[lr=1e-3, epochs=5]", "alpa[lam=10]+crt[epochs=5,lr=0.001]"),
        ("alpa[lam=1e+20]+la[tau=1e+20]", "alpa[lam=1e20]+la[tau=1e20]"),
        ("torch.nn:CrossEntropyLoss+la[tau=.5]", "torch.nn:CrossEntropyLoss+la[tau=0.5]"),
    ],
)
def test_text_has_one_form(text: str, canonical: str) -> None:
    method = parse_method(text)
    assert method.text == canonical
    assert parse_method(canonical) == method
    assert hash(parse_method(canonical)) == hash(method)


def chosen() -> st.SearchStrategy[list[str]]:
    parameters = {
        "la": ["", "[tau=0.5]", "[tau=1e-05]", "[tau=2]"],
        "taunorm": ["", "[tau=0.5]"],
        "crt": ["", "[epochs=2]", "[lr=0.1]", "[epochs=2,lr=0.1]"],
        "lws": ["", "[epochs=2]"],
    }
    names = st.lists(st.sampled_from(list_strategies()), unique=True).filter(
        lambda found: all(len(group & set(found)) < 2 for group in CONTRADICTIONS)
    )
    return names.flatmap(
        lambda found: st.tuples(
            *(st.sampled_from([name + end for end in parameters.get(name, [""])]) for name in found)
        ).map(list)
    )


@given(st.sampled_from(["ce", "alpa[lam=10]", "ce[label_smoothing=0.1]"]), chosen(), st.randoms())
@settings(max_examples=40, deadline=None)
def test_the_order_of_writing_does_not_matter(loss: str, parts: list[str], random: object) -> None:
    method = parse_method("+".join([loss, *parts]))
    random.shuffle(parts)  # type: ignore[attr-defined]
    again = parse_method("+".join([loss, *parts]))
    assert again == method == parse_method(method.text)
    assert method.base.after == ()
    assert Method(method.loss, (*method.base.strategies, *method.after)) == method


@given(*[st.tuples(st.sampled_from(["ce", "ldam", "torch.nn:CrossEntropyLoss"]), chosen())] * 2)
@settings(max_examples=40, deadline=None)
def test_slugs_are_safe_and_unique(one: tuple[str, list[str]], two: tuple[str, list[str]]) -> None:
    first, second = (parse_method("+".join([loss, *parts])) for loss, parts in (one, two))
    assert re.fullmatch(r"[a-z0-9._@~+-]+", first.slug)
    assert (first.slug == second.slug) == (first == second)


def test_a_loss_alone_keeps_the_name_of_its_directory() -> None:
    method = parse_method("alpa[variant=pade,order=1/1]")
    assert (method.text, method.slug) == (method.loss.text, method.loss.slug)
    assert method.base is method
    assert not method.single_label


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ce+mixip", r"ce\+mixip: expected one of the strategies of .*'mixip'; did you mean mixup"),
        ("ce+focal", "expected one of the strategies"),
        ("cee+la", "expected one of the losses of tametail.*did you mean"),
        ("ce+", r"expected a strategy as name or name\[parameter=value"),
        ("ce+la]", "expected a loss as name"),
        ("ce+la+la[tau=2]", "each strategy once, got la twice"),
        ("ce+drw+drw", "each strategy once, got drw twice"),
        ("ce+drs+balanced", "at most one strategy that sets the recipe's sampler, got balanced and drs"),
        ("ce+drw+reweighted", "sets the recipe's reweighting, got drw and reweighted"),
        ("ce+mixup+remix", "sets the recipe's mixing.kind, got mixup and remix"),
        ("ce+ncm+crt", "at most one strategy that fits a new head, got crt and ncm"),
        ("ce+mixup[alpha=1]", "expected mixup without parameters.*mixing.kind, mixing.alpha by --set"),
        ("ce+la[tua=1]", "expected parameters of la among tau, got 'tua'; did you mean tau"),
        ("ce+ncm[tau=1]", "expected parameters of ncm among none"),
        ("ce+la[tau]", r"expected parameter=value between the brackets of 'la\[tau\]'"),
        ("ce+la[tau=1,tau=1]", "expected each parameter of la once, got tau twice"),
        ("ce+la[tau=-1]", "expected tau to be a number >= 0, got '-1'"),
        ("ce+la[tau=1e999]", "expected tau >= 0, got inf"),
        ("ce+crt[epochs=1.5]", "expected epochs to be a whole number"),
        ("ce+crt[epochs=0]", "expected epochs >= 1, got 0"),
        ("ce+lws[lr=0]", "expected lr > 0, got 0"),
    ],
)
def test_wrong_methods_are_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_method(text)


def test_lists_are_split_at_commas_outside_brackets() -> None:
    assert split_methods("ce+la , alpa[preset=v1,lam=2]+crt[epochs=3,lr=1],asl") == [
        "ce+la",
        "alpa[preset=v1,lam=2]+crt[epochs=3,lr=1]",
        "asl",
    ]
    with pytest.raises(ValueError, match="expected methods separated by commas"):
        split_methods("ce,,la")


def test_every_strategy_has_a_line() -> None:
    for name in list_strategies():
        assert re.fullmatch(r"[A-Z][^\n]{19,109}[^.] \(.+ [12]\d{3}\)", strategy_summary(name)), name
    with pytest.raises(ValueError, match="did you mean mixup"):
        strategy_summary("mixips")


def test_changes_of_the_recipe_change_what_they_say_and_nothing_else() -> None:
    changed = parse_method("ce+drs+drw+cutmix+normalised+la").configure(recipe())
    expected = recipe(
        sampler="deferred",
        reweighting="deferred",
        head="normalised",
        mixing={"kind": "cutmix", "alpha": 1.0, "probability": 0.5},
    )
    assert changed == expected
    assert parse_method("ce+crt").configure(recipe()) == recipe()
    for name in list_strategies():
        method = parse_method(f"ce+{name}")
        assert (method.configure(recipe()) == recipe()) == bool(method.after)


def test_a_recipe_that_a_strategy_cannot_be_with_is_refused() -> None:
    with pytest.raises(UsageError, match=r"ce\+cutmix with recipe test: expected mixing.kind none, mixup or"):
        parse_method("ce+cutmix").configure(recipe(trains="head"))
    with pytest.raises(UsageError, match="expected a linear head for taunorm, got the cosine one"):
        parse_method("ce+taunorm").configure(recipe(head="normalised"))
    with pytest.raises(UsageError, match="expected a linear head for taunorm, got the normalised one"):
        parse_method("ldam+taunorm").configure(recipe())


def test_a_normalised_head_is_for_losses_that_have_none() -> None:
    assert isinstance(parse_method("ce+normalised").build_head(4, 3), CosineLinear)
    assert isinstance(parse_method("ce").build_head(4, 3, "normalised"), CosineLinear)
    assert isinstance(parse_method("ldam+normalised").build_head(4, 3), NormalisedLinear)
    assert parse_method("torch.nn:CrossEntropyLoss").trained_head() == "linear"


@pytest.mark.parametrize("strategy", ["drw", "reweighted"])
def test_a_module_that_gives_one_number_per_batch_cannot_weigh_its_images(strategy: str) -> None:
    with pytest.raises(UsageError, match="a value for each image"):
        parse_method(f"torch.nn:CrossEntropyLoss+{strategy}").configure(load_recipe("quick"))
    parse_method("torch.nn:CrossEntropyLoss+drs").configure(load_recipe("quick"))
