from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from wardgate.calibrate.risk import (
    binomial_p_value,
    clopper_pearson_lower,
    clopper_pearson_upper,
    conformal_risk_control,
    expected_risk,
    fixed_sequence,
    hoeffding_bentkus_p_value,
    needed_cases,
    needed_clean_cases,
    selective_guaranteed_risk,
)


@pytest.mark.parametrize(("alpha", "n"), [(0.05, 59), (0.02, 149), (0.01, 299), (0.005, 598), (0.001, 2995)])
def test_clean_cases_that_are_needed(alpha, n):
    assert needed_clean_cases(alpha, 0.05) == n
    assert clopper_pearson_upper(0, n, 0.05) <= alpha < clopper_pearson_upper(0, n - 1, 0.05)


@pytest.mark.parametrize(("errors", "n"), [(0, 299), (1, 473), (2, 628), (4, 913)])
def test_cases_that_are_needed_with_errors_among_them(errors, n):
    assert needed_cases(errors, 0.01, 0.05) == n
    assert clopper_pearson_upper(errors, n, 0.05) <= 0.01 < clopper_pearson_upper(errors, n - 1, 0.05)


@given(st.integers(1, 400), st.floats(0.001, 0.5), st.data())
@settings(deadline=None)
def test_clopper_pearson_is_scipys(n, delta, data):
    k = data.draw(st.integers(0, n))
    expected = binomtest(k, n, alternative="less").proportion_ci(1 - delta, method="exact")
    assert clopper_pearson_upper(k, n, delta) == pytest.approx(expected.high, abs=1e-9)
    expected = binomtest(k, n, alternative="greater").proportion_ci(1 - delta, method="exact")
    assert clopper_pearson_lower(k, n, delta) == pytest.approx(expected.low, abs=1e-9)


@pytest.mark.parametrize(("k", "n", "delta"), [(-1, 5, 0.1), (6, 5, 0.1), (1, 5, 0.0), (1, 5, 1.0)])
def test_questions_that_make_no_sense_are_refused(k, n, delta):
    with pytest.raises(ValueError, match="not a question"):
        clopper_pearson_upper(k, n, delta)


def test_hoeffding_bentkus_is_valid_and_looser_than_exact():
    n = np.array([200.0])
    for k in (0, 3, 8):
        assert hoeffding_bentkus_p_value(np.array([k / 200]), n, 0.05)[0] >= binomial_p_value(np.array([k]), n, 0.05)[0]
    rng = np.random.default_rng(0)
    p = hoeffding_bentkus_p_value(rng.binomial(200, 0.05, 4000) / 200, n, 0.05)
    assert (p <= 0.1).mean() <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / 4000)


def traffic(rng, n):
    """Confidence uniform; the chance of being wrong falls as it rises. The true risk above t is (1 - t)^2 / 6."""
    confidence = rng.random(n)
    wrong = rng.random(n) < 0.5 * (1 - confidence) ** 2
    return confidence, wrong


def true_risk(threshold):
    return 0.5 * (1 - threshold) ** 2 / 3


@pytest.mark.parametrize("method", [fixed_sequence, partial(fixed_sequence, start=150), selective_guaranteed_risk])
def test_the_promise_is_broken_no_more_often_than_delta_allows(method):
    rng, alpha, delta, draws = np.random.default_rng(1), 0.06, 0.1, 2000
    broken = found = 0
    for _ in range(draws):
        chosen = method(*traffic(rng, 1500), alpha=alpha, delta=delta)
        if chosen is not None:
            found += 1
            broken += true_risk(chosen.threshold) > alpha
    assert found > 0.9 * draws
    assert broken <= binom.ppf(0.999, draws, delta)


def test_the_tests_can_tell_a_broken_promise():
    rng, alpha, draws = np.random.default_rng(1), 0.03, 400
    broken = 0
    for _ in range(draws):  # the largest coverage whose *observed* error rate is low enough: no promise at all
        confidence, wrong = traffic(rng, 600)
        order = np.argsort(-confidence)
        rate = np.cumsum(wrong[order]) / np.arange(1, 601)
        broken += true_risk(confidence[order][np.flatnonzero(rate <= alpha)[-1]]) > alpha
    assert broken > binom.ppf(0.999, draws, 0.1)


