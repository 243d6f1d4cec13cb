"""How the rows of windows become one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit, log_expit, logit

from wardgate.guards.windows import MOST_PLACES, both, last_line, mean_odds

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


@given(arrays(np.float32, (5, 2), elements=st.floats(-30, 30, width=32)))
def test_two_things_at_once_are_as_probable_as_the_product_of_both(rows):
    one, other = rows.T.astype(np.float64)
    got = both(rows[:, 0], rows[:, 1])
    assert got.dtype == np.float32
    np.testing.assert_allclose(log_expit(got), log_expit(one) + log_expit(other), rtol=1e-4, atol=1e-5)
    assert (got <= rows.min(1) + 1e-4).all()


def test_a_thing_that_is_certain_takes_nothing_away():
    row = np.array([-40, 0, 40], dtype=np.float32)
    np.testing.assert_array_equal(both(row, np.float32(np.inf)), row)


@pytest.mark.parametrize(
    ("text", "line"), [("one", "one"), ("one\ntwo \n\n", "two"), ("one\r\n two", " two"), ("", ""), ("\n", "")]
)
def test_the_last_line_is_the_last_that_holds_something(text, line):
    assert last_line(text) == line
