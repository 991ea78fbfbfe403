"""An exported model says what its study says, and its files are checked."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

import tametail
from fixtures.patches import draw_patches
from fixtures.plain_figures import figures_not_rendered
from fixtures.tiny_study import TINY
from tametail.cli.app import app
from tametail.core.console import Console
from tametail.core.errors import DataError, TametailError, UsageError
from tametail.core.run_files import DESCRIPTION, PREDICTIONS, is_finished
from tametail.core.trust import Trust
from tametail.deployment.model_folder import CARD, CHECKSUMS, EXAMPLE
from tametail.deployment.study_model import study_model
from tametail.predictions.single_label import read_predictions
from tametail.storage.model_file import MODEL_JSON
from tametail.study.refit import refit
from tametail.study.study import compare

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture(autouse=True, scope="module")
def _quick() -> Iterator[None]:
    with figures_not_rendered():
        yield


@pytest.fixture(scope="module")
def study_folder(study_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, as predictions of held-out images and trainings on all images are recorded in the study."""
    return shutil.copytree(study_folder, tmp_path_factory.mktemp("exported") / "study")


@pytest.fixture(scope="module")
def model(study_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The loss with an inverse link, as ONNX; tests only read it."""
    out = tmp_path_factory.mktemp("exported") / "model"
    tametail.export(study_folder, out, method="alpa", coverage=0.7)
    return out


@pytest.fixture
def images(image_folder: Path) -> list[Path]:
    return sorted((image_folder / "images").iterdir())[:21]  # another number than the graph was traced with


def numbers(table: pd.DataFrame) -> np.ndarray:
    return table[[name for name in table if name.startswith(("p_", "score_"))]].to_numpy(dtype=float)


@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_predictions_are_those_of_the_study(
    study_folder: Path, model: Path, images: list[Path], tmp_path: Path, kind: str
) -> None:
    if kind == "torch":
        model = tmp_path / "model"
        tametail.export(study_folder, model, method="alpa", coverage=0.7, format="torch")
        with pytest.raises(UsageError, match=r"expected --trust-code .* can hold code"):
            tametail.load(model)
    exported = tametail.load(model, trust_code=kind == "torch")
    rare = dict.fromkeys(exported.facts.class_names, 1.0) | {exported.facts.class_names[-1]: 50.0}
    of_study = tametail.load(study_folder, "alpa")
    for options in ({}, {"prevalence": rare}, {"coverage": 0.5}, {"operating": {"amber": 0.8}}):
        expected, found = of_study.predict_table(images, **options), exported.predict_table(images, **options)
        np.testing.assert_allclose(numbers(found), numbers(expected), atol=1e-5)
        same = [
            "image",
            "predicted",
            "most_probable",
            "prediction_set",
            "saturated",
            "method",
            "link",
            "error",
        ]
        pd.testing.assert_frame_equal(found[same], expected[same])
    assert "mean of 3 fold models" in repr(exported)


def test_the_graph_says_everything_by_itself(model: Path, images: list[Path]) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(model / "model.onnx")
    found = session.get_modelmeta().custom_metadata_map
    stated = {name: json.loads(text) for name, text in found.items()}
    exported = tametail.load(model)
    assert stated["class_names"] == list(exported.facts.class_names)
    assert stated["canvas"] == exported.facts.spec.canvas
    assert stated["coverage"] == 0.7
    assert stated["synthetic"] is False
    np.testing.assert_allclose(stated["prevalence"], exported.facts.trained_prevalence)
    from tametail.data import decode_image

    pixels = np.stack([decode_image(image, stated["canvas"]) for image in images])
    even = np.full(3, 1 / 3, np.float32)
    for prevalence, options in ((np.zeros(3, np.float32), {}), (even, {"prevalence": dict.fromkeys(stated["class_names"], 1)})):  # fmt: skip
        p, scores, _, inside, unlikeness = session.run(None, {"pixels": pixels, "prevalence": prevalence})
        table = exported.predict_table(images, coverage=0.7, **options)
        np.testing.assert_allclose(np.hstack([scores, p]), numbers(table), atol=1e-6)
        assert inside.sum(axis=1).tolist() == table["set_size"].tolist()
        np.testing.assert_allclose(unlikeness, table["unlikeness"].to_numpy(dtype=float), rtol=1e-4)
        assert np.isfinite(unlikeness).all()


def test_the_example_needs_three_packages_and_gives_the_same(model: Path, images: list[Path]) -> None:
    text = (model / EXAMPLE).read_text(encoding="utf-8")
    assert sum(bool(line.strip()) for line in text.splitlines()) <= 45
    imported = set(re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE))
    assert imported <= {"json", "sys", "pathlib", "numpy", "onnxruntime", "PIL"}
    done = subprocess.run(
        [sys.executable, EXAMPLE, *map(str, images)], cwd=model, capture_output=True, text=True, check=True
    )
    expected = tametail.load(model).predict_table(images)
    for line, row in zip(done.stdout.splitlines(), expected.to_dict("records"), strict=True):
        assert line.startswith(f"{row['image']} {row['predicted']} ")
        said = ast.literal_eval(line[line.index("{") : line.index("}") + 1])
        for name, p in said.items():
            assert p == pytest.approx(row[f"p_{name}"], abs=0.02)  # its resize rounds in another way


@pytest.mark.slow
def test_fine_tuned_models_are_exported(image_folder: Path, images: list[Path], tmp_path: Path) -> None:
    study = compare(
        image_folder, "ce", out=tmp_path / "tuned", recipe="quick", folds=2, only_folds=[0], **TINY, epochs=1
    )
    exported = tametail.export(study.directory, tmp_path / "model")
    expected = tametail.load(study.directory).predict_table(images)
    np.testing.assert_allclose(numbers(exported.predict_table(images)), numbers(expected), atol=1e-5)


@pytest.mark.slow
def test_several_labels_are_exported(tmp_path: Path) -> None:
    patches = draw_patches(tmp_path / "patches")
    study = compare(
        patches, "asl", multi_label=True, out=tmp_path / "study", folds=2, **TINY | {"epochs": 6, "lr": 2e-2}
    )
    exported = tametail.export(study.directory, tmp_path / "model")
    files = sorted(patches.rglob("*.png"))[:9]
    expected = tametail.load(study.directory).predict_table(files)
    found = exported.predict_table(files)
    np.testing.assert_allclose(numbers(found), numbers(expected), atol=1e-5)
    assert found["predicted"].tolist() == expected["predicted"].tolist()
    assert exported.predict(files).tolist() == tametail.load(study.directory).predict(files).tolist()
    with pytest.raises(UsageError, match="expected --predict-by image, for which the model's thresholds"):
        tametail.load(tmp_path / "model", predict_by="group")


def test_a_model_of_all_training_images(study_folder: Path, image_folder: Path, tmp_path: Path) -> None:
    exported = tametail.export(study_folder, tmp_path / "model", method="ce", refit=True)
    assert "trained on all training images" in repr(exported)
    run = study_folder / "runs" / "ce" / "seed0-all"
    described = json.loads((run / DESCRIPTION).read_text(encoding="utf-8"))
    splits = pd.read_csv(study_folder / "splits.csv")
    assert described["images"] == (splits["part"] == "train").sum()
    assert len(read_predictions(run / PREDICTIONS)) == 0, "no image is held out"
    before = run.stat().st_mtime_ns
    tametail.export(study_folder, tmp_path / "model", method="ce", refit=True)
    assert run.stat().st_mtime_ns == before, "it is trained once"
    # Its answers are those of its weights; with the folds' models they are close, and not equal.
    files = sorted((image_folder / "images").iterdir())
    p = exported.predict_proba(files)
    ensemble = tametail.load(study_folder, "ce").predict_proba(files)
    assert 0 < np.abs(p - ensemble).max() < 0.5
    # The report has the study's own runs alone.
    assert len(tametail.Study(study_folder).results) == 2


def test_methods_with_a_head_of_their_own_are_refitted(study_folder: Path, image_folder: Path) -> None:
    compare(image_folder, "ce+ncm,ce+crt,ce+la", out=study_folder, folds=3, **TINY, epochs=8, lr=1e-2)
    for method in ("ce+ncm", "ce+crt", "ce+la"):
        run = refit(
            study_folder, method, image_root=None, device="cpu", trust=Trust(), console=Console(quiet=True)
        )
        facts, network, _ = study_model(study_folder, method, refitted=True)
        assert is_finished(run.directory(study_folder))
        with torch.no_grad():
            p = network(network.example()).probabilities
        assert p.shape == (2, len(facts.class_names))


def test_the_folder_tells_nothing_of_the_machine_or_of_the_order_of_images(
    model: Path, study_folder: Path
) -> None:
    package = str(Path(tametail.__file__).parent).encode()
    for file in model.iterdir():
        assert package not in file.read_bytes(), file.name
        assert b"site-packages" not in file.read_bytes(), file.name
    kept = tametail.load(model).facts.shift
    of_study = tametail.load(study_folder, "alpa").facts.shift
    assert kept is not None
    assert of_study is not None
    assert not np.array_equal(kept.p, of_study.p)
    np.testing.assert_allclose(np.sort(kept.p, axis=0), np.sort(of_study.p, axis=0), atol=1e-4)
    assert sorted(np.bincount(kept.group)) == sorted(np.bincount(of_study.group))


def test_a_foreign_graph_and_own_files_are_refused(model: Path, study_folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / EXAMPLE).write_text("print('mine')", encoding="utf-8")
    with pytest.raises(UsageError, match=r"found predict\.py"):
        tametail.export(study_folder, own)
    other = shutil.copytree(model, tmp_path / "other")
    content = json.loads((other / MODEL_JSON).read_text(encoding="utf-8"))
    for canvas, message in ((0, "1 to 8,192 pixels"), (content["spec"]["canvas"] + 2, "it is another one")):
        content["spec"]["canvas"] = canvas
        (other / MODEL_JSON).write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(DataError, match=message):
            tametail.load(other).predict_table(np.zeros((9, 9, 3), np.uint8))


def test_a_prevalence_that_is_none_gives_no_numbers(model: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(model / "model.onnx")
    pixels = np.zeros(
        (2, tametail.load(model).facts.spec.canvas, tametail.load(model).facts.spec.canvas, 3), np.uint8
    )
    for bad in ([-1, 1, 1], [np.nan, 1, 1], [np.inf, 1, 1], [-1, -1, -1]):
        p = session.run(["probabilities"], {"pixels": pixels, "prevalence": np.array(bad, np.float32)})[0]
        assert np.isnan(p).all()


def test_train_refuses_before_the_long_work(image_folder: Path, tmp_path: Path) -> None:
    for given, message in (
        ({"method": "ce,alpa"}, "ce,alpa"),
        ({"study_out": tmp_path / "model"}, "expected two folders"),
        ({"dry_run": True}, "tametail compare DATA --dry-run"),
    ):
        with pytest.raises(UsageError, match=message):
            tametail.train(image_folder, out=tmp_path / "model", **TINY, **given)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_train_is_compare_and_export(image_folder: Path, tmp_path: Path) -> None:
    exported = tametail.train(
        image_folder, method="ce", out=tmp_path / "model", study_out=tmp_path / "study", folds=2, **TINY
    )
    assert exported.facts.refitted
    assert tametail.Study(tmp_path / "study").best_method == "ce"
    assert (tmp_path / "study" / "runs" / "ce" / "seed0-all").is_dir()


def test_the_folder_is_complete_and_says_what_it_is(model: Path, image_folder: Path) -> None:
    assert {each.name for each in model.iterdir()} == {"model.onnx", MODEL_JSON, CARD, EXAMPLE, CHECKSUMS}
    for line in (model / CHECKSUMS).read_text(encoding="utf-8").splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((model / name).read_bytes()).hexdigest() == digest
    card = (model / CARD).read_text(encoding="utf-8")
    assert "mean of 3 fold models" in card
    assert "Method: alpa" in card
    everything = b"".join(each.read_bytes() for each in model.iterdir())
    assert b"000.png" not in everything, "no names of images"
    assert str(image_folder).encode() not in everything


def test_damage_is_named(model: Path, tmp_path: Path) -> None:
    def copy(name: str) -> Path:
        return shutil.copytree(model, tmp_path / name)

    changed = copy("changed")
    data = bytearray((changed / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (changed / "model.onnx").write_bytes(data)
    with pytest.raises(DataError, match="changed or exchanged since"):
        tametail.load(changed)
    absent = copy("absent")
    (absent / "model.onnx").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        tametail.load(absent)
    for key, value, message in (
        ("schema", 99, "install a newer one"),
        ("class_names", ["a", "a", "b"], "has a value twice"),
        ("class_counts", [1.0], "not a count of each class"),
        ("calibration", {"kind": "vector"}, "calibration map"),
        ("format", "pickle", "format"),
        ("prediction_sets", [{"groups": 1}], "prediction_sets"),
    ):
        damaged = copy(key)
        content = json.loads((damaged / MODEL_JSON).read_text(encoding="utf-8"))
        (damaged / MODEL_JSON).write_text(json.dumps(content | {key: value}), encoding="utf-8")
        with pytest.raises(DataError, match=message):
            tametail.load(damaged)
    with pytest.raises(UsageError, match="expected the method of the exported model, alpa, got ce"):
        tametail.load(model, "ce")


def test_a_folder_of_something_else_is_not_touched(study_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match=r"found notes\.txt"):
        tametail.export(study_folder, tmp_path)
    with pytest.raises(UsageError, match="found a file"):
        tametail.export(study_folder, tmp_path / "notes.txt")
    with pytest.raises(UsageError, match="above 0 and below 1, got 2"):
        tametail.export(study_folder, tmp_path / "model", coverage=2.0)
    with pytest.raises(UsageError, match=r"\(alpa, ce.*\), got focal"):
        tametail.export(study_folder, tmp_path / "model", method="focal")
    assert [each.name for each in tmp_path.iterdir()] == ["notes.txt"]


def test_without_the_packages_the_message_names_them(
    study_folder: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(
        TametailError, match=r"onnxscript, which is not installed: pip install 'tametail\[export\]'"
    ):
        tametail.export(study_folder, tmp_path / "model", method="ce")
    assert not (tmp_path / "model").exists()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(TametailError, match=r"needs onnxruntime.* pip install 'tametail\[export\]'"):
        tametail.load(model)


def test_the_command_ends_with_the_next_one(study_folder: Path, image_folder: Path, tmp_path: Path) -> None:
    words = ["export", study_folder, tmp_path / "model", "--method", "ce"]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip() == str(tmp_path / "model")
    assert "tametail predict" in result.stderr
    words = ["predict", tmp_path / "model", image_folder / "images", "-o", tmp_path / "p.csv"]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.stderr
    assert "mean of 3 fold models" in result.stderr
    assert len(pd.read_csv(tmp_path / "p.csv")) == 70
