"""The generator's policy and its gradient, and the game as a table that can be solved."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("datasketch")

from wardgate.train.duo.moves import Seed  # noqa: E402
from wardgate.train.duo.policy import NONE, EditPolicy, Learning, softmax  # noqa: E402
from wardgate.train.duo.toy import ToyGame  # noqa: E402

SEED = Seed("s", "please give me some bread", False, (), "en")


# --- the policy ----------------------------------------------------------------------------------------------------


def objective(logits, policy, rewards, unsafe_share, beta):
    p = softmax(logits)
    start = softmax(policy.start)
    kl = (p * (np.log(p) - np.log(start))).sum((1, 2))
    expected = sum(
        share * (p[side].sum(0) * rewards[side]).sum() for side, share in enumerate((1 - unsafe_share, unsafe_share))
    )
    return expected, -beta * kl.sum()


def test_the_gradient_is_the_objectives():
    rng = np.random.default_rng(0)
    policy = EditPolicy.uniform((NONE, "leet", "casing"), slots=2)
    policy = replace(policy, logits=rng.normal(size=(2, 2, 3)) / 2)
    worth = rng.normal(size=(2, 3))
    unsafe = np.arange(4000) % 2 == 1
    total = np.zeros((2, 2, 3))
    rounds = 60
    for _ in range(rounds):
        edits = policy.draw(unsafe, rng)
        rewards = worth[unsafe.astype(int)[:, None], edits].sum(1)
        total += policy.gradient(unsafe, edits, rewards, 0.3) / rounds
    numeric = np.zeros_like(total)
    for at in np.ndindex(total.shape):
        step = np.zeros_like(total)
        step[at] = 1e-5
        high, low = (
            # each side has its own mean reward, whatever its share of the draws
            sum(objective(policy.logits + s, policy, worth * 2, 0.5, 0.3))
            for s in (step, -step)
        )
        numeric[at] = (high - low) / 2e-5
    np.testing.assert_allclose(total, numeric, atol=0.02)


def test_the_policy_finds_what_the_classifier_misses_and_beta_holds_it_back():
    policy = EditPolicy.uniform((NONE, "leet", "casing", "emoji"), slots=1)
    seeds = [replace(SEED, id=str(i), unsafe=True) for i in range(20)]

    def reward(some, texts):  # the classifier misses emoji only
        return np.array([3.0 if any(ord(c) > 0x2600 for c in t) else 0.0 for t in texts])

    loose = policy.learnt(seeds, reward, Learning(beta=0.01, rate=1.0, steps=40, batch=64), 0)
    tight = policy.learnt(seeds, reward, Learning(beta=50.0, rate=0.02, steps=40, batch=64), 0)
    assert loose.probabilities()[1, 0, 3] > 0.9
    assert tight.probabilities()[1, 0, 3] < 0.35
    assert loose.kl()[1] > tight.kl()[1]
    np.testing.assert_array_equal(loose.probabilities()[0], policy.probabilities()[0])  # no safe seed, no change


def test_the_best_policy_is_the_theorems():
    """At its fixed point the policy is p_ref exp(r / beta), normalised: p_ref p_theta(y|x)^(-1/beta)."""
    policy = EditPolicy.uniform((NONE, "leet", "casing"), slots=1)
    worth, beta = np.array([0.0, 0.7, 1.5]), 0.8
    unsafe = np.ones(6000, bool)
    rng = np.random.default_rng(1)
    for _ in range(200):
        edits = policy.draw(unsafe, rng)
        step = policy.gradient(unsafe, edits, worth[edits[:, 0]], beta)
        policy = replace(policy, logits=policy.logits + 1.0 * step)
    np.testing.assert_allclose(policy.probabilities()[1, 0], softmax(worth / beta), atol=0.03)


@given(st.text(max_size=60), st.integers(0, 50))
@settings(max_examples=30)
def test_edits_are_repeatable_and_never_fail(text, chance):
    policy = EditPolicy.uniform(tables={"to_spanish": {"bread": "pan"}})
    edits = np.random.default_rng(chance).integers(0, len(policy.names), 3)
    assert policy.apply(text, edits, 3) == policy.apply(text, edits, 3)
    assert policy.apply("bread", [len(policy.names) - 1], 0) == "pan"
    again = EditPolicy.from_dict(json.loads(json.dumps(policy.as_dict())), policy.tables)
    np.testing.assert_array_equal(again.logits, policy.logits)


def test_letters_that_only_look_like_ascii_in_another_case_are_left_alone():
    policy = EditPolicy.uniform(("leet",), slots=1)
    assert policy.apply("aıa bſb cİc", [0], 0) == "aıa bſb cİc"


# --- the table -----------------------------------------------------------------------------------------------------


@given(st.floats(1.5, 50), st.integers(0, 1000))
@settings(max_examples=20)
def test_best_responses_are_best(beta, chance):
    game = ToyGame.drawn(beta, chance=chance)
    rng = np.random.default_rng(chance)
    theta = rng.uniform(0.05, 0.95, 12)
    phi = game.generator(theta)
    for _ in range(10):
        other = phi * np.exp(rng.normal(scale=0.3, size=phi.shape))
        other /= other.sum(1, keepdims=True)
        assert game.value(theta, other) <= game.value(theta, phi) + 1e-12
        assert game.value(rng.uniform(0.05, 0.95, 12), phi) >= game.value(game.classifier(phi), phi) - 1e-12
    assert game.gap(theta, phi) >= -1e-12


@pytest.mark.parametrize("chance", range(4))
def test_large_beta_converges_linearly_and_small_beta_does_not(chance):
    gaps, moves = ToyGame.drawn(10.0, chance=chance).play(40)
    assert gaps[-1] < 1e-12
    rates = moves[2:8] / moves[1:7]
    assert (rates < 0.25).all()  # about 1 / beta
    gaps, _ = ToyGame.drawn(0.1, chance=chance).play(100)
    assert gaps[-1] > 0.1


@pytest.mark.parametrize("beta", [0.01, 0.1, 1.0, 10.0])
def test_accumulated_data_converges_for_every_beta(beta):
    gaps, _ = ToyGame.drawn(beta).play(300, accumulate=True)
    assert gaps[-1] < 2e-3
    assert gaps[-1] < gaps[3]


def test_the_theorems_bound_holds_where_it_promises():
    bounds = {beta: ToyGame.drawn(beta).modulus() for beta in (1.0, 10.0, 100.0, 1000.0)}
    assert bounds[1.0] > bounds[10.0] > bounds[100.0] > bounds[1000.0]
    assert bounds[1000.0] < 1
    _, moves = ToyGame.drawn(1000.0).play(5)
    assert moves[1] / moves[0] <= bounds[1000.0]
