"""All options of the Python API and the command line, each declared once.

A class with the name of a function, such as `CompareOptions`, holds what that function and its command take; the other
classes group what several of them share. `tametail.core.option` explains the rest. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

from tametail.core.option import MACHINE, Option, varied

DATA, TRAINING = "Data", "Training"
AnyPath = str | Path
Names = Sequence[str] | str  # one text holds several, separated by commas
Numbers = Sequence[int] | str
Texts = Sequence[str] | str  # one text is one item
Pairs = Mapping[str, Any] | Sequence[str] | str  # ``{"a": 1}`` or ``["a=1"]``
Paths = Sequence[str | Path] | str | Path


class ImageRootOptions(TypedDict, total=False):
    """Where the images are."""

    image_root: Annotated[AnyPath | None, Option(None, "Folder that contains the images.", DATA, path=True)]


class RootOptions(TypedDict, total=False):
    """Where a data set known by name is."""

    root: Annotated[
        AnyPath | None, Option(None, "Folder of a data set known by name, as downloaded.", DATA, path=True)
    ]


class GroupFromOptions(TypedDict, total=False):
    """Groups from paths."""

    group_from: Annotated[
        str | None,
        Option(
            None,
            "Take the group of an image from its path: folder, folder:LEVEL, name:REGEX, or known:NAME for a published "
            "scheme of file names, such as known:eyepacs.",
            DATA,
        ),
    ]


class PredictByOptions(TypedDict, total=False):
    """What a prediction is of."""

    predict_by: Annotated[
        Literal["image", "group", "group-max"] | None,
        Option(
            None,
            "With several labels per image: evaluate and predict each image, or each group (patient, study) by the mean or the "
            "highest probability over its images. Default: image.",
        ),
    ]


class TableOptions(ImageRootOptions, RootOptions, GroupFromOptions, total=False):
    """How images and labels are read, see `tametail.read_images`."""

    image_col: Annotated[str | None, Option(None, "Column of image paths.", DATA)]
    label_col: Annotated[str | None, Option(None, "Column of labels.", DATA)]
    group_col: Annotated[str | None, Option(None, "Column of patients or lesions.", DATA)]
    split_col: Annotated[str | None, Option(None, "Column that marks the test set.", DATA)]
    label_cols: Annotated[
        Names | None, Option(None, "One column of 0 and 1 per class, such as MEL,NV,BCC.", DATA, whole=True)
    ]
    header: Annotated[
        bool,
        Option(
            True,
            "The first row of the table holds the names of the columns. With --no-header they are 1, 2, ...",
            DATA,
        ),
    ]
    metadata: Annotated[
        AnyPath | None,
        Option(None, "Second table about the same images, joined by image.", DATA, path=True),
    ]
    missing: Annotated[
        Literal["error", "skip"],
        Option(
            "error", "Rows without an image file or a label: error, or skip (left out, and counted).", DATA
        ),
    ]
    blank_groups: Annotated[
        Literal["error", "single"],
        Option(
            "error", "Blank cells of the group column: error, or single (a group of one image each).", DATA
        ),
    ]
    join_rows: Annotated[
        Literal["no", "union", "majority"],
        Option(
            "no",
            "Several rows of one image: no (refused unless equal), union of their labels, or majority (of the rows, or of "
            "the readers with --reader-col).",
            DATA,
        ),
    ]
    reader_col: Annotated[
        str | None, Option(None, "Column of readers, who have one vote each in --join-rows majority.", DATA)
    ]
    split_values: Annotated[
        Pairs | None,
        Option(None, "What the values of the split column mean, such as 0=train,1=test.", DATA),
    ]
    split_files: Annotated[
        Pairs | None,
        Option(None, "Lists of images, one per line: train=a.txt,test=b.txt.", DATA, path=True),
    ]
    fold_col: Annotated[
        str | None, Option(None, "Column of cross-validation folds, which are used as they are.", DATA)
    ]
    uncertain: Annotated[
        Literal["error", "ignore", "zero", "one"],
        Option(
            "error",
            "Cells of -1 in --label-cols: error, ignore (unknown: left out of losses and metrics), zero or one.",
            DATA,
        ),
    ]
    blank: Annotated[
        Literal["error", "ignore", "zero"],
        Option("error", "Blank cells in --label-cols: error, ignore (unknown) or zero.", DATA),
    ]
    bit_depth: Annotated[
        int | None,
        Option(
            None,
            "Bits of grey values in images that store more than 8, such as 12. Default: 8, 12 or 16, whatever holds the "
            "largest value of the data set.",
            DATA,
            least=1,
        ),
    ]
    slices: Annotated[
        str | None,
        Option(
            None,
            "Which slices of 3-D volumes (NIfTI, DICOM series and frames) are the images: middle, all, or every:N.",
            DATA,
        ),
    ]
    download: Annotated[
        bool, Option(False, "Download a MedMNIST data set that is not on this machine.", DATA)
    ]
    class_level: Annotated[
        str | int | None,
        Option(
            None,
            "Which folders are the classes: 1 for those directly below the data folder, 2 for those below them, ..., or "
            "deepest for the folder that an image lies in.",
            DATA,
        ),
    ]
    keep_masks: Annotated[bool, Option(False, "Read masks beside images as images too.", DATA)]
    skip_empty_classes: Annotated[
        bool, Option(False, "Leave out class folders of which no file can be read.", DATA)
    ]


class ReadImagesOptions(TableOptions, total=False):
    """How images with one or several labels are read."""

    multi_label: Annotated[bool, Option(False, "Images may have several labels, such as a|b.", DATA)]
    label_sep: Annotated[
        str | None,
        Option(
            None,
            "Sign between the labels of one image, with --multi-label. Default: the first of | ; , found.",
            DATA,
        ),
    ]


class FoldOptions(TypedDict, total=False):
    """Number of folds."""

    folds: Annotated[int, Option(5, "Number of cross-validation folds.", TRAINING)]


class SeedOptions(TypedDict, total=False):
    """Random seed."""

    seed: Annotated[int, Option(0, "Random seed of the splits.", TRAINING, least=0)]


class GroupingOptions(TypedDict, total=False):
    """Which images are kept together in splits."""

    group_duplicates: Annotated[
        bool, Option(False, "Put duplicate images in one group, so that no split separates them.", DATA)
    ]


class SplitOptions(FoldOptions, SeedOptions, GroupingOptions, total=False):
    """How the data set is split."""


class DataOptions(ReadImagesOptions, GroupingOptions, total=False):
    """The data set."""


class SetOptions(TypedDict, total=False):
    """Single fields of a recipe."""

    set: Annotated[
        Pairs | None,
        Option(
            None,
            "Any other recipe field, such as optimizer.weight_decay=0.1.",
            TRAINING,
            repeated=True,
            metavar="FIELD=VALUE",
        ),
    ]


class RecipeOptions(TypedDict, total=False):
    """The recipe and changes to it."""

    recipe: Annotated[
        AnyPath, Option("head", "Recipe: head, quick, modern, paper, or a YAML file.", TRAINING, path=True)
    ]
    backbone: Annotated[
        str | None, Option(None, "Name of a timm model, or of a backbone of an installed package.", TRAINING)
    ]
    weights: Annotated[
        AnyPath | None,
        Option(
            None,
            "Pretrained weights: auto (from the timm hub), offline (from an installed package), none, or a file.",
            TRAINING,
            path=True,
        ),
    ]
    image_size: Annotated[int | None, Option(None, "Image size in pixels.", TRAINING)]
    epochs: Annotated[int | None, Option(None, "Number of epochs.", TRAINING)]
    batch_size: Annotated[int | None, Option(None, "Images per optimisation step.", TRAINING)]
    lr: Annotated[float | None, Option(None, "Peak learning rate.", TRAINING)]


class TrainingOptions(RecipeOptions, SetOptions, FoldOptions, SeedOptions, total=False):
    """Recipe and cross-validation."""

    repeats: Annotated[
        int | None,
        Option(
            None,
            "Repeats of the cross-validation, each with its own folds of the training set. Default: 3 on frozen features, "
            "1 for fine-tuning or with --only-folds.",
            TRAINING,
        ),
    ]


class DeviceOptions(TypedDict, total=False):
    """The device."""

    device: Annotated[str, Option("auto", "Device: auto, cpu, cuda or mps.", MACHINE)]


class MachineOptions(DeviceOptions, total=False):
    """How the machine is used; results do not depend on it."""

    micro_batch: Annotated[
        int | None,
        Option(None, "Micro-batch size for gradient accumulation. Default: what fits in memory.", MACHINE),
    ]
    workers: Annotated[int, Option(0, "Number of data-loading worker processes.", MACHINE)]
    compile: Annotated[
        bool,
        Option(False, "Compile the network with torch.compile: for GPUs; on a CPU it does not pay.", MACHINE),
    ]


class ThreadsOptions(TypedDict, total=False):
    """CPU threads of a run."""

    threads: Annotated[
        int | None,
        Option(
            None,
            "CPU threads of a run that fine-tunes, on which the last bits of its results depend; kept in the study. Default: all cores, "
            "or 1 with several processes.",
            MACHINE,
            least=1,
        ),
    ]


class EngineOptions(TypedDict, total=False):
    """Where trainings run."""

    engine: Annotated[
        Literal["local", "slurm", "ray", "plan"] | None,
        Option(
            None,
            "Where trainings run: local (processes of this machine), slurm, ray, or plan (only plan the units, for tametail work). "
            "Default: this process, or one process for each of several GPUs.",
            MACHINE,
        ),
    ]
    jobs: Annotated[
        int | None,
        Option(None, "Number of processes at a time. Default: one per GPU or core.", MACHINE, least=1),
    ]
    devices: Annotated[Names | None, Option(None, "GPUs of the processes: 0,1.", MACHINE)]
    engine_set: Annotated[
        Pairs | None,
        Option(
            None,
            "Settings of the engine. slurm: options of sbatch, such as partition=gpu, gpus=1 or time=4:00:00, and units=N for several "
            "units per job; ray: address=..., and resources per unit such as num_gpus=1.",
            MACHINE,
            repeated=True,
            metavar="KEY=VALUE",
        ),
    ]


class TrustOptions(TypedDict, total=False):
    """Code that is named in files."""

    trust_code: Annotated[
        bool,
        Option(
            False,
            "Run code that the files of a study or search name: losses written as package.module:Class. Only for files that "
            "you trust; not needed for a name that this command gives too.",
            MACHINE,
        ),
    ]


class MonitorOptions(TypedDict, total=False):
    """What is shown and logged during training."""

    validate: Annotated[
        bool, Option(True, "Validate after each epoch (display only, never used for selection).", MACHINE)
    ]
    track: Annotated[
        Names | None, Option(None, "Experiment trackers to log to: tensorboard, mlflow, wandb.", MACHINE)
    ]


class OutputOptions(TypedDict, total=False):
    """Where results are written."""

    out: Annotated[AnyPath | None, Option(None, "Output folder.", short="-o", path=True)]


class MethodsOptions(TypedDict, total=False):
    """Several methods."""

    methods: Annotated[
        Names | None,
        Option(
            None,
            "Methods, separated by commas. A method is a loss, with parameters in brackets: alpa[variant=code]; with "
            "strategies: ce+la, ldam+drw; or your own: package.module:Class. Default: alpa, asl, focal, ce, ce+la, "
            "balanced_softmax, ldam; on frozen features also logistic_regression and logistic_regression+la.",
            whole=True,
        ),
    ]


class MethodOptions(TypedDict, total=False):
    """One method of a study."""

    method: Annotated[
        str | None,
        Option(None, "A method of the study. Default: the one with the best cross-validation result."),
    ]


class LossOptions(TypedDict, total=False):
    """The method to search."""

    loss: Annotated[
        str,
        Option(
            "alpa", "Method to tune: alpa, alpa[variant=pade], focal+la. Parameters in the text are fixed."
        ),
    ]


class OrderOptions(TypedDict, total=False):
    """The order of ordinal classes."""

    class_order: Annotated[
        Names | None,
        Option(
            None,
            "Ordinal classes from the lowest grade to the highest: none,mild,severe. Not needed where class names are numbers, or those of a known data set.",
        ),
    ]


class OperatingOptions(TypedDict, total=False):
    """Operating points."""

    operating: Annotated[
        Pairs | None,
        Option(
            None,
            "Required sensitivity for a class, such as melanoma=0.95.",
            repeated=True,
            metavar="CLASS=SENSITIVITY",
        ),
    ]


class AnalysisOptions(OrderOptions, OperatingOptions, total=False):
    """What a report shows beyond the standard tables."""

    by: Annotated[
        Texts | None,
        Option(None, "Column for subgroup results, such as sex.", repeated=True, metavar="COLUMN"),
    ]
    ordered: Annotated[
        bool | None,
        Option(
            None,
            "The classes are ordinal grades, which adds quadratic kappa; --class-order implies it.",
            negative="--unordered",
        ),
    ]


class MetricOptions(TypedDict, total=False):
    """Which metric decides."""

    metric: Annotated[
        str | None,
        Option(
            None,
            "Metric over all classes to rank by, such as macro_f1. Default: balanced_accuracy, or for several labels "
            "mean_average_precision.",
        ),
    ]


class FigureOptions(TypedDict, total=False):
    """Figures for print."""

    figures: Annotated[
        Names | None, Option(None, "Also write figures for print, in these formats: pdf,svg,png.")
    ]


class VerbosityOptions(TypedDict, total=False):
    """What the command line prints."""

    quiet: Annotated[bool, Option(False, "Only print results, warnings and errors.")]
    debug: Annotated[bool, Option(False, "Show tracebacks.")]


class JsonOptions(TypedDict, total=False):
    """Machine-readable output of the command line."""

    json: Annotated[bool, Option(False, "Print JSON.")]


DATA_HELP = (
    "A folder with one subfolder per class, a folder with labels.csv, a CSV, TSV, Excel, Parquet or JSONL file, one "
    "table per split (train=a.csv,test=b.csv), DICOM files, volumes with --slices, HDF5 files, a MedMNIST .npz file, a folder made "
    "by tametail pack or of WebDataset or zip archives or its URL (s3://bucket/folder), the name of a known data set, or demo or "
    "demo-multilabel "
    "(built in, synthetic)."
)


class DataArgument(TypedDict, total=False):
    """The data set."""

    data: Annotated[AnyPath | None, Option(..., DATA_HELP)]


class Arguments(DataArgument, total=False):
    """Positional arguments."""

    study: Annotated[AnyPath, Option(..., "Study: the output folder of tametail compare.")]
    model: Annotated[AnyPath, Option(..., "Folder of the exported model.")]
    copy: Annotated[AnyPath, Option(..., "New or empty folder for the copy.")]
    folder: Annotated[AnyPath, Option(..., "Folder of a study, search or recommendation.")]
    studies: Annotated[Paths, Option(..., "Two or more studies or evaluations, one per data set.")]
    predictions: Annotated[
        Paths,
        Option(
            ...,
            "Tables of predictions, one per model, with columns image, label, group (optional), and prob_NAME or "
            "logit_NAME for each class; for several labels per image label_NAME and p_NAME for each. Or, with --data, a study.",
        ),
    ]
    image_paths: Annotated[Paths, Option(..., "Images, or folders of images.", metavar="IMAGES...")]
    prediction_files: Annotated[
        Paths,
        Option(..., "CSV files of tametail predict, each a batch of new images.", metavar="PREDICTIONS..."),
    ]
    words: Annotated[
        Sequence[str],
        Option(..., "compare or resume, with its arguments and options.", metavar="COMMAND"),
    ]
    experiment: Annotated[str, Option(..., "table2, table3, table4, table5 or figure1.")]
    loss_name: Annotated[
        str | None,
        Option(None, "A loss: alpa, alpa[variant=pade], my_package.module:MyLoss.", metavar="[NAME]"),
    ]
    recipe_name: Annotated[str, Option(..., "Name of a recipe, or a YAML file.", metavar="NAME")]


@varied(out=(None, "Output folder of the study. Default: runs/NAME_OF_DATA."))
class CompareOptions(
    OutputOptions,
    TrainingOptions,
    DataOptions,
    MachineOptions,
    ThreadsOptions,
    EngineOptions,
    MonitorOptions,
    OrderOptions,
    TrustOptions,
    total=False,
):
    """Options of `tametail.compare`."""

    dry_run: Annotated[
        bool, Option(False, "Only say how the data are read and check that they can be split; train nothing.")
    ]
    only_folds: Annotated[
        Numbers | None, Option(None, "Only hold out these folds, counted from 0: 0,2.", TRAINING)
    ]
    tuned: Annotated[
        Paths | None,
        Option(
            None,
            "Folder of a finished search on the same data: its best method is compared as well.",
            repeated=True,
            path=True,
        ),
    ]


class ResumeOptions(
    ImageRootOptions, MachineOptions, EngineOptions, MonitorOptions, TrustOptions, total=False
):
    """Options of `tametail.resume`."""


class StatusOptions(TypedDict, total=False):
    """Options of ``tametail status``."""


class TestImagesOptions(TypedDict, total=False):
    """Whether the test set takes part."""

    test_set: Annotated[
        bool,
        Option(False, "Predict the test set instead of training, in an evaluation that test-set has begun."),
    ]


class WorkOptions(
    ImageRootOptions, MachineOptions, MonitorOptions, TestImagesOptions, TrustOptions, total=False
):
    """Options of `tametail.work`."""

    unit: Annotated[
        Numbers | None,
        Option(
            None, "Units by number: 0,1. Default: all that are not done and that nobody works on.", MACHINE
        ),
    ]


@varied(
    out=(None, "Output folder. Default: runs/recommend-NAME_OF_DATA."),
    repeats=(1, "Trainings of each fold with different random seeds."),
)
class RecommendOptions(
    OutputOptions, TrainingOptions, DataOptions, DeviceOptions, EngineOptions, total=False
):
    """Options of `tametail.recommend`."""

    objective: Annotated[
        str,
        Option(
            "balanced_accuracy",
            "What candidates and parameters are chosen for: balanced_accuracy, macro_f1, log_loss (the lowest), "
            "net_benefit:CLASS@THRESHOLD, or worst_group:COLUMN (the lowest balanced accuracy over its values).",
        ),
    ]


@varied(
    out=(None, "Output folder of the search. Default: runs/search-NAME_OF_DATA-LOSS."),
    seed=(0, "Random seed of the splits and of the sampler."),
    repeats=(1, "Trainings of each fold with different random seeds."),
    metric=(
        None,
        "Selection metric: balanced_accuracy (the default), macro_f1, accuracy, mcc, or kappa (quadratic, for ordinal classes); for "
        "several labels per image mean_average_precision (the default) or macro_auroc.",
    ),
)
class SearchOptions(
    OutputOptions,
    MetricOptions,
    TrainingOptions,
    DataOptions,
    MachineOptions,
    EngineOptions,
    OrderOptions,
    total=False,
):
    """Options of `tametail.search`."""

    trials: Annotated[int, Option(50, "Trials of each search.")]
    space: Annotated[
        Texts | None,
        Option(
            None,
            "Search space, in addition to or instead of the loss's default: gamma_neg=0:5, l2=0.003:10:log, "
            "order=1/1|2/2. Any parameter of the loss; l2 on frozen features, lr and weight_decay when fine-tuning.",
            repeated=True,
        ),
    ]
    sampler: Annotated[Literal["random", "tpe"], Option("random", "Sampler: random or tpe.")]
    halving: Annotated[
        bool,
        Option(False, "Successive halving: stop the worse half of the trials after each inner fold."),
    ]


class TestSetOptions(ImageRootOptions, DeviceOptions, EngineOptions, TrustOptions, total=False):
    """Options of `tametail.evaluate_test_set`."""


class CoverageOptions(TypedDict, total=False):
    """The coverage of prediction sets."""

    coverage: Annotated[
        float | None,
        Option(None, "Coverage of the prediction sets, above 0 and below 1. Default: 0.9."),
    ]


@varied(
    by=(None, "Column for subgroup results, such as sex; remembered, an empty text removes it."),
    coverage=(None, "Coverage of the prediction sets, above 0 and below 1; remembered. Default: 0.9."),
)
class WriteReportOptions(
    AnalysisOptions, CoverageOptions, ImageRootOptions, FigureOptions, PredictByOptions, total=False
):
    """Options of `tametail.report`."""

    images: Annotated[bool | None, Option(None, "Show thumbnails of images; remembered. Default: yes.")]
    show: Annotated[
        Names | None,
        Option(
            None,
            "Methods to show first on the page, with the best, ce and logistic_regression; remembered. 'none': no others.",
        ),
    ]
    partial: Annotated[
        bool,
        Option(False, "Evaluate unfinished methods by their finished runs, in partial.md and partial.csv."),
    ]


class ExportedOptions(CoverageOptions, PredictByOptions, total=False):
    """What an exported model is."""

    format: Annotated[
        Literal["onnx", "torch"],
        Option("onnx", "onnx (runs anywhere with onnxruntime), or torch (a program of torch.export)."),
    ]


class ExportOptions(
    MethodOptions, ExportedOptions, ImageRootOptions, DeviceOptions, TrustOptions, total=False
):
    """Options of `tametail.export`."""

    refit: Annotated[
        bool,
        Option(
            False,
            "Train the method on all training images, and export that model in place of the mean of the fold models.",
        ),
    ]


class ShareOptions(TypedDict, total=False):
    """Options of `tametail.share`."""

    name: Annotated[
        str | None,
        Option(None, "Name of the data set in the copy. Default: study, as names may tell the origin."),
    ]
    with_thumbnails: Annotated[
        bool, Option(False, "Also copy the thumbnails of the report, which show patients' images.")
    ]


class LaunchOptions(TypedDict, total=False):
    """Options of tametail launch."""

    processes: Annotated[
        int | None, Option(None, "Number of processes. Default: one per CUDA GPU.", MACHINE, least=1)
    ]


class UnlockOptions(TypedDict, total=False):
    """Options of `tametail.unlock`."""

    force: Annotated[
        bool,
        Option(False, "Also remove a lock whose process may be at work: two at once damage the folder."),
    ]


class ExternalOptions(MethodsOptions, total=False):
    """How a study's models are evaluated on another data set."""

    map: Annotated[
        Pairs | None,
        Option(
            None,
            "A label of the data and its class in the study, such as nevus=nv.",
            DATA,
            repeated=True,
            metavar="LABEL=CLASS",
        ),
    ]
    drop_unknown: Annotated[
        bool,
        Option(
            False,
            "Leave out images whose label is not a class of the study; of several labels per image, only such labels.",
            DATA,
        ),
    ]


