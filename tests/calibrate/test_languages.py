"""Shifts by language: what is fitted, and what a calibrator makes of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit, logit

from wardgate.calibrate import Calibrator
from wardgate.calibrate.choose import out_of_fold
from wardgate.calibrate.languages import LARGEST, ROUNDS, SPREAD, fit_by_language, fit_shifts, shifts_of
from wardgate.calibrate.methods import Identity, Platt, Temperature
from wardgate.calibrate.metrics import log_loss
from wardgate.guards import Link, Scores, Status
from wardgate.hazards import BIOGUARD, DUOGUARD, MODDOG, WARDGATE

IDENTITY = Identity()


def spoken(n, shy, seed=0, platt=IDENTITY):
    """Rows whose true log-odds are the logit plus what the language hides."""
    rng = np.random.default_rng(seed)
    languages = rng.choice(["en", "en", "en", *shy], n).tolist()
    truth = rng.normal(0, 3, n)
    y = (rng.random(n) < platt(truth)).astype(float)
    return truth - np.array([shy.get(language, 0.0) for language in languages]), y, languages


def test_what_a_language_hides_is_found():
    z, y, languages = spoken(20_000, {"es": 1.0, "de": -0.7, "fr": 0.0})
    found = fit_shifts(Identity(), z, y, languages)
    assert list(found) == ["de", "es", "fr"]
    assert found["es"] == pytest.approx(1.0, abs=0.12)
    assert found["de"] == pytest.approx(-0.7, abs=0.12)
    assert found["fr"] == pytest.approx(0.0, abs=0.12)


def test_a_shift_is_the_posteriors_mode_by_a_slow_reference():
    method = Platt(0.6, -0.3)
    z, y, languages = spoken(2_000, {"es": 1.5}, platt=method)
    own = np.array(languages) == "es"
    grid = np.linspace(-LARGEST, LARGEST, 8_001)
    p = expit(0.6 * (z[own] + grid[:, None]) - 0.3)
    posterior = (y[own] * np.log(p) + (1 - y[own]) * np.log(1 - p)).sum(1) - 0.5 * (grid / SPREAD) ** 2
    assert fit_shifts(method, z, y, languages)["es"] == pytest.approx(grid[posterior.argmax()], abs=1.1e-3)


def test_few_rows_shrink_a_shift_and_fewer_give_none():
    many, few = spoken(20_000, {"es": 1.5}), spoken(700, {"es": 1.5})
    assert 0 < fit_shifts(Identity(), *few)["es"] < fit_shifts(Identity(), *many)["es"]
    assert fit_shifts(Identity(), *spoken(300, {"es": 1.5})) == {}


def test_unknown_languages_and_the_usual_one_stay_as_they_are():
    z, y, languages = spoken(4_000, {"es": 1.0})
    unknown = [None if language == "es" else language for language in languages]
    assert fit_shifts(Identity(), z, y, unknown) == {}
    assert fit_shifts(Identity(), z, y, [None] * len(z)) == {}
    assert shifts_of(["es", None, "xx", "es"], {"es": 0.5}).tolist() == [0.5, 0.0, 0.0, 0.5]


def test_what_does_not_pair_up_is_refused():
    with pytest.raises(ValueError, match="3 languages do not pair up"):
        fit_shifts(Identity(), np.zeros(2), np.zeros(2), ["en"] * 3)
    made = Calibrator(BIOGUARD, Link.SOFTMAX, {}, by_language={"es": 1.0})
    with pytest.raises(ValueError, match="2 rows and 1 languages"):
        made.apply(scores(BIOGUARD, np.zeros((2, 2)), Link.SOFTMAX), ["es"])


def test_method_and_shifts_are_found_together(monkeypatch):
    """Fitted on all rows at once, the method would be neither language's."""
    z, y, languages = spoken(20_000, {"es": 1.5}, platt=Platt(2.0, -1.0))
    method, shifts = fit_by_language("platt", z, y, languages)
    assert method.slope == pytest.approx(2.0, abs=0.1)
    assert method.intercept == pytest.approx(-1.0, abs=0.1)
    assert shifts["es"] == pytest.approx(1.5, abs=0.1)
    monkeypatch.setattr("wardgate.calibrate.languages.ROUNDS", ROUNDS * 4)
    assert fit_by_language("platt", z, y, languages)[1]["es"] == pytest.approx(shifts["es"], abs=0.01)


