"""A study that names code in each of its files runs none of it, unless the user trusts the code or names it too."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from cli.test_app import run
from fixtures.plain_figures import figures_not_rendered
from fixtures.tiny_study import TINY
from tametail.core.errors import TametailError, UsageError
from tametail.core.run_files import DESCRIPTION
from tametail.core.trust import Trust
from tametail.models.backbones import BackboneSpec, build_backbone, describe_backbone
from tametail.study.study import Study
from tametail.training.recipe import load_recipe

EVIL = "evil.mod:Loss"
MARK = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\n"
LOSS = MARK + "from tametail.losses import ALPALoss\nclass Loss(ALPALoss):\n    name = 'evil'\n"
Command = Callable[..., tuple[int, str]]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A current folder with a module that leaves a mark when it is imported, as does its package."""
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "__init__.py").write_text(MARK, encoding="utf-8")
    (tmp_path / "evil" / "mod.py").write_text(LOSS, encoding="utf-8")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.chdir(tmp_path)
    with figures_not_rendered():
        yield
    for name in [name for name in sys.modules if name.split(".")[0] == "evil"]:
        del sys.modules[name]


@pytest.fixture
def study(study_folder: Path, tmp_path: Path) -> Path:
    """A study of ce and of evil.mod:Loss, which stands in for alpa and is named in every run as well."""
    copy = tmp_path / "study"
    shutil.copytree(study_folder, copy)
    described = json.loads((copy / "study.json").read_text(encoding="utf-8"))
    (copy / "study.json").write_text(json.dumps(described | {"methods": [EVIL, "ce"]}), encoding="utf-8")
    (copy / "runs" / "alpa").rename(copy / "runs" / "evil.mod@~loss")
    for path in copy.glob(f"runs/*/*/{DESCRIPTION}"):
        text = path.read_text(encoding="utf-8").replace('"alpa"', f'"{EVIL}"')
        path.write_text(text, encoding="utf-8")
    plan = (copy / "units.jsonl").read_text(encoding="utf-8").replace('"alpa"', f'"{EVIL}"')
    (copy / "units.jsonl").write_text(plan, encoding="utf-8")
    return copy


def ran() -> bool:
    return bool(list(Path().rglob("ran")))


def refused(*words: object) -> str:
    code, output, errors = run(*words)
    assert code in (2, 3), output + errors
    assert not ran()
    return errors


def done(*words: object) -> None:
    code, output, errors = run(*words)
    assert code == 0, output + errors


def unfinish(study: Path, method: str, keep: int = 0) -> None:
    for path in sorted((study / "runs" / method).iterdir())[keep:]:
        shutil.rmtree(path)


def only_evil(study: Path) -> None:
    described = json.loads((study / "study.json").read_text(encoding="utf-8"))
    (study / "study.json").write_text(json.dumps(described | {"methods": [EVIL]}), encoding="utf-8")


def test_predict(study: Path, image_folder: Path) -> None:
    image = image_folder / "images" / "000.png"
    done("predict", study, image, "--method", "ce")
    assert not ran()
    only_evil(study)
    message = refused("predict", study, image)
    for said in (EVIL, str(study / "study.json"), str(Path("evil/mod.py").resolve()), "--trust-code"):
        assert said in message
    done("predict", study, image, "--trust-code")
    assert ran()


def test_a_name_that_the_command_gives_too_is_trusted(study: Path, image_folder: Path) -> None:
    done("predict", study, image_folder / "images" / "000.png", "--method", EVIL)
    assert ran()


def test_evaluate(study: Path, image_folder: Path, tmp_path: Path) -> None:
    others = tmp_path / "others"
    shutil.copytree(image_folder, others)
    from PIL import Image

    for path in others.rglob("*.png"):  # other bytes than those of the study
        Image.fromarray(np.asarray(Image.open(path))[::-1]).save(path)
    assert "--trust-code" in refused("evaluate", study, "--data", others)
    done("evaluate", study, "--data", others, "--methods", "ce")
    assert not ran()
    done("evaluate", study, "--data", others, "--trust-code")
    assert ran()


def test_the_test_set(study: Path) -> None:
    refused("test-set", study)
    assert not (study / "test_set_evaluations.jsonl").exists(), "nothing was evaluated"
    unfinish(study, "evil.mod@~loss")
    done("test-set", study)
    assert not ran(), "a method without a finished run is not used"


def test_the_test_set_with_trust(study: Path) -> None:
    done("test-set", study, "--trust-code")
    assert ran()


def test_resume_and_compare(study: Path, image_folder: Path) -> None:
    again = ("compare", image_folder, "-o", study, "--folds", "3", "--epochs", "8", "--lr", "1e-2")
    again += tuple(word for name, value in TINY.items() for word in _option(name, value))
    done("resume", study)
    done(*again, "--methods", "ce")
    assert not ran(), "its runs are finished"
    unfinish(study, "ce", keep=2)
    assert "units.jsonl" in refused("resume", study), "a head is trained again with those it was trained with"
    unfinish(study, "evil.mod@~loss", keep=2)
    before = (study / "study.json").read_bytes()
    refused("resume", study)
    refused(*again, "--methods", "ce,focal")
    assert (study / "study.json").read_bytes() == before
    done(*again, "--methods", EVIL)
    assert ran()
    assert "6 of 6 runs finished" in repr(Study(study))


def _option(name: str, value: object) -> tuple[str, ...]:
    return (f"--{name.replace('_', '-')}", str(value[0] if isinstance(value, tuple) else value))


