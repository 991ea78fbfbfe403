from __future__ import annotations

from pathlib import Path

import pytest

from tametail.core.errors import UsageError
from tametail.training.recipe import OptimizerSettings, Recipe, list_recipes, load_recipe


def test_every_recipe_of_the_package_is_valid_and_named_after_its_file() -> None:
    assert list_recipes() == ["head", "modern", "paper", "quick"]
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


def test_recipes_as_they_are_neither_resample_nor_reweight_nor_mix_nor_change_colours() -> None:
    for name in list_recipes():
        recipe = load_recipe(name)
        assert (recipe.sampler, recipe.reweighting, recipe.mixing.kind) == ("shuffled", "none", "none")
        assert (recipe.head, recipe.augmentation.colour) == ("auto", 0.0)


def test_the_papers_recipe_is_its_section_5() -> None:
    recipe = load_recipe("paper")
    assert recipe.backbone.partition(".")[0] == "convnext_base"
    assert (recipe.trains, recipe.weights, recipe.image_size, recipe.batch_size) == ("all", "auto", 256, 128)
    assert recipe.optimizer == OptimizerSettings(kind="adam", lr=1e-4, weight_decay=1e-3, momentum=0.9)


def test_a_recipe_saved_before_a_field_was_there_means_what_it_meant() -> None:
    """What the study.json of an earlier version holds of the recipe quick."""
    saved = {
        "name": "quick",
        "summary": "fine-tuning for a laptop; small images, few epochs",
        "trains": "all",
        "backbone": "tf_efficientnet_lite0",
        "weights": "auto",
        "image_size": 128,
        "epochs": 7,
        "batch_size": 64,
        "optimizer": {"lr": 0.001, "weight_decay": 0.02},
        "warmup_epochs": 0.5,
        "gradient_clip": 1.0,
        "ema_decay": None,
        "augmentation": {"flip": True, "scale": [0.7, 1.0], "rotation": 15.0, "colour": 0.0},
        "sampler": "shuffled",
        "mixing": {"kind": "none", "alpha": 0.2, "probability": 1.0},
        "precision": "auto",
    }
    recipe = Recipe.model_validate(saved)
    assert recipe == load_recipe("quick", assignments=["min_steps=null"])
    assert (recipe.optimizer.kind, recipe.optimizer.momentum, recipe.optimizer.layer_decay) == (
        "adamw",
        0.9,
        None,
    )
    assert (recipe.schedule, recipe.label_smoothing, recipe.head, recipe.reweighting) == (
        "cosine",
        0,
        "auto",
        "none",
    )
    augmentation = recipe.augmentation
    assert (augmentation.operations, augmentation.sharpening, augmentation.erasing) == (0, 0, 0)


def test_every_new_field_is_an_option() -> None:
    recipe = load_recipe(
        "quick",
        assignments=[
            "optimizer={kind: sgd, lr: 0.1, momentum: 0, layer_decay: 1}",
            "schedule=constant",
            "label_smoothing=0.1",
            "head=normalised",
            "reweighting=deferred",
            "deferred_from=0.5",
            "sampler=deferred",
            "precision=float16",
            "augmentation.operations=4",
            "augmentation.magnitude=1",
        ],
    )
    assert (recipe.optimizer.kind, recipe.optimizer.momentum, recipe.optimizer.layer_decay) == ("sgd", 0, 1)
    assert (recipe.head, recipe.sampler, recipe.precision) == ("normalised", "deferred", "float16")
    assert load_recipe("head", assignments=["head=normalised", "reweighting=always"]).reweighting == "always"


@pytest.mark.parametrize(
    ("epochs", "share", "first"), [(30, 0.8, 24), (10, 0.7, 7), (7, 0.8, 6), (1, 0.1, 0)]
)
def test_deferral_begins_after_its_share_and_always_leaves_an_epoch(
    epochs: int, share: float, first: int
) -> None:
    fields = {"epochs": epochs, "deferred_from": share}
    assert load_recipe("quick", fields=fields).deferred_epoch == first


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
        ({"assignments": ["epochs.all=0"]}, "epochs has no sub-fields"),
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
        ({"assignments": ["optimizer.kind=lion"]}, "optimizer.kind: .*'adamw', 'adam', 'sgd' or 'lbfgs'"),
        ({"assignments": ["optimizer.momentum=1"]}, "optimizer.momentum: Input should be less than 1"),
        ({"assignments": ["optimizer.layer_decay=1.1"]}, "optimizer.layer_decay: .*less than or equal to 1"),
        ({"assignments": ["optimizer.layer_decay=0"]}, "optimizer.layer_decay: .*greater than 0"),
        ({"assignments": ["schedule=linear"]}, "schedule: .*'cosine' or 'constant'"),
        ({"assignments": ["label_smoothing=1"]}, "label_smoothing: Input should be less than 1"),
        ({"assignments": ["head=linear"]}, "head: .*'auto' or 'normalised'"),
        ({"assignments": ["reweighting=drw"]}, "reweighting: .*'none', 'deferred' or 'always'"),
        ({"assignments": ["deferred_from=1"]}, "deferred_from: Input should be less than 1"),
        (
            {"assignments": ["augmentation.operations=5"]},
            "augmentation.operations: .*less than or equal to 4",
        ),
        ({"assignments": ["augmentation.magnitude=0"]}, "augmentation.magnitude: .*greater than 0"),
        (
            {"assignments": ["optimizer.layer_decay=0.9"]},
            "^recipe head: expected optimizer.layer_decay null with trains: head, got 0.9: .* frozen",
        ),
        (
            {"assignments": ["augmentation.operations=2"]},
            "^recipe head: expected augmentation.operations 0 with trains: head, got 2: .* without augmentation",
        ),
        ({"assignments": ["augmentation.erasing=0.5"]}, "expected augmentation.erasing 0 with trains: head"),
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


def test_features_of_a_frozen_backbone_are_refused_where_it_is_trained() -> None:
    with pytest.raises(UsageError, match=r"expected no features\.\* with recipe quick, which fine-tunes"):
        load_recipe("quick", assignments=["features.views=flips"])
    assert load_recipe("head", assignments=["features.views=flips"]).features.views == "flips"
    assert load_recipe("head", assignments=["trains=all", "optimizer.kind=adamw"]).trains == "all"


@pytest.mark.parametrize("text", ["[" * 100_000, "a: &a [*a]", "x: " + "1" * 5000, "2001-99-99"])
def test_yaml_that_cannot_be_a_recipe_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=r"bad\.yaml is not valid YAML"):
        load_recipe(tmp_path / "bad.yaml")


def test_a_deep_value_is_refused() -> None:
    with pytest.raises(UsageError, match="expected a YAML value"):
        load_recipe("head", assignments=["epochs=" + "[" * 5000])