def test_fixed_sequence_covers_nearly_what_is_possible():
    chosen = fixed_sequence(*traffic(np.random.default_rng(2), 20_000), alpha=0.03, delta=0.05)
    best = 1 - (1 - np.sqrt(6 * 0.03))
    assert chosen.coverage == pytest.approx(best, abs=0.05)
    assert chosen.bound <= 0.03


def test_too_little_data_gives_nothing():
    assert fixed_sequence(np.ones(298), np.zeros(298), alpha=0.01, delta=0.05) is None
    assert fixed_sequence(np.ones(299), np.zeros(299), alpha=0.01, delta=0.05).coverage == 1.0
    assert selective_guaranteed_risk(np.ones(50), np.ones(50), alpha=0.01, delta=0.05) is None


def test_an_error_among_the_surest_ends_a_path_that_starts_there_and_not_one_that_starts_later():
    confidence, wrong = traffic(np.random.default_rng(2), 20_000)
    wrong[np.argmax(confidence)] = 1
    assert fixed_sequence(confidence, wrong, alpha=0.01, delta=0.05) is None
    found = fixed_sequence(confidence, wrong, alpha=0.01, delta=0.05, start=2000)
    assert found.coverage > 0.15
    assert true_risk(found.threshold) <= 0.01
    assert fixed_sequence(confidence, wrong, alpha=0.01, delta=0.05, start=20_001) is None


def test_nothing_is_covered_before_the_start():
    confidence, wrong = traffic(np.random.default_rng(2), 3000)
    assert fixed_sequence(confidence, wrong, alpha=0.2, delta=0.05, start=2000).covered >= 2000
    wrong[confidence < np.quantile(confidence, 0.5)] = 1
    assert fixed_sequence(confidence, wrong, alpha=0.1, delta=0.05).covered > 1000
    assert fixed_sequence(confidence, wrong, alpha=0.1, delta=0.05, start=2500) is None


@pytest.mark.parametrize(("confidence", "wrong"), [([], []), ([0.5], [0, 1]), ([np.nan], [0])])
def test_rows_that_do_not_pair_up_are_refused(confidence, wrong):
    with pytest.raises(ValueError, match="every row"):
        fixed_sequence(np.array(confidence), np.array(wrong), alpha=0.1, delta=0.1)


def test_conformal_risk_control_holds_on_average():
    rng, alpha = np.random.default_rng(3), 0.1
    grid = np.linspace(0, 1, 101)
    missed = []
    for _ in range(500):
        scores = rng.beta(5, 2, 100)  # harmful rows; a miss is a score under the threshold
        losses = (scores[:, None] < grid[::-1][None, :]).astype(float)
        chosen = conformal_risk_control(losses, alpha=alpha)
        missed.append((rng.beta(5, 2, 2000) < grid[::-1][chosen]).mean())
    assert np.mean(missed) <= alpha + 0.005
    with pytest.raises(ValueError, match="rise"):
        conformal_risk_control(np.array([[0.0, 1.0]]), alpha=0.1)


def test_expected_risk_holds_the_share_of_all_traffic_on_average():
    rng, alpha, rates, coverages = np.random.default_rng(4), 0.03, [], []
    for _ in range(400):
        chosen = expected_risk(*traffic(rng, 300), alpha=alpha, delta=0.05)
        confidence, wrong = traffic(rng, 1000)
        rates.append(((confidence >= chosen.threshold) & wrong).mean())
        coverages.append(chosen.coverage)
    assert np.mean(rates) <= alpha + 2 * np.std(rates) / np.sqrt(len(rates))
    assert np.mean(rates) >= 0.8 * alpha, "it does not give coverage away either"
    assert np.mean(coverages) > 0.3


def test_expected_risk_needs_a_row_for_every_part_of_alpha():
    assert expected_risk(np.ones(98), np.zeros(98), alpha=0.01, delta=0.05) is None
    assert expected_risk(np.full(99, 0.99), np.zeros(99), alpha=0.01, delta=0.05).coverage == 1.0