def test_work(study: Path) -> None:
    done("work", study)
    assert not ran(), "its runs are finished"
    unfinish(study, "evil.mod@~loss", keep=2)
    message = refused("work", study)
    assert "--trust-code" in message
    assert "units.jsonl" in message
    done("work", study, "--trust-code")
    assert ran()
    assert "6 of 6 runs finished" in repr(Study(study))


def test_resume_with_trust_in_worker_processes(study: Path) -> None:
    unfinish(study, "evil.mod@~loss", keep=2)
    done("resume", study, "--trust-code", "--workers", "1")
    assert ran()


def test_what_is_only_reported_runs_nothing(study: Path) -> None:
    done("report", study)
    done("share", study, "copy")
    shutil.copytree(study, "another")
    done("rank", study, "another", "-o", "ranks")
    assert "runs finished" in repr(Study(study))
    assert not ran()


def test_a_search(study: Path, image_folder: Path, tmp_path: Path) -> None:
    described = json.loads((study / "study.json").read_text(encoding="utf-8"))
    for key in ("methods", "seeds", "run_folds"):
        del described[key]
    asked = {"method": EVIL, "space": ["alpha=0:1"], "class_order": [], "sampler": "random", "halving": False}
    asked |= {"metric": "balanced_accuracy", "seeds": 1, "seed": 0, "trials": 1}
    (tmp_path / "found").mkdir()
    file = tmp_path / "found" / "search.json"
    file.write_text(json.dumps(described | {"search": asked}), encoding="utf-8")
    message = refused("work", "found")
    assert "--trust-code" in message
    assert "search.json" in message
    value = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 56}
    both = {"tuned": value, "default": value}
    compared = both | {"difference": value, "p": 0.5, "verdict": "better", "in_words": ""}
    texts = {"best": "1", "default": "1", "folds": ["1"], "indistinguishable": ["1"]}
    result = {
        "best": {"method": EVIL, "values": {"alpha": "1"}, "recipe": {}, "score": 0.5, "n": 56},
        "nested": both | {"balanced_accuracy": compared, "n": 56, "groups": 28},
        "values": {"alpha": texts},
        "trials": {"complete": 1, "pruned": 0, "failed": 0},
        **{"optimism": 0.0, "folds": [], "indistinguishable": 1, "failures": [], "importance": None},
        **{"importance_note": "", "trainings": 1, "seconds": 1.0},
    }
    file.write_text(json.dumps(described | {"search": asked, "result": result}), encoding="utf-8")
    tuned = ("compare", image_folder, "--methods", "ce", "--tuned", "found", "-o", "new", "--weights", "none")
    message = refused(*tuned)
    assert "--trust-code" in message, message
    assert "search.json" in message
    refused("search", image_folder, "--loss", "focal", "-o", "found", "--weights", "none", "--folds", "3")


def test_recipes(tmp_path: Path, image_folder: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    for text in (
        "!!python/object/apply:evil.mod.Loss []",
        "!!python/name:evil.mod.Loss",
        f"name: mine\ntrains: head\nbackbone: {EVIL}\nepochs: 1\nbatch_size: 1\noptimizer: {{lr: 1}}",
        "name: mine\ntrains: head\nbackbone: hf-hub:evil/model\nepochs: 1\nbatch_size: 1\noptimizer: {lr: 1}",
    ):
        recipe.write_text(text, encoding="utf-8")
        refused("compare", image_folder, "--recipe", recipe, "-o", "new")
        if "backbone" in text:
            with pytest.raises(UsageError):
                describe_backbone(load_recipe(recipe).backbone)


@pytest.mark.parametrize("name", ["hf-hub:evil/model", "local-dir:evil", EVIL])
def test_a_backbone_that_others_wrote_is_not_loaded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("timm was asked for it"))
    spec = BackboneSpec(name, 8, 32, 32, 1.0)
    for weights in ("none", "auto"):
        with pytest.raises(UsageError, match="timm's own"):
            build_backbone(spec, weights)


def test_a_plugin_that_is_absent_is_named(study_folder: Path, image_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "study"
    shutil.copytree(study_folder, copy)
    described = json.loads((copy / "study.json").read_text(encoding="utf-8"))
    absent = described | {"methods": ["ce", "squared+decayed"], "packages": ["plug-in 1.0"]}
    (copy / "study.json").write_text(json.dumps(absent), encoding="utf-8")
    code, _, errors = run("resume", copy)
    assert code == 3
    assert "plug-in 1.0" in errors
    assert "squared" in errors
    absent = described | {"spec": described["spec"] | {"provider": "colours"}}
    (copy / "study.json").write_text(json.dumps(absent), encoding="utf-8")
    code, _, errors = run("predict", copy, image_folder / "images" / "000.png")
    assert code == 2
    assert "colours" in errors


@pytest.mark.parametrize("text", [EVIL, f" {EVIL}", f"{EVIL}[weight=1]+la", f"{EVIL}+la", "a+b:c", "x:"])
def test_every_text_with_code_is_refused_by_default(text: str) -> None:
    with pytest.raises(TametailError, match="trust-code"):
        Trust().check([text], Path("study.json"))
    Trust(code=True).check([text], Path("study.json"))


@pytest.mark.parametrize("text", ["ce", "alpa[preset=v1]+la", "logistic_regression+la", ""])
def test_texts_without_code_need_no_trust(text: str) -> None:
    Trust().check([text], Path("study.json"))


def test_the_name_of_an_absent_module_is_explained() -> None:
    with pytest.raises(UsageError, match="neither installed nor in"):
        Trust(given=frozenset({EVIL})).check([EVIL, "nowhere_at_all.mod:Loss"], Path("study.json"))
