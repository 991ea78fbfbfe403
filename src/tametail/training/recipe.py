"""Training recipes: all settings of a run except its loss and data, read from YAML and validated."""

from __future__ import annotations

import copy
import inspect
import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tametail.core.errors import DataError, UsageError
from tametail.core.invalid import first_error
from tametail.core.registry import nearest
from tametail.core.regular_file import regular
from tametail.core.yaml_text import parse_yaml

_WIDTH = 100

# Parameters that a search may sample, with their fields.
RECIPE_PARAMETERS = {"lr": "optimizer.lr", "weight_decay": "optimizer.weight_decay", "l2": "l2"}

_PACKAGED = resources.files("tametail.training") / "recipes"
_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, le=1)]


class OptimizerSettings(BaseModel):
    """The optimizer and its hyper-parameters.

    Attributes:
        kind: ``adamw``, ``adam``, ``sgd``, or, with ``trains: head``, ``lbfgs``: heads are trained to the minimum of
            their penalised loss over all training images, see ``l2``. Losses for which that is not possible (stochastic
            ones, those with a normalised head, modules of your own), mixing and class-balanced sampling are trained with
            AdamW and the other fields.
        lr: peak learning rate; with ``lbfgs``, of AdamW.
        weight_decay: weight decay: decoupled and of weight matrices and kernels only with ``adamw``, an L2 penalty on
            those with ``sgd``, an L2 penalty on all parameters with ``adam`` (as in torch.optim.Adam).
        momentum: momentum of ``sgd``, beta1 of ``adamw`` and ``adam``, in [0, 1).
        layer_decay: layer-wise learning-rate decay, in (0, 1]: factor between the learning rates of neighbouring
            layers, smaller towards the input; null for none. Only with ``trains: all``.
    """

    model_config = _STRICT
    kind: Literal["adamw", "adam", "sgd", "lbfgs"] = "adamw"
    lr: Positive
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    layer_decay: Fraction | None = None


class AugmentationSettings(BaseModel):
    """Random augmentation of training images: geometric by default, colour only on request.

    Attributes:
        flip: random horizontal and vertical flips, each with probability 0.5; or ``horizontal`` or ``vertical`` only,
            where the other would be anatomically impossible (a heart on the right).
        scale: range of the crop's side as a fraction of the image's side, drawn uniformly. Images are cached with the
            resolution that the smallest crop needs, up to twice the network's input size.
        rotation: maximum rotation in degrees, in both directions.
        colour: maximum relative change of brightness and contrast. Leave it 0 where colour or density carries the
            diagnosis (stains, skin lesions, X-ray densities).
        operations: number of RandAugment operations per image, 0 to 4, drawn from rotation, shear and translation along
            each axis, zoom, brightness, contrast and sharpness. None changes hue, inverts, posterises or erases.
        magnitude: maximum strength of these operations, in (0, 1]; 1 allows 45 degrees of rotation, translation by a
            fifth of the side, zoom by 1.3, and 20 % of brightness. Borders are filled by reflection.
        sharpening: probability that an image's sharpness is doubled, in [0, 1].
        erasing: probability of random erasing, in [0, 1]: a black rectangle of 2 to 33 % of the area. It can remove the
            finding and keep its label; it is included because the paper's released code has it.
    """

    model_config = _STRICT
    flip: bool | Literal["horizontal", "vertical"] = False
    scale: tuple[Fraction, Fraction] = (1.0, 1.0)
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    colour: Annotated[float, Field(ge=0, lt=1)] = 0.0
    operations: Annotated[int, Field(ge=0, le=4)] = 0
    magnitude: Fraction = 0.3
    sharpening: Annotated[float, Field(ge=0, le=1)] = 0.0
    erasing: Annotated[float, Field(ge=0, le=1)] = 0.0


