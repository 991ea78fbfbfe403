from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import FixedTrial

from tametail.core.errors import UsageError
from tametail.losses import list_losses
from tametail.losses.grammar import parse_loss
from tametail.search.default_spaces import DEFAULT_SPACES
from tametail.search.space import NumericRange, Space, make_space
from tametail.training.recipe import load_recipe
from tametail.training.strategies import parse_method

RECIPE = load_recipe("head", assignments=["optimizer.kind=adamw"])


def space(method: str, *texts: str) -> Space:
    return make_space(parse_method(method), RECIPE, texts)


def test_every_loss_has_a_default_space() -> None:
    assert set(DEFAULT_SPACES) == set(list_losses())


@pytest.mark.parametrize("loss", sorted(DEFAULT_SPACES))
def test_a_default_space_can_be_built_at_both_ends(loss: str) -> None:
    found = space(loss)
    assert found.texts == list(DEFAULT_SPACES[loss])  # nothing was left out
    for end in (0, -1):
        written = ",".join(f"{dimension.name}={dimension.ends[end]}" for dimension in found.dimensions)
        parse_loss(f"{loss}[{written}]").create([9, 3, 1])


def test_alpas_is_that_of_the_paper() -> None:
    assert space("alpa").texts == ["alpha=0.5:2", "beta=0.5:2", "gamma_pos=0:5", "gamma_neg=0:5"]


def test_what_the_text_gives_is_fixed() -> None:
    found = space("alpa[variant=pade,gamma_pos=1]+la", "order=1/1|2/2", "lr=1e-4:1e-2:log")
    assert found.texts == [
        "alpha=0.5:2",
        "beta=0.5:2",
        "gamma_neg=0:5",
        "order=1/1|2/2",
        "lr=0.0001:0.01:log",
    ]
    trial = found.trial({"alpha": "0.5", "beta": "2", "gamma_neg": "3", "order": "2/2", "lr": "0.003"})
    assert trial.method.text == "alpa[variant=pade,gamma_pos=1,alpha=0.5,beta=2,gamma_neg=3,order=2/2]+la"
    assert trial.recipe.optimizer.lr == 0.003
    assert trial.recipe.optimizer.weight_decay == RECIPE.optimizer.weight_decay


def test_what_is_asked_for_replaces_and_extends() -> None:
    assert space("focal", "gamma=1:2", "tau=0:2").texts == ["alpha=0.1:0.9", "gamma=1:2", "tau=0:2"]


@settings(deadline=None, max_examples=30)
@given(st.floats(0.5, 2), st.floats(1e-4, 1e-2))
def test_a_value_is_short_within_the_range_and_gives_the_same_method_again(alpha: float, lr: float) -> None:
    found = space("alpa", "lr=1e-4:1e-2:log")
    drawn = {"alpha": alpha, "beta": 1 / 3 + 0.5, "gamma_pos": 0.0123456, "gamma_neg": 4.99999, "lr": lr}
    values = found.suggest(FixedTrial(drawn))
    assert 0.5 <= float(values["alpha"]) <= 2
    assert 1e-4 <= float(values["lr"]) <= 1e-2
    assert abs(float(values["alpha"]) - alpha) <= 0.005 * alpha
    text = found.trial(values).method.text
    assert parse_method(text).text == text
    assert len(text) < 70


def test_rounding_does_not_leave_the_range() -> None:
    sampled = NumericRange("alpha", 0.12345, 0.98765)
    assert sampled.suggest(FixedTrial({"alpha": 0.12346})) == "0.12345"
    assert sampled.suggest(FixedTrial({"alpha": 0.98764})) == "0.98765"


@pytest.mark.parametrize(
    ("method", "text", "message"),
    [
        ("alpa", "gamma_neg", "name=low:high"),
        ("alpa", "gamma_neg=", "name=low:high"),
        ("alpa", "=0:5", "expected --space for a parameter of the loss"),
        ("alpa", "gama_neg=0:5", "gamma_neg"),
        ("alpa", "gamma_neg=5:0", "from a number to a larger one"),
        ("alpa", "gamma_neg=1:1", "from a number to a larger one"),
        ("alpa", "gamma_neg=0:inf", "from a number to a larger one"),
        ("alpa", "gamma_neg=0:nan", "from a number to a larger one"),
        ("alpa", "gamma_neg=0:many", "two numbers"),
        ("alpa", "gamma_neg=0:5:log", "above 0"),
        ("alpa", "gamma_neg=0:5:linear", "low:high:log"),
        ("alpa", "gamma_neg=0:5:log:log", "low:high:log"),
        ("alpa", "gamma_neg=-1:5", "gamma_neg"),
        ("alpa", "order=1/1|2/2", "variant pade"),
        ("alpa", "variant=paper||code", "between |"),
        ("alpa", "variant=" + "|".join(map(str, range(200))), "1 to 100 values"),
        ("alpa[gamma_neg=3]", "gamma_neg=0:5", "fixes gamma_neg"),
        ("alpa", "lr=0:0.1", "lr"),
        ("alpa", "lr=fast", "fast"),
        ("alpa", "class_counts=1:2", "class_counts"),
        ("alpa", "reduction=mean|sum", "reduction"),
        ("ce[label_smoothing=0.1]", "", "expected --space for ce.* its free parameters are "),
    ],
)
def test_a_space_that_cannot_be_is_told(method: str, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("|", r"\|")):
        space(method, *([text] if text else []))


def test_the_same_parameter_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="once"):
        space("alpa", "gamma_neg=0:5", "gamma_neg=0:4")


def test_only_what_the_training_depends_on_can_be_searched() -> None:
    minimised = load_recipe("head")
    found = make_space(parse_method("alpa"), minimised, ["l2=0.003:10:log"])
    assert (
        found.trial({"alpha": "1", "beta": "1", "gamma_pos": "1", "gamma_neg": "1", "l2": "0.5"}).recipe.l2
        == 0.5
    )
    with pytest.raises(UsageError, match=r"without lr, weight_decay: .*search l2"):
        make_space(parse_method("alpa"), minimised, ["lr=1e-4:1e-2:log", "weight_decay=0:1"])
    with pytest.raises(UsageError, match=r"without l2: .*step by step"):
        space("alpa", "l2=0.003:10:log")