@varied(
    data=(None, "Another data set, for external validation of the study's models."),
    methods=(None, "Methods of the study. Default: all finished ones."),
    out=("evaluation", "Output folder of the evaluation."),
)
class EvaluateOptions(
    OutputOptions,
    DataArgument,
    AnalysisOptions,
    ExternalOptions,
    ReadImagesOptions,
    DeviceOptions,
    TrustOptions,
    total=False,
):
    """Options of `tametail.evaluate`."""

    classes: Annotated[Names | None, Option(None, "All classes in their order: none,mild,severe.")]


@varied(out=("ranks", "Output folder of the ranking."))
class RankOptions(OutputOptions, MetricOptions, FigureOptions, total=False):
    """Options of `tametail.rank`."""

    bars: Annotated[
        Literal["nemenyi", "wilcoxon"],
        Option("nemenyi", "Test behind the bars of the plot: nemenyi, or wilcoxon with Holm’s correction."),
    ]


class LoadOptions(DeviceOptions, TrustOptions, PredictByOptions, total=False):
    """Options of `tametail.load`."""


@varied(
    study=(..., "Study: the output folder of tametail compare. Or an exported model."),
    out=("predictions.csv", "CSV file to write."),
    group_from=(
        None,
        "With --predict-by: how the path of an image names its group, as for training. Default: folder, the folder that holds it.",
    ),
    operating=(
        None,
        "Required sensitivity for a class, such as melanoma=0.95: it is predicted from that probability on which this share of "
        "its images reached in cross-validation.",
    ),
)
class PredictOptions(
    OutputOptions,
    MethodOptions,
    CoverageOptions,
    OperatingOptions,
    LoadOptions,
    GroupFromOptions,
    total=False,
):
    """Options of ``tametail predict``."""

    prevalence: Annotated[
        str | None,
        Option(
            None,
            "Class prevalence where the images come from: even, 'nv=0.8,mel=0.2', or a JSON file.",
        ),
    ]
    html: Annotated[
        AnyPath | None,
        Option(
            None,
            "Also write a page with a small copy of each image, its probabilities and its flags, to sort and to filter.",
            path=True,
            metavar="FILE",
        ),
    ]
    adapt_prevalence: Annotated[
        bool,
        Option(
            False,
            "Estimate the class prevalence from the images, all of one origin, and predict at it; refused if that is not expected to help.",
        ),
    ]
    sets: Annotated[
        Literal["class", "prevalence"],
        Option(
            "class",
            "Prediction sets with this coverage in each class, or over all images at the given or estimated prevalence (by default that of the training set).",
        ),
    ]