class MixingSettings(BaseModel):
    """Mixing of each image of a batch with another one, and of their labels.

    Attributes:
        kind: ``none``, ``mixup``, ``cutmix`` or ``remix``; see `tametail.data.sampling.mixing`.
        alpha: the mixing weight λ is drawn from Beta(alpha, alpha). Small values (0.2 for mixup and remix) leave most
            images nearly unchanged; with 1 (cutmix) λ is uniform.
        probability: probability that a batch is mixed.
    """

    model_config = _STRICT
    kind: Literal["none", "mixup", "cutmix", "remix"] = "none"
    alpha: Positive = 0.2
    probability: Fraction = 1.0


class FeatureSettings(BaseModel):
    """The feature vector of a frozen backbone, with ``trains: head``.

    Attributes:
        stages: ``all`` adds the pooled outputs of all stages of the backbone to its own features, from the same forward
            pass; ``none`` leaves them out. Backbones whose stages cannot be found give their own features alone.
        pooling: ``mean_std`` pools a stage to the mean and the standard deviation over the positions of the image, and
            for transformers the class token; ``mean`` leaves the deviation out.
        views: ``horizontal_flip``, ``flips`` or ``flips_and_rotations`` (by quarter turns) average the features over 2, 4
            or 8 views of an image, at 2, 4 or 8 times the cost; ``none`` takes the image as it is. Only where a mirrored
            image could be one of the same class: not for chest X-rays or whatever has sides.
    """

    model_config = _STRICT
    stages: Literal["all", "none"] = "none"
    pooling: Literal["mean", "mean_std"] = "mean_std"
    views: Literal["none", "horizontal_flip", "flips", "flips_and_rotations"] = "none"


class Recipe(BaseModel):
    """All training settings of a run.

    Attributes:
        name: name of the recipe in results.
        summary: one-line description.
        trains: ``head`` (frozen backbone, cached features) or ``all`` (fine-tuning).
        backbone: name of a timm model or of a registered backbone.
        weights: ``auto`` (pretrained), ``offline``, ``none`` (random) or the path of a weight file.
        image_size: side of the input in pixels; null for the backbone's default.
        features: the feature vector of a frozen backbone; not used with ``trains: all``.
        epochs: number of training epochs.
        min_steps: minimum number of optimizer steps: small training sets get more epochs; null for none. It does not apply
            where ``epochs`` is overridden.
        batch_size: images per optimizer step.
        optimizer: kind and hyper-parameters of the optimizer.
        l2: strength λ of the penalty λ/2 ‖W‖² on the weights of heads that are trained to the minimum: a number;
            ``chosen`` by the log-loss of cross-entropy on the inner folds, for losses that do not share its link among
            three neighbours by their own; or ``per_method``, by the log-loss of each loss on the whole grid, 0.003 to 10.
        schedule: learning-rate schedule after warm-up: ``cosine`` (annealing to zero at the last epoch) or ``constant``.
        warmup_epochs: epochs of linear learning-rate warm-up, at most half of all epochs.
        gradient_clip: maximum norm of the gradient; null for no clipping.
        ema_decay: decay of the exponential moving average of the weights, which is the final model; null for none.
        label_smoothing: label smoothing in [0, 1), in proportion to the class counts. Losses of the sigmoid family
            ignore it.
        head: ``auto`` (the head that the loss needs) or ``normalised`` (cosine classifier).
        reweighting: class weights by the effective number of images: ``none``, ``always``, or ``deferred`` to the last
            epochs (LDAM-DRW). A loss that adjusts for the class counts itself then adjusts twice.
        deferred_from: fraction of the epochs, in (0, 1), after which deferred re-weighting and re-sampling begin; they
            always include the last epoch.
        augmentation: random augmentation of training images; none with ``trains: head``.
        sampler: ``shuffled`` (every image once per epoch), ``balanced`` (class-balanced), ``sqrt`` (by the square root
            of the class counts), ``progressive`` (from shuffled to balanced over the epochs) or ``deferred`` (shuffled,
            then balanced in the last epochs). Losses still get the true class counts, so that one that adjusts for them
            adjusts twice.
        mixing: mixing of images, or of features with ``trains: head`` (no cutmix).
        precision: ``float32``, ``bfloat16``, ``float16`` or ``auto`` (bfloat16 on a GPU that has it).
    """

    model_config = _STRICT
    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    summary: str = ""
    trains: Literal["head", "all"]
    backbone: str
    weights: str = "auto"
    image_size: Annotated[int, Field(ge=8, le=4096)] | None = None
    features: FeatureSettings = FeatureSettings()
    epochs: Annotated[int, Field(ge=1)]
    min_steps: Annotated[int, Field(ge=1)] | None = None
    batch_size: Annotated[int, Field(ge=1)]
    optimizer: OptimizerSettings
    l2: Positive | Literal["chosen", "per_method"] = "chosen"
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
        """First epoch, counted from 0, with deferred re-weighting and re-sampling."""
        return min(math.ceil(self.deferred_from * self.epochs - 1e-9), self.epochs - 1)

    def with_enough_steps(self, images: int) -> Recipe:
        """The recipe for a number of training images, with the epochs that ``min_steps`` needs."""
        steps = max(math.ceil(images / self.batch_size), 1)
        epochs = max(self.epochs, math.ceil((self.min_steps or 0) / steps))
        return self if epochs == self.epochs else self.model_copy(update={"epochs": epochs})

    @model_validator(mode="after")
    def _check_that_fields_agree(self) -> Recipe:
        if self.trains == "all":
            if self.optimizer.kind == "lbfgs":
                raise ValueError(
                    "expected optimizer.kind adamw, adam or sgd with trains: all, got lbfgs, which trains heads"
                )
            return self
        if self.mixing.kind == "cutmix":
            raise ValueError(
                "expected mixing.kind none, mixup or remix with trains: head: its inputs are features, and cutmix "
                "pastes patches of images"
            )
        if self.optimizer.layer_decay is not None:
            raise ValueError(
                f"expected optimizer.layer_decay null with trains: head, got {self.optimizer.layer_decay}: the "
                f"backbone is frozen"
            )
        for name in ("operations", "sharpening", "erasing"):
            if value := getattr(self.augmentation, name):
                raise ValueError(
                    f"expected augmentation.{name} 0 with trains: head, got {value}: features are cached "
                    f"without augmentation"
                )
        return self


