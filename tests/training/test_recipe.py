from __future__ import annotations

from pathlib import Path

import pytest

from tametail.errors import UsageError
from tametail.training.recipe import Recipe, list_recipes, load_recipe


def test_every_recipe_of_the_package_is_valid_and_named_after_its_file() -> None:
    assert list_recipes() == ["head", "modern", "quick"]
    for name in list_recipes():
        assert load_recipe(name).name == name


def test_fields_and_assignments_change_a_recipe() -> None:
    recipe = load_recipe(
        "quick", fields={"epochs": 3, "lr": 0.5, "backbone": None}, assignments=["optimizer.lr=3e-4"]
    )
    assert (recipe.epochs, recipe.optimizer.lr, recipe.backbone) == (3, 3e-4, "tf_efficientnet_lite0")
    assert load_recipe("quick", assignments=["augmentation.scale=[0.5, 1]"]).augmentation.scale == (0.5, 1.0)
    assert load_recipe("modern", assignments=["ema_decay=null"]).ema_decay is None


def test_samplers_mixing_and_augmentation_are_options() -> None:
    recipe = load_recipe(
        "quick",
        assignments=[
            "sampler=progressive",
            "mixing.kind=cutmix",
            "mixing.alpha=1",
            "augmentation.flip=horizontal",
            "augmentation.colour=0.1",
        ],
    )
    assert (recipe.sampler, recipe.mixing.kind, recipe.mixing.alpha) == ("progressive", "cutmix", 1.0)
    assert (recipe.augmentation.flip, recipe.augmentation.colour) == ("horizontal", 0.1)
    assert load_recipe("head", assignments=["mixing.kind=remix"]).mixing.kind == "remix"


def test_recipes_as_they_are_neither_resample_nor_mix_nor_change_colours() -> None:
    for name in list_recipes():
        recipe = load_recipe(name)
        assert (recipe.sampler, recipe.mixing.kind, recipe.augmentation.colour) == ("shuffled", "none", 0.0)


def test_offline_weights_bring_their_backbone_unless_one_is_named() -> None:
    assert load_recipe("modern", fields={"weights": "offline"}).backbone == "tf_efficientnet_lite0"
    assert load_recipe("modern", fields={"weights": "offline", "backbone": "resnet18"}).backbone == "resnet18"


def test_a_recipe_survives_saving() -> None:
    recipe = load_recipe("modern")
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


def test_a_recipe_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "name: mine\ntrains: head\nbackbone: resnet18\nepochs: 2\nbatch_size: 8\noptimizer: {lr: 0.1}\n",
        encoding="utf-8",
    )
    assert load_recipe(file).name == "mine"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"assignments": ["epochs"]}, "expected --set key=value"),
        ({"assignments": ["epoch=3"]}, "no field 'epoch'; did you mean epochs"),
        ({"assignments": ["optimizer.rate=3"]}, "no field 'optimizer.rate'"),
        ({"assignments": ["optimizer.lr=0"]}, "optimizer.lr: Input should be greater than 0, got 0"),
        ({"assignments": ["epochs.all=0"]}, "epochs has no fields of its own"),
        ({"assignments": ["epochs=[1"]}, "expected a YAML value"),
        ({"fields": {"epochs": 0}}, "epochs: Input should be greater than or equal to 1"),
        ({"fields": {"lr": float("nan")}}, "optimizer.lr"),
        ({"assignments": ["sampler=balance"]}, "sampler: .*'balanced'"),
        ({"assignments": ["mixing.kind=mix"]}, "mixing.kind: .*'mixup'"),
        ({"assignments": ["mixing.alfa=1"]}, r"no field 'mixing.alfa'; did you mean alpha"),
        ({"assignments": ["mixing.alpha=0"]}, "mixing.alpha: Input should be greater than 0"),
        (
            {"assignments": ["mixing.probability=2"]},
            "mixing.probability: Input should be less than or equal to 1",
        ),
        (
            {"assignments": ["mixing.kind=cutmix"]},
            "^recipe head: expected mixing.kind .* inputs are features",
        ),
        ({"assignments": ["augmentation.flip=up"]}, "augmentation.flip"),
    ],
)
def test_bad_changes_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_recipe("head", **changes)  # type: ignore[arg-type]


def test_unknown_and_broken_recipes_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean modern"):
        load_recipe("moder")
    with pytest.raises(UsageError, match="cannot be read"):
        load_recipe(tmp_path / "absent.yaml")
    for text, message in (("a: [", "not valid YAML"), ("- 1", "fields and values, got list")):
        (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(UsageError, match=message):
            load_recipe(tmp_path / "bad.yaml")
