"""Losses of the user's own: what is taken, what is refused, and how their names become folders."""

from __future__ import annotations

import copy
import pickle
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tametail.losses import LossSpec, create_loss, describe_loss, gradient_curve, parse_loss

MODULE = '''
"""Losses of a user."""
import torch
from torch import nn
from tametail.losses import ALPALoss, Loss

def not_a_class(logits, target): ...
class NotAModule: ...

class Scaled(nn.Module):
    """Cross-entropy times a factor.

    Args:
        factor: the factor.
    """
    def __init__(self, factor=1.0, kind="Soft", flag=False, whole: int = 3, anything=None):
        super().__init__()
        self.factor, self.kind, self.flag, self.whole, self.anything = factor, kind, flag, whole, anything
    def forward(self, logits, target):
        return self.factor * nn.functional.cross_entropy(logits, target)

class Weighted(nn.Module):
    family, head, logit_scale = "softmax", "normalised", 16.0
    def __init__(self, class_counts):
        super().__init__()
        self.register_buffer("weights", 1 / torch.as_tensor(class_counts, dtype=torch.float32))
    def forward(self, logits, target):
        logits = self.logit_scale * logits  # a normalised head gives cosines
        return nn.functional.cross_entropy(logits, target, weight=self.weights.to(logits.dtype))

class Sigmoids(nn.Module):
    family = "sigmoid"
    def forward(self, logits, target):
        one_hot = nn.functional.one_hot(target, logits.shape[1]).to(logits.dtype)
        return nn.functional.binary_cross_entropy_with_logits(logits, one_hot, reduction="sum") / len(logits)

class Vector(nn.Module):
    def forward(self, logits, target):
        return logits[:, 0]

class OddFamily(nn.Module):
    family = "tree"

class Failing(nn.Module):
    def __init__(self, gamma: float = 1.0):
        super().__init__()
        if gamma > 5: raise RuntimeError("too strong")

class Silent(Loss): ...

class Mine(ALPALoss):
    name = "mine"
    def __init__(self, *, strength: float = 2.0, class_counts=None):
        super().__init__(alpha=strength, class_counts=class_counts)
        self.strength = strength
'''


