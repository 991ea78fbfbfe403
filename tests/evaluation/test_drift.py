"""Drift: the sequential test compared with plain sums, its false alarms by simulation, and exact coverage of limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from tametail.evaluation.drift import detect_fall, detect_rise, exceedance_limit, mean_limits

Array = NDArray[np.float64]


def flags(rng: np.random.Generator, rates: list[float], images: int) -> list[Array]:
    """A batch of flags of each rate."""
    return [(rng.random(images) < rate).astype(np.float64) for rate in rates]


def evidence_by_sums(batches: list[Array], limit: float) -> list[float]:
    """The evidence after each batch, from its definition: one product per start and stake."""
    found = []
    for now in range(1, len(batches) + 1):
        total = 1.0 - sum(1 / (k * (k + 1)) for k in range(1, now + 1))
        for start in range(1, now + 1):
            capital = []
            for share in np.geomspace(1e-3, 0.9, 30):
                product = 1.0
                for batch in batches[start - 1 : now]:
                    for value in batch:
                        product *= 1 + share / limit * (value - limit)
                capital.append(product)
            total += sum(capital) / 30 / (start * (start + 1))
        found.append(total)
    return found


def test_evidence_is_the_weighted_capital_of_all_starts() -> None:
    rng = np.random.default_rng(0)
    batches = [np.round(rng.random(size), 4) for size in (5, 0, 8, 3)]
    found = detect_rise(batches, 0.3, 0.05)
    np.testing.assert_allclose(np.exp(found.evidence), evidence_by_sums(batches, 0.3), rtol=1e-9)
    assert found.needed == pytest.approx(math.log(20))
    mirrored = detect_fall([1 - batch for batch in batches], 0.7, 0.05)
    np.testing.assert_allclose(mirrored.evidence, found.evidence, rtol=1e-9)


def test_false_alarms_over_fifty_batches_are_at_most_the_stated_rate() -> None:
    rng, error, streams = np.random.default_rng(1), 0.2, 150
    alarms = sum(
        detect_rise(flags(rng, [0.05] * 50, 40), 0.05, error).alarm is not None for _ in range(streams)
    )
    assert 0 < alarms <= streams * error
    # Against limits from a first batch, with half of the error each, also for values that are no flags.
    alarms = 0
    for _ in range(streams):
        batches = [rng.beta(2, 8, 40) for _ in range(31)]
        low, high = mean_limits(batches[0], error / 4)
        later = batches[1:]
        alarms += detect_rise(later, high, error / 4).alarm is not None
        alarms += detect_fall(later, low, error / 4).alarm is not None
    assert alarms <= streams * error


@pytest.mark.parametrize(("rate", "most"), [(0.10, 9), (0.15, 3), (0.30, 1)])
def test_a_drift_is_found_soon_also_after_many_batches_without(rate: float, most: int) -> None:
    rng = np.random.default_rng(2)
    found = [detect_rise(flags(rng, [0.05] * 20 + [rate] * 30, 100), 0.05, 0.01) for _ in range(25)]
    delays = [math.inf if each.alarm is None else each.alarm - 19 for each in found]
    assert np.median(delays) <= most
    began = [each.began for each in found if each.began is not None]
    assert np.median(began) == pytest.approx(20, abs=1)


def test_limits_of_a_rate_have_their_exact_coverage() -> None:
    n, error = 30, 0.05
    limits = [mean_limits(np.repeat([1.0, 0.0], [k, n - k]), error) for k in range(n + 1)]
    for rate in np.linspace(0.005, 0.995, 100):
        p = stats.binom.pmf(np.arange(n + 1), n, rate)
        too_low = sum(chance for chance, (_, high) in zip(p, limits, strict=True) if high < rate)
        too_high = sum(chance for chance, (low, _) in zip(p, limits, strict=True) if low > rate)
        assert max(too_low, too_high) <= error
    # and are no wider than twice the exact ones
    low, high = mean_limits(np.repeat([1.0, 0.0], [10, 190]), 0.025)
    exact = stats.binomtest(10, 200).proportion_ci(0.95)
    assert low <= exact.low < exact.high <= high
    assert high - low < 2 * (exact.high - exact.low)


def test_limits_are_where_the_bets_have_gained_what_the_error_allows() -> None:
    values, error = np.round(np.random.default_rng(6).beta(2, 5, 60), 4), 0.03
    low, high = mean_limits(values, error)
    for bets, mean in ((values, low), (1 - values, 1 - high)):
        capital = [np.prod(1 + share / mean * (bets - mean)) for share in np.geomspace(1e-3, 0.9, 30)]
        assert np.mean(capital) == pytest.approx(1 / error, rel=1e-6)


def test_limits_shrink_with_the_variance_of_the_values() -> None:
    rng = np.random.default_rng(3)
    low, high = mean_limits(rng.uniform(0.78, 0.82, 2_000), 0.025)
    assert low <= 0.8 <= high
    assert high - low < 0.01
    assert mean_limits(np.empty(0), 0.05) == (0.0, 1.0)


def test_the_rate_above_a_threshold_is_below_its_limit() -> None:
    rng, error = np.random.default_rng(4), 0.1
    for groups, above in ((19, 1), (59, 3)):
        # The rate above the threshold is what the score of this rank leaves.
        rates = 1 - np.sort(rng.random((100_000, groups)), axis=1)[:, -above]
        limit = exceedance_limit(groups, 0.05, error)
        assert np.mean(rates > limit) == pytest.approx(error, abs=0.004)
    assert exceedance_limit(19, 0.05, error) > limit > exceedance_limit(10_000, 0.05, error) > 0.05
    with pytest.raises(ValueError, match="expected at least 19 groups"):
        exceedance_limit(18, 0.05, error)


def test_values_and_errors_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"values in 0\.\.1"):
        detect_rise([np.array([0.5, 1.5])], 0.1, 0.05)
    with pytest.raises(ValueError, match=r"values in 0\.\.1"):
        mean_limits(np.array([np.nan]), 0.05)
    with pytest.raises(ValueError, match="error above 0"):
        detect_rise([np.zeros(3)], 0.1, 0.0)
    with pytest.raises(ValueError, match=r"limit in 0\.\.1"):
        detect_rise([np.zeros(3)], 1.1, 0.05)
