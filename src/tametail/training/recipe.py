"""What a run is, but for its loss and data: read from YAML, checked field by field."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tametail.core.errors import UsageError
from tametail.core.registry import nearest

_PACKAGED = resources.files("tametail.training") / "recipes"
_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]


class OptimizerSettings(BaseModel):
    """How gradients become steps.

    Attributes:
        kind: ``adamw``, ``adam`` or ``sgd``.
        lr: largest learning rate, for a batch of ``batch_size``.
        weight_decay: pull towards zero: of matrices and kernels, apart from the gradient (``adamw``) or added to it
            (``sgd``); of all weights, added to the gradient, with ``adam``, as torch's own has it.
        momentum: in [0, 1): share that is kept of the last steps' direction; the first beta of ``adamw`` and ``adam``.
        layer_decay: in (0, 1]: each layer learns by this factor slower than the next one towards the head; null for
            one rate. With ``trains: all`` alone.
    """

    model_config = _STRICT
    kind: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: Positive
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    layer_decay: Share | None = None


class AugmentationSettings(BaseModel):
    """Geometry, and no change of colour unless asked for.

    Attributes:
        flip: mirror left-right and top-bottom, each with probability one half; or ``horizontal`` or ``vertical``
            alone, where the other would show what cannot be (a heart on the right).
        scale: range of the share of the image's side that is seen, drawn uniformly. Images are kept with the pixels that
            the smallest share needs, up to twice the network's side.
        rotation: largest turn, in degrees, either way.
        colour: largest relative change of brightness and of contrast. Leave it 0 where colour or density carries
            the diagnosis (stains, skin lesions, X-ray densities).
        operations: how many of the further changes are drawn for each image, 0 to 4 (RandAugment): a turn, a shear or
            shift along either axis, a zoom, a little brightness, contrast or sharpness. None changes hue, inverts,
            reduces grey levels or covers a part.
        magnitude: their largest strength, in (0, 1]; 1 allows turns by 45 degrees, shifts by a fifth of the side,
            zooms by 1.3, and a fifth of brightness. What comes in from outside is the image mirrored.
        sharpening: share of the images whose sharpness is doubled, in [0, 1].
        erasing: share of the images of which a rectangle is blackened, 2 to 33 % of the area, in [0, 1]. It can take
            the finding away and leave its label; it is here because the paper's released code has it.
    """

    model_config = _STRICT
    flip: bool | Literal["horizontal", "vertical"] = False
    scale: tuple[Share, Share] = (1.0, 1.0)
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    colour: Annotated[float, Field(ge=0, lt=1)] = 0.0
    operations: Annotated[int, Field(ge=0, le=4)] = 0
    magnitude: Share = 0.3
    sharpening: Annotated[float, Field(ge=0, le=1)] = 0.0
    erasing: Annotated[float, Field(ge=0, le=1)] = 0.0


class MixingSettings(BaseModel):
    """Each image of a batch mixed with another, and the labels with them.

    Attributes:
        kind: ``none``, ``mixup``, ``cutmix`` or ``remix``; see `tametail.data.sampling.mixing`.
        alpha: the share λ of an image is drawn from Beta(alpha, alpha). Small values (0.2, mixup's and remix's) leave
            most images nearly alone, 1 (cutmix's) makes all shares equally likely.
        probability: share of the batches that are mixed.
    """

    model_config = _STRICT
    kind: Literal["none", "mixup", "cutmix", "remix"] = "none"
    alpha: Positive = 0.2
    probability: Share = 1.0


class Recipe(BaseModel):
    """How a run trains.

    Attributes:
        name: what the recipe is called in results.
        summary: one line for people.
        trains: ``head`` (frozen backbone, cached features) or ``all`` (fine-tuning).
        backbone: timm name.
        weights: ``auto``, ``offline``, ``none`` or the path of a weight file.
        image_size: pixels; null for the backbone's own.
        epochs: passes over the training set.
        batch_size: images per step.
        optimizer: its kind and settings.
        schedule: what the learning rate does after its rise: ``cosine`` falls along half a cosine to zero at the last
            epoch, ``constant`` stays.
        warmup_epochs: linear rise of the learning rate, at most half of the epochs.
        gradient_clip: largest norm of the gradient; null for none.
        ema_decay: decay of the averaged weights that are then the result; null for none.
        label_smoothing: in [0, 1): share of each label that is spread over all classes. Losses of the sigmoid family
            take the labels as they are.
        head: ``auto`` (what the loss was made for) or ``normalised`` (cosines between features and class weights).
        reweighting: by the effective number of images of a class: ``none``, ``always``, or ``deferred`` to the last
            epochs (LDAM-DRW). A loss that corrects for the class counts itself corrects twice.
        deferred_from: in (0, 1): share of the epochs after which deferred re-weighting and re-sampling begin; the last
            epoch is always among them.
        augmentation: what is done to training images; with ``trains: head`` there is none.
        sampler: how often a class is shown: ``shuffled`` (every image once per epoch), ``balanced`` (all classes equally
            often), ``sqrt`` (by the square root of their counts), ``progressive`` (from shuffled to balanced over the
            epochs), ``deferred`` (shuffled, and balanced in the last epochs). The losses still get the true class counts, so that one that corrects for them corrects twice.
        mixing: batches of mixed images, or, with ``trains: head``, of mixed features (no cutmix).
        precision: ``float32``, ``bfloat16``, ``float16`` or ``auto`` (bfloat16 on a GPU that has it).
    """

    model_config = _STRICT
    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    summary: str = ""
    trains: Literal["head", "all"]
    backbone: str
    weights: str = "auto"
    image_size: Annotated[int, Field(ge=8, le=4096)] | None = None
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    optimizer: OptimizerSettings
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    gradient_clip: Positive | None = None
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    head: Literal["auto", "normalised"] = "auto"
    reweighting: Literal["none", "deferred", "always"] = "none"
    deferred_from: Annotated[float, Field(gt=0, lt=1)] = 0.8
    augmentation: AugmentationSettings = AugmentationSettings()
    sampler: Literal["shuffled", "balanced", "sqrt", "progressive", "deferred"] = "shuffled"
    mixing: MixingSettings = MixingSettings()
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"

    @property
    def deferred_epoch(self) -> int:
        """The first epoch, counted from 0, that deferred re-weighting and re-sampling apply to."""
        return min(math.ceil(self.deferred_from * self.epochs - 1e-9), self.epochs - 1)

    @model_validator(mode="after")
    def _check_that_fields_agree(self) -> Recipe:
        if self.trains == "all":
            return self
        if self.mixing.kind == "cutmix":
            raise ValueError(
                "expected mixing.kind none, mixup or remix with trains: head: its inputs are features, and cutmix "
                "pastes a part of one image into another"
            )
        if self.optimizer.layer_decay is not None:
            raise ValueError(
                f"expected optimizer.layer_decay null with trains: head, got {self.optimizer.layer_decay}: the "
                f"backbone's layers are frozen and do not learn at any rate"
            )
        for name in ("operations", "sharpening", "erasing"):
            if value := getattr(self.augmentation, name):
                raise ValueError(
                    f"expected augmentation.{name} 0 with trains: head, got {value}: the features are of the images "
                    f"as they are, so that augmentation has no effect"
                )
        return self


_GROUPS: dict[str, type[BaseModel]] = {
    "optimizer": OptimizerSettings,
    "augmentation": AugmentationSettings,
    "mixing": MixingSettings,
}


def list_recipes() -> list[str]:
    """Names of the recipes in the package."""
    folder = resources.files("tametail.training").joinpath("recipes")
    return sorted(
        entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")
    )


def load_recipe(
    recipe: str | Path, *, fields: Mapping[str, Any] | None = None, assignments: Sequence[str] = ()
) -> Recipe:
    """Read a recipe by name or from a YAML file, change some of its fields, and check it.

    Args:
        recipe: a name from `list_recipes`, or the path of a file that ends in .yaml or .yml.
        fields: top-level fields to replace; those that are None are left as they are.
            ``lr`` stands for ``optimizer.lr``.
        assignments: ``"optimizer.lr=3e-4"``: dotted path and YAML value, applied last.

    Raises:
        UsageError: an unknown recipe or field, or a value out of range, named.
    """
    settings = _read(recipe)
    for path, value in (fields or {}).items():
        if value is not None:
            _assign(settings, "optimizer.lr" if path == "lr" else path, value)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise UsageError(f"expected --set key=value, such as optimizer.lr=3e-4, got {assignment!r}")
        _assign(settings, path.strip(), _value(text))
    if settings.get("weights") == "offline" and not (fields or {}).get("backbone"):
        settings["backbone"] = "tf_efficientnet_lite0"  # the one backbone these weights are of
    try:
        return Recipe.model_validate(settings)
    except ValidationError as error:
        raise UsageError(f"recipe {recipe}: {_in_words(error)}") from error


def _read(recipe: str | Path) -> dict[str, Any]:
    if str(recipe).endswith((".yaml", ".yml")):
        try:
            text = Path(recipe).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"expected a recipe file at {recipe}, but it cannot be read: {error}") from error
    elif str(recipe) in list_recipes():
        text = (_PACKAGED / f"{recipe}.yaml").read_text(encoding="utf-8")
    else:
        raise UsageError(
            f"expected a recipe ({', '.join(list_recipes())}) or a .yaml file, got {str(recipe)!r}; "
            f"{nearest(str(recipe), list_recipes())}"
        )
    try:
        settings = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"recipe {recipe} is not valid YAML: {error}") from error
    if not isinstance(settings, dict):
        raise UsageError(f"expected recipe {recipe} to hold fields and values, got {type(settings).__name__}")
    return settings


def _assign(settings: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        inner = settings.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise UsageError(
                f"expected a field of the recipe, got {path!r}: {parent} has no fields of its own"
            )
        settings = inner
    settings[last] = value


def _value(text: str) -> Any:
    try:
        return float(text)  # YAML 1.1 takes 3e-4 for a string
    except ValueError:
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UsageError(f"expected a YAML value after '=', got {text!r}") from error


def _in_words(error: ValidationError) -> str:
    words = []
    for problem in error.errors():
        place = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            known = _GROUPS.get(place.partition(".")[0], Recipe) if "." in place else Recipe
            words.append(f"there is no field {place!r}; {nearest(place.split('.')[-1], known.model_fields)}")
        else:
            found = f"{place}: {problem['msg']}, got {problem['input']!r}" if place else problem["msg"]
            words.append(found.removeprefix("Value error, "))
    return "; ".join(words)


def completed(recipe: Any) -> dict[str, Any]:
    """What is kept of a recipe, with the fields that the version which wrote it did not know."""
    return Recipe.model_validate(recipe).model_dump(mode="json")
