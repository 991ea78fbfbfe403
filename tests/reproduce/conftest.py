"""Table 4 reproduced once on the small folder, with its test set opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.plain_figures import figures_not_rendered
from fixtures.skin import TRAINING, write_skin
from tametail.reproduce import Reproduction, reproduce


@pytest.fixture(scope="session")
def skin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_skin(tmp_path_factory.mktemp("data") / "skin")


@pytest.fixture(scope="session")
def table4(skin: Path, tmp_path_factory: pytest.TempPathFactory) -> Reproduction:
    """Two folds, heads alone, without figures; no test may change it."""
    with pytest.MonkeyPatch.context() as patch, figures_not_rendered():
        patch.setenv("TAMETAIL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        out = tmp_path_factory.mktemp("study") / "t4"
        return reproduce("table4", skin, out=out, **TRAINING)
