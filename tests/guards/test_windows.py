"""How the rows of windows become one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit, logit

from wardgate.guards.windows import MOST_PLACES, mean_odds

ROWS = arrays(np.float32, st.tuples(st.integers(1, 40), st.just(3)), elements=st.floats(-12, 12, width=32))


def test_the_odds_of_a_text_are_the_mean_of_its_windows():
    p = np.array([[0.5, 0.9], [0.2, 0.9], [0.8, 0.1]])
    mean = (p / (1 - p)).mean(0)
    np.testing.assert_allclose(expit(mean_odds(logit(p).astype(np.float32))), mean / (1 + mean), rtol=1e-5)


@given(ROWS)
def test_the_row_lies_between_the_highest_window_and_an_eighth_of_its_odds(rows):
    row, highest = mean_odds(rows), rows.max(0)
    assert row.dtype == np.float32
    assert (row <= highest + 1e-4).all()
    assert (row >= highest - np.log(MOST_PLACES) - 1e-4).all()


@given(ROWS)
def test_one_window_is_the_text_and_order_does_not_matter(rows):
    np.testing.assert_allclose(mean_odds(rows[:1]), rows[0], atol=1e-5)
    np.testing.assert_allclose(mean_odds(rows[::-1]), mean_odds(rows), atol=1e-4)


@pytest.mark.parametrize("places", [8, 80, 800])
def test_padding_lowers_a_harmful_window_by_no_more_than_a_constant(places):
    rows = np.full((places, 1), -8.0, dtype=np.float32)
    rows[places // 2] = 5.0
    assert mean_odds(rows)[0] == pytest.approx(5 - np.log(MOST_PLACES), abs=0.01)