def list_recipes() -> list[str]:
    """Return the names of the packaged recipes."""
    names = (entry.name for entry in _PACKAGED.iterdir())
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def load_recipe(
    recipe: str | Path, *, fields: Mapping[str, Any] | None = None, assignments: Sequence[str] = ()
) -> Recipe:
    """Load a recipe by name or from a YAML file, override some of its fields, and validate it.

    Args:
        recipe: a name from `list_recipes`, or the path of a file that ends in .yaml or .yml.
        fields: top-level fields to override; None leaves a field unchanged. ``lr`` stands for ``optimizer.lr``.
        assignments: ``"optimizer.lr=3e-4"``: dotted path and YAML value, applied last.

    Raises:
        UsageError: an unknown recipe or field, or an invalid value.
    """
    settings = _read(recipe)
    for path, value in (fields or {}).items():
        if value is not None:
            assign(settings, "optimizer.lr" if path == "lr" else path, value)
    if (fields or {}).get("epochs") is not None:
        settings["min_steps"] = None
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise UsageError(f"expected --set key=value, such as optimizer.lr=3e-4, got {assignment!r}")
        assign(settings, path.strip(), _value(text))
        if path.strip() == "epochs":
            settings["min_steps"] = None
    if settings.get("weights") == "offline" and not (fields or {}).get("backbone"):
        settings["backbone"] = "tf_efficientnet_lite0"  # the only one with offline weights
    try:
        loaded = Recipe.model_validate(settings)
    except ValidationError as error:
        raise UsageError(f"recipe {recipe}: {explain_invalid(error)}") from error
    if loaded.trains == "all" and any(each.strip().startswith("features.") for each in assignments):
        raise UsageError(
            f"expected no features.* with recipe {recipe}, which fine-tunes: they are the features of a frozen backbone, as "
            f"in recipe head"
        )
    return loaded


