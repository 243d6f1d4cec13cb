"""The deciding half of batching: what is taken, in which order, and that nothing is lost or taken twice."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardgate.engine import Submission
from wardgate.serve.pace import Pace, retry_after
from wardgate.serve.queue import Job, Queue, cost_of


def job(lane, costs):
    return Job(lane, [Submission(f"{lane}{i}") for i in range(len(costs))], costs, admitted=0.0, deadline=0.0)


def queue(**limits):
    return Queue(**({"batch_tokens": 100, "batch_items": 16, "max_items": 1000} | limits))


jobs = st.lists(st.tuples(st.sampled_from("abc"), st.lists(st.integers(1, 150), min_size=1, max_size=30)), max_size=12)


@given(jobs, st.integers(1, 200), st.integers(1, 20))
def test_every_text_is_taken_once_in_its_order_and_within_the_limits(rows, budget, most):
    waiting = queue(batch_tokens=budget, batch_items=most)
    made = [job(lane, costs) for lane, costs in rows]
    for one in made:
        waiting.admit(one)
    taken = {id(one): [] for one in made}
    while (batch := waiting.take()) is not None:
        assert 1 <= len(batch.pieces) <= most
        assert batch.cost == sum(one.costs[i] for one, i in batch.pieces)
        assert batch.cost <= budget or len(batch.pieces) == 1
        assert {one.lane for one, _ in batch.pieces} == {batch.lane}
        for one, i in batch.pieces:
            taken[id(one)].append(i)
    assert all(taken[id(one)] == list(range(len(one.items))) for one in made)
    assert (waiting.items, waiting.cost) == (0, 0)


@given(jobs, st.data())
def test_a_dropped_job_leaves_no_trace(rows, data):
    waiting = queue()
    made = [job(lane, costs) for lane, costs in rows]
    for one in made:
        waiting.admit(one)
    for _ in range(data.draw(st.integers(0, 3))):
        waiting.take()
    dropped = data.draw(st.lists(st.sampled_from(made), unique_by=id)) if made else []
    for one in dropped:
        waiting.drop(one)
        assert not waiting.drop(one)
    left = [one for one in made if one not in dropped]
    assert waiting.items == sum(one.waiting for one in left)
    assert waiting.cost == sum(one.waiting_cost for one in left)
    while (batch := waiting.take()) is not None:
        assert not any(one in dropped for one, _ in batch.pieces)


def test_a_large_call_does_not_hold_up_a_small_one():
    waiting = queue(batch_tokens=1000, batch_items=16)
    waiting.admit(job("a", [1] * 400))
    small = job("a", [1])
    waiting.admit(small)
    assert small in {one for one, _ in waiting.take().pieces}


def test_lanes_take_turns():
    waiting = queue(batch_items=8)
    waiting.admit(job("a", [1] * 40))
    waiting.admit(job("b", [1] * 40))
    assert [waiting.take().lane for _ in range(4)] == ["a", "b", "a", "b"]


def test_the_bound_is_kept():
    waiting = queue(max_items=3)
    waiting.admit(job("a", [1, 1]))
    assert waiting.can_admit(1)
    assert not waiting.can_admit(2)
    with pytest.raises(ValueError, match="full"):
        waiting.admit(job("a", [1, 1]))


def test_cost_counts_bytes_up_to_what_a_model_reads():
    assert cost_of(Submission(""), cap=10) == 2
    assert cost_of(Submission("a" * 40, "b" * 40), cap=100) == 22
    assert cost_of(Submission("日" * 4), cap=100) == 5
    assert cost_of(Submission("a" * 10_000), cap=100) == 100


def test_the_turns_that_a_policy_reads_cost_something_and_others_nothing():
    said = Submission("a" * 40, history=("b" * 400, "c" * 40, "d" * 40))
    assert cost_of(said, cap=1000) == 12
    assert cost_of(said, cap=1000, window=3) == (2 * 40 + 2 * 80) // 4 + 2


def test_pace_predicts_the_wait():
    pace = Pace(scorers=2)
    assert pace.wait_s(1000) == 0
    pace.saw(tokens=1, seconds=1.0, full=False)  # a small batch says nothing of what a full one would do
    assert pace.wait_s(1000) == 0
    pace.saw(tokens=500, seconds=1.0, full=True)
    assert pace.wait_s(1000) == pytest.approx(1.0)
    pace.saw(tokens=1, seconds=1.0, full=False)
    assert pace.wait_s(1000) == pytest.approx(1.0)
    pace.saw(tokens=1000, seconds=1.0, full=False)  # faster than was thought
    kept = math.exp(-1)
    assert pace.wait_s(1000) == pytest.approx(1000 * (1 + kept) / (1000 + 500 * kept) / 2)
    assert [retry_after(s) for s in (0, 1.2, 1e9)] == [1, 2, 60]


def test_pace_is_tokens_over_seconds_and_not_the_mean_of_rates():
    pace = Pace(scorers=1)
    for _ in range(200):  # cheap and dear texts by turns: 200 tokens in 55 ms
        pace.saw(tokens=100, seconds=0.005, full=True)
        pace.saw(tokens=100, seconds=0.05, full=True)
    assert pace.wait_s(1000) == pytest.approx(1000 * 0.055 / 200, rel=0.05)


def test_a_machine_that_slows_down_is_noticed_within_a_second_or_two():
    pace = Pace(scorers=1)
    for _ in range(100):
        pace.saw(tokens=200, seconds=0.04, full=True)
    assert pace.wait_s(5000) == pytest.approx(1.0)
    for _ in range(10):  # a quarter of the pace, for 1.6 s
        pace.saw(tokens=200, seconds=0.16, full=True)
    assert pace.wait_s(5000) > 2.5