class DriftOptions(TrustOptions, total=False):
    """Options of `tametail.monitor`."""

    baseline: Annotated[
        int,
        Option(
            1,
            "Number of first batches that later ones are compared with. More images find smaller changes.",
            least=1,
        ),
    ]
    false_alarms: Annotated[
        float,
        Option(
            0.05,
            "Probability of any alarm without drift, over all batches and those that follow.",
        ),
    ]


@varied(out=("monitor.html", "HTML page to write."))
class WatchOptions(OutputOptions, MethodOptions, DriftOptions, total=False):
    """Options of ``tametail monitor``."""


@varied(out=(..., "Folder of the model."))
class TrainOptions(MethodOptions, ExportedOptions, CompareOptions, total=False):
    """Options of `tametail.train`."""

    study_out: Annotated[
        AnyPath | None,
        Option(
            None,
            "Folder of the study, with the cross-validation of the method. Default: runs/NAME_OF_DATA.",
            path=True,
        ),
    ]


class AuditOptions(FoldOptions, DataOptions, total=False):
    """Options of `tametail.audit`."""


@varied(
    data=(None, DATA_HELP + " Not with --labels."),
    folds=(5, "Number of cross-validation folds that should be possible."),
    out=(None, "HTML page to write, with pictures."),
    json=(False, "Print everything as JSON; docs/data.md has the schema."),
)
class InspectOptions(OutputOptions, JsonOptions, DataArgument, AuditOptions, total=False):
    """Options of ``tametail inspect``."""

    labels: Annotated[
        AnyPath | None,
        Option(
            None,
            "A finished study, in place of data: rank the labels of its training set that its best method contradicts.",
            path=True,
            metavar="STUDY",
        ),
    ]