def recorded_recipe(described: Mapping[str, Any]) -> Recipe:
    """The recipe of a study from its study.json.

    Raises:
        DataError: it is damaged.
    """
    try:
        return Recipe.model_validate(described["recipe"])
    except ValidationError as error:
        raise DataError(
            f"expected a recipe in study.json, but it is damaged: {first_error(error)}"
        ) from error


def _read(recipe: str | Path) -> dict[str, Any]:
    if str(recipe).endswith((".yaml", ".yml")):
        try:
            text = regular(Path(recipe)).read_text(encoding="utf-8")
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
        settings = parse_yaml(text)
    except ValueError as error:
        raise UsageError(f"recipe {recipe} is not valid YAML: {error}") from error
    if not isinstance(settings, dict):
        raise UsageError(f"expected recipe {recipe} to hold fields and values, got {type(settings).__name__}")
    return settings


def assign(settings: dict[str, Any], path: str, value: Any) -> None:
    """Set the field at a dotted path of nested settings.

    Raises:
        UsageError: a parent is not a group of fields.
    """
    *parents, last = path.split(".")
    for parent in parents:
        inner = settings.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise UsageError(f"expected a field of the recipe, got {path!r}: {parent} has no sub-fields")
        settings = inner
    settings[last] = value


def with_recipe_values(recipe: Mapping[str, Any], values: Mapping[str, float]) -> dict[str, Any]:
    """The fields of a recipe with values of `RECIPE_PARAMETERS`."""
    changed = copy.deepcopy(dict(recipe))
    for name, value in values.items():
        assign(changed, RECIPE_PARAMETERS[name], value)
    return changed


def _value(text: str) -> Any:
    try:
        return float(text)  # YAML 1.1 takes 3e-4 for a string
    except ValueError:
        try:
            return parse_yaml(text)
        except ValueError as error:
            raise UsageError(f"expected a YAML value after '=', got {text!r}") from error


def explain_invalid(error: ValidationError) -> str:
    """The reasons why a recipe is invalid, in one line."""
    words = []
    for problem in error.errors():
        place = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            group, _, name = place.rpartition(".")
            known: Any = Recipe.model_fields[group].annotation if group else Recipe
            words.append(f"there is no field {place!r}; {nearest(name, known.model_fields)}")
        else:
            found = f"{place}: {problem['msg']}, got {problem['input']!r}" if place else problem["msg"]
            words.append(found.removeprefix("Value error, "))
    return "; ".join(words)


def recipe_yaml(recipe: Recipe) -> str:
    """YAML for `load_recipe`, with a comment above each field that describes it."""
    return "\n".join(_lines(recipe, "")) + "\n"


def field_descriptions(model: type[BaseModel]) -> dict[str, str]:
    """Description of each field from the ``Attributes`` of the docstring; empty where there is none."""
    _, _, listed = inspect.cleandoc(model.__doc__ or "").partition("Attributes:\n")
    descriptions: dict[str, str] = {}
    for entry in re.split(r"\n(?= {4}\w+:)", listed.split("\n\n")[0]):
        name, _, description = entry.strip().partition(":")
        descriptions[name] = " ".join(description.split()).replace("``", "")
    return {name: descriptions.get(name, "") for name in model.model_fields}


def _lines(settings: BaseModel, indent: str) -> Iterator[str]:
    descriptions = field_descriptions(type(settings))
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if descriptions[name]:
            for line in textwrap.wrap(descriptions[name], _WIDTH - len(indent)):
                yield f"{indent}# {line}"
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from _lines(value, f"{indent}  ")
        else:
            plain = list(value) if isinstance(value, tuple) else value
            written = yaml.safe_dump([plain], default_flow_style=True, width=10**6, allow_unicode=True)
            yield f"{indent}{name}: {written.strip()[1:-1]}"
