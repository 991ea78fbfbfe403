"""What importing costs, and what it needs."""

from __future__ import annotations

import inspect
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest

import tametail
from fixtures.forked import fork_server

ROOT = Path(__file__).parents[1]

# Refuses every import but the standard library, torch, what torch itself requires, and this package.
ONLY_TORCH = """
import sys
torch_needs = {"filelock", "fsspec", "jinja2", "markupsafe", "mpmath", "networkx", "setuptools", "sympy", "typing_extensions"}
allowed = set(sys.stdlib_module_names) | torch_needs | {"torch", "torchgen", "functorch", "tametail"}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top not in allowed:
            raise ModuleNotFoundError(f"refused: {name}", name=top)
sys.meta_path.insert(0, Refuse())
from tametail.losses import ALPALoss
import torch
value = ALPALoss()(torch.zeros(2, 3, requires_grad=True), torch.tensor([0, 2]))
value.backward()
print("numpy" in sys.modules, float(value) > 0)
"""


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "pandas", "timm", "typer", "matplotlib")
    assert run(f"import sys, tametail; print([m for m in {heavy} if m in sys.modules])") == "[]"


def test_the_command_line_starts_without_heavy_imports() -> None:
    heavy = ("torch", "numpy", "pandas", "timm", "sklearn", "matplotlib")
    assert run(f"import sys, tametail.cli.app; print([m for m in {heavy} if m in sys.modules])") == "[]"


def test_losses_work_with_torch_alone() -> None:
    assert run(ONLY_TORCH) == "False True"


def test_a_bare_install_asks_for_torch_alone() -> None:
    bare = [r for r in requires("tametail") or [] if "extra ==" not in r]
    assert [r.split(">")[0] for r in bare] == ["torch"]


def test_public_names_are_found_late() -> None:
    for name in tametail.__all__:
        assert getattr(tametail, name) is not None
    assert set(tametail.__all__) <= set(dir(tametail))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tametail.nothing


def test_public_functions_stay_functions_when_their_folders_are_imported() -> None:
    names = ("search", "recommend", "report", "audit")
    folders = "; ".join(f"import tametail.{name}" for name in (*names, "search.search", "report.study.write"))
    code = f"""
import pickle
{folders}
import tametail as tt
from tametail.search.space import Space
assert pickle.loads(pickle.dumps(tt.SearchResult)) is tt.SearchResult
assert pickle.loads(pickle.dumps(tt.search)) is tt.search
print(all(callable(getattr(tt, name)) for name in {names}), Space.__name__)
"""
    found = fork_server().run("-c", code, directory=ROOT)
    assert found.stdout.strip() == "True Space", found.stderr


def test_functions_say_what_they_take() -> None:
    for name in (
        "compare",
        "resume",
        "recommend",
        "search",
        "evaluate",
        "rank",
        "report",
        "audit",
        "load",
        "read_images",
    ):
        function = getattr(tametail, name)
        parameters = inspect.signature(function).parameters.values()
        assert all(one.kind is not one.VAR_KEYWORD for one in parameters), name
        assert "Options:" in function.__doc__, name
    assert "label_col" in inspect.signature(tametail.compare).parameters


def test_versions_agree() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {tametail.__version__}\n" in citation
    assert f"[{tametail.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_constraints_pin_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = " ".join(project["dependencies"] + project["optional-dependencies"]["train"])
    pins = [
        line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if "==" in line
    ]
    assert pins
    assert all(pin.split("==")[0] in asked for pin in pins)