class RatioOptions(TypedDict, total=False):
    """Imbalance of a drawn data set."""

    ratio: Annotated[
        float, Option(..., "Imbalance ratio: images of the largest class per image of the smallest.")
    ]


class DrawOptions(SeedOptions, TableOptions, total=False):
    """Options of `tametail.subsample`."""

    single_images: Annotated[bool, Option(False, "Draw single images instead of whole groups.")]


@varied(
    out=("subsample.csv", "CSV file to write."),
    seed=(0, "Random seed of the draw."),
)
class SubsampleOptions(OutputOptions, DrawOptions, total=False):
    """Options of ``tametail subsample``."""


@varied(out=(..., "New folder to write."))
class PackOptions(OutputOptions, TableOptions, total=False):
    """Options of ``tametail pack``."""

    format: Annotated[
        Literal["parquet", "webdataset"],
        Option(
            "parquet",
            "Parquet files; or webdataset: tar archives, each image with a .json of its row and a .cls with its class's number.",
        ),
    ]
    shard_mb: Annotated[int, Option(512, "Megabytes of images above which a new file is begun.")]


@varied(
    root=(
        None,
        "Folder of the data set as downloaded (APTOS 2019, HAM10000, bone marrow), or any data set with the same classes.",
    ),
    out=(
        None,
        "Output folder of the study. Default: runs/reproduce-EXPERIMENT. With figure1: the file to write.",
    ),
    recipe=("paper", "Recipe: paper, another one, or a YAML file."),
    test_set=(True, "Evaluate on the test set, as the paper does; otherwise in cross-validation."),
)
class ReproduceOptions(
    OutputOptions,
    TrainingOptions,
    MachineOptions,
    ThreadsOptions,
    EngineOptions,
    TestImagesOptions,
    total=False,
):
    """Options of ``tametail reproduce``."""

    variant: Annotated[
        Literal["paper", "code", "pade"],
        Option("paper", "ALPA as in the paper (Eq. 11), in the released code, or as a Padé approximant."),
    ]
    rivals: Annotated[
        Literal["figure1", "defaults"],
        Option("figure1", "Parameters of ASL and focal loss: figure1 (the only published ones) or defaults."),
    ]


@varied(
    out=(
        None,
        "File to write: .svg, .png, .pdf, or .csv for the numbers. Default: figure1.svg, or gradients.svg.",
    )
)
class GradientOptions(OutputOptions, total=False):
    """Options of ``tametail gradients``."""

    losses: Annotated[
        str | None, Option(None, "Losses to draw instead, separated by commas: alpa,asl[clip=0],ce.")
    ]
    over: Annotated[str, Option("both", "Draw gradients over the probability p, the logit z, or both.")]


GROUPS: tuple[type, ...] = tuple(
    one
    for one in list(globals().values())
    if isinstance(one, type) and one.__module__ == __name__ and hasattr(one, "__total__")
)