def test_shifts_are_judged_out_of_fold():
    z, y, languages = spoken(6_000, {"es": 1.5, "de": 1.0})
    assert log_loss(out_of_fold(z, y, "platt", languages=languages), y) < log_loss(out_of_fold(z, y, "platt"), y) - 0.01
    mixed = np.random.default_rng(1).permutation(languages).tolist()
    assert log_loss(out_of_fold(z, y, "platt", languages=mixed), y) > log_loss(out_of_fold(z, y, "platt"), y) - 0.001


def scores(labels, logits, link):
    logits = np.asarray(logits, dtype=np.float32)
    return Scores("g", labels.labels, logits, link, (Status.OK,) * len(logits), np.zeros(len(logits), np.float32))


LOGITS = np.random.default_rng(0).normal(size=(30, 13)) * 2


@pytest.mark.parametrize(
    ("labels", "link", "overall"),
    [
        (WARDGATE, Link.SIGMOID, None),
        (BIOGUARD, Link.SOFTMAX, None),
        (DUOGUARD, Link.SIGMOID, None),
        (DUOGUARD, Link.SIGMOID, Temperature(2.0)),
        (MODDOG, Link.SOFTMAX, None),
    ],
)
def test_the_log_odds_of_unsafe_move_by_the_shift_and_hazards_stay(labels, link, overall):
    given_scores = scores(labels, LOGITS[:, : len(labels.labels)], link)
    made = Calibrator(labels, link, {}, overall, {"es": 0.8})
    plain = Calibrator(labels, link, {}, overall).apply(given_scores)
    languages = ["es", "en", None] * 10
    moved = made.apply(given_scores, languages)
    by = np.array([0.8, 0.0, 0.0] * 10) / (1 if overall is None else overall.temperature)
    np.testing.assert_allclose(logit(moved.unsafe), logit(plain.unsafe) + by, atol=1e-7)
    np.testing.assert_array_equal(moved.hazards, plain.hazards)
    np.testing.assert_array_equal(made.apply(given_scores).unsafe, plain.unsafe)


def test_shifts_are_read_back():
    made = Calibrator(WARDGATE, Link.SIGMOID, {"unsafe": Platt(2.0, 1.0)}, by_language={"de": -0.25, "es": 0.5})
    assert Calibrator.from_dict(made.to_dict(), WARDGATE, Link.SIGMOID) == made
    assert "by_language" not in Calibrator(WARDGATE, Link.SIGMOID, {}).to_dict()
    for strange in ({"es": float("nan")}, {"es": "much"}, [0.5], {"es": None}):
        with pytest.raises(ValueError, match=r"not finite|not numbers by language"):
            Calibrator.from_dict({"by_language": strange}, WARDGATE, Link.SIGMOID)


@given(
    arrays(np.float64, (5, 13), elements=st.floats(-30, 30, width=32)),
    st.lists(st.sampled_from(["en", "de", None, ""]), min_size=5, max_size=5),
    st.floats(0, 3),
)
def test_a_shift_upwards_never_lowers_what_is_found(logits, languages, shift):
    given_scores = scores(WARDGATE, logits, Link.SIGMOID)
    plain = Calibrator(WARDGATE, Link.SIGMOID, {"unsafe": Platt(0.6, -0.3)})
    moved = Calibrator(WARDGATE, Link.SIGMOID, plain.methods, by_language={"de": shift}).apply(given_scores, languages)
    assert (moved.unsafe >= plain.apply(given_scores).unsafe).all()