@pytest.fixture(autouse=True)
def _in_a_folder_with_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "__init__.py").touch()
    (tmp_path / "own" / "broken.py").write_text("import nothing_of_this_name\n", encoding="utf-8")
    (tmp_path / "own" / "module.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.chdir(tmp_path)
    yield
    for name in [name for name in sys.modules if name == "own" or name.startswith("own.")]:
        del sys.modules[name]


LOGITS, TARGET = torch.tensor([[2.0, -1.0], [0.5, 0.0], [-3.0, 1.0]]), torch.tensor([0, 1, 1])


def test_a_plain_module_is_taken_for_a_softmax_on_a_linear_head() -> None:
    loss = create_loss("own.module:Scaled", class_counts=[2, 1], factor=3)
    assert (loss.name, loss.family, loss.head, loss.logit_scale) == (
        "own.module:Scaled",
        "softmax",
        "linear",
        1,
    )
    assert (loss.link.name, loss.link.exact, loss.link.ceiling) == ("softmax", False, 1)
    assert not loss.uses_class_counts
    torch.testing.assert_close(loss(LOGITS, TARGET), 3 * F.cross_entropy(LOGITS, TARGET))
    torch.testing.assert_close(loss.link(LOGITS), LOGITS.softmax(dim=1))
    assert torch.equal(loss.decision(LOGITS), LOGITS)
    assert not loss.link.saturated(LOGITS).any()


def test_torchs_own_losses_are_taken() -> None:
    loss = parse_loss("torch.nn:CrossEntropyLoss[label_smoothing=0.1]").create([2, 1])
    torch.testing.assert_close(loss(LOGITS, TARGET), F.cross_entropy(LOGITS, TARGET, label_smoothing=0.1))


def test_attributes_of_the_class_declare_and_counts_are_given_where_they_are_asked_for() -> None:
    loss = create_loss("own.module:Weighted", class_counts=[4, 1])
    assert (loss.head, loss.logit_scale, loss.uses_class_counts) == ("normalised", 16, True)
    torch.testing.assert_close(
        loss(LOGITS / 16, TARGET), F.cross_entropy(LOGITS, TARGET, weight=torch.tensor([0.25, 1.0]))
    )
    torch.testing.assert_close(loss.link(LOGITS / 16), LOGITS.softmax(dim=1))
    sigmoids = create_loss("own.module:Sigmoids")
    assert (sigmoids.family, sigmoids.link.name) == ("sigmoid", "sigmoid")
    torch.testing.assert_close(sigmoids.link(LOGITS), LOGITS.sigmoid())


def test_a_loss_of_ours_keeps_its_declarations() -> None:
    loss = parse_loss("own.module:Mine[strength=4]").create([2, 1])
    assert (loss.family, loss.link.name, loss.link.exact) == ("sigmoid", "inverse", True)
    torch.testing.assert_close(loss(LOGITS, TARGET), create_loss("alpa", alpha=4)(LOGITS, TARGET))


def test_a_wrapped_loss_is_copied_pickled_and_restored() -> None:
    loss = create_loss("own.module:Weighted", class_counts=[4, 1])
    for again in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert (again.name, again.head, again.uses_class_counts) == (
            "own.module:Weighted",
            "normalised",
            True,
        )
        assert torch.equal(again(LOGITS, TARGET), loss(LOGITS, TARGET))
    other = create_loss("own.module:Weighted", class_counts=[1, 1])
    other.load_state_dict(loss.state_dict())
    assert torch.equal(other(LOGITS, TARGET), loss(LOGITS, TARGET))


def test_values_are_read_by_annotation_by_default_and_by_looks() -> None:
    text = "own.module:Scaled[factor=2.50,kind=Hard-x,flag=true,whole=04,anything=3.0]"
    spec = parse_loss(text)
    assert spec.params == {"factor": 2.5, "kind": "Hard-x", "flag": True, "whole": 4, "anything": 3}
    assert isinstance(spec.params["whole"], int)
    assert spec.text == "own.module:Scaled[factor=2.5,kind=Hard-x,flag=true,whole=4,anything=3]"
    assert parse_loss(spec.text).params == spec.params
    assert spec.slug == "own.module@~scaled--factor-2.5--kind-~hard-x--flag-true--whole-4--anything-3"
    read = [
        parse_loss(f"own.module:Scaled[anything={text}]").params["anything"]
        for text in ("none", "false", "1e-3", "Word")
    ]
    assert read == [None, False, 0.001, "Word"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("own.absent:Loss", "a module own.absent .*ModuleNotFoundError: No module named 'own.absent'"),
        ("own.broken:Loss", "got ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("own.module:Absent", "a class Absent in module own.module"),
        ("own.module:NotAModule", "subclass of torch.nn.Module, got the class NotAModule"),
        ("own.module:not_a_class", "subclass of torch.nn.Module, got a function"),
        ("own.module:Silent", "declare name, formula and family, got none for name, formula, family"),
        ("own.module:OddFamily", "family of own.module:OddFamily to be one of softmax, sigmoid, got 'tree'"),
        ("own.module:Failing[gamma=6]", r"Failing\(gamma=6.0\), got RuntimeError: too strong"),
        ("own.module:Scaled[facto=6]", "among factor, kind, flag, whole, anything, got 'facto'; did you mean factor"),
        ("own.module:Vector[gamma=6]", "parameters of own.module:Vector among none, got 'gamma'"),
        ("own.module:Scaled[factor=high]", "factor to be a number, got 'high'"),
        ("own.module:Scaled[whole=2.5]", "whole to be a whole number, got '2.5'"),
        ("own.module:Scaled[flag=1]", "flag to be true or false, got '1'"),
        ("own.module:Scaled[kind=a--b]", "kind to be a word"),
        ("own.module:Scaled[anything=a/b]", "anything to be a word"),
        ("torch.nn:CrossEntropyLoss[weight=3]", "weight to be left out, as text cannot describe a Tensor"),
        ("torch.nn:CrossEntropyLoss[reduction=sum]", "parameters of torch.nn:CrossEntropyLoss among"),
        ("own.module:", "package.module:Class"),
        (":Loss", "package.module:Class"),
        ("own/module.py:Loss", "package.module:Class"),
        ("own:module:Loss", "package.module:Class"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"(?s)expected .*{message}"):
        parse_loss(text)


def test_a_module_that_misbehaves_is_named() -> None:
    with pytest.raises(ValueError, match=r"Vector to return a scalar tensor for a batch, got shape \(3,\)"):
        create_loss("own.module:Vector")(LOGITS, TARGET)
    with pytest.raises(
        ValueError, match=r"BCEWithLogitsLoss to take logits \(3, 2\) and class indices \(3,\), got"
    ):
        create_loss("torch.nn:BCEWithLogitsLoss")(LOGITS, TARGET)


def test_the_current_folder_comes_last() -> None:
    parse_loss("own.module:Scaled")
    parse_loss("own.module:Scaled")
    assert sys.path[-1] == str(Path.cwd())
    assert sys.path.count(str(Path.cwd())) == 1


@pytest.mark.parametrize("name", ["Scaled", "Sigmoids", "Weighted"])
def test_its_gradient_is_that_of_the_equivalent_loss(name: str) -> None:
    z = torch.linspace(-4, 4, 9, dtype=torch.float64)
    loss = create_loss(f"own.module:{name}", class_counts=[1, 1])
    for positive in (True, False):
        slope = gradient_curve(loss, z, positive=positive).gradient
        expected = gradient_curve(create_loss("bce"), z, positive=positive).gradient
        torch.testing.assert_close(slope, expected)


def test_it_is_described() -> None:
    described = describe_loss("own.module:Scaled[factor=3]")
    assert (described.summary, described.uses_class_counts) == ("Cross-entropy times a factor.", False)
    factor = described.parameters[0]
    assert (factor.type, factor.default, factor.value, factor.meaning) == ("number", 1.0, 3, "the factor.")
    assert describe_loss("own.module:Weighted").uses_class_counts


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]?(\.[A-Za-z_])?:[A-Za-z_][A-Za-z0-9_]?", fullmatch=True)
WORDS = st.from_regex(r"[A-Za-z0-9_]([.-][A-Za-z0-9_])?", fullmatch=True)
PARAMETERS = st.lists(st.tuples(st.from_regex(r"[A-Za-z_][a-z_]?", fullmatch=True), WORDS), max_size=2)
SPECS = st.builds(
    lambda name, params: LossSpec(
        name + (f"[{','.join(f'{key}={value}' for key, value in params)}]" if params else ""), name, {}
    ),
    NAMES,
    PARAMETERS,
)


@settings(max_examples=150, deadline=None)
@given(SPECS, SPECS)
def test_slugs_are_safe_and_differ_even_where_case_does_not_count(first: LossSpec, second: LossSpec) -> None:
    assert re.fullmatch(r"[a-z0-9._~@-]+", first.slug)
    assert (first.slug == second.slug) == (first.text == second.text)


def test_slugs_differ_by_case_alone() -> None:
    slugs = {LossSpec(text, text, {}).slug for text in ("a:Bc", "a:bC", "A:bc", "a:bc", "a:b_c", "a.b:c")}
    assert len(slugs) == 6
