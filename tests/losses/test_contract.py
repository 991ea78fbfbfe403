"""The contract tests of `tametail.testing` over all registered losses and their options."""

from __future__ import annotations

import pytest

from fixtures.zoo import GIVEN
from tametail.testing.test_losses import *  # noqa: F403
from tametail.testing.test_losses import parametrize


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    parametrize(metafunc, GIVEN)
