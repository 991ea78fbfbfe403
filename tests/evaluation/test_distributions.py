from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from tametail.evaluation import distributions


def test_agrees_with_scipy_stats() -> None:
    degrees = np.array([1.0, 2.0, 7.0, 1000.0])
    for p in (1e-6, 0.025, 0.5, 0.8, 0.975):
        assert distributions.normal_quantile(p) == pytest.approx(stats.norm.ppf(p))
        np.testing.assert_allclose(distributions.t_quantile(p, degrees), stats.t.ppf(p, degrees))
        assert distributions.gamma_quantile(p, 2.5, 0.3) == pytest.approx(stats.gamma.ppf(p, 2.5, scale=0.3))
    for t in (-3.0, 0.0, 0.4, 12.0):
        assert distributions.t_two_sided(t, 4) == pytest.approx(2 * stats.t.sf(abs(t), 4))


@pytest.mark.parametrize("tosses", [0, 1, 9, 3000])
def test_a_fair_coin_is_the_binomial_distribution(tosses: int) -> None:
    heads = np.arange(tosses + 1)
    found = distributions.fair_coin(heads, tosses)
    np.testing.assert_allclose(found, stats.binom.pmf(heads, tosses, 0.5), rtol=1e-9, atol=1e-300)
    assert found.sum() == pytest.approx(1)


def test_evaluation_does_without_the_modules_that_take_long_to_import() -> None:
    code = "import sys, tametail.evaluation; print([m for m in ('scipy.stats', 'scipy.optimize', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
