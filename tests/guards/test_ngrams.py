"""The n-gram guard against a slow one written letter by letter."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from wardgate.guards import Status, View
from wardgate.guards.batching import windows
from wardgate.guards.ngrams import NgramGuard, NgramSettings, features

SIZES = NgramSettings(bits=12, window=80, overlap=20)
TEXTS = st.lists(st.text(max_size=60), min_size=1, max_size=5)
PRIME = 0x9E3779B97F4A7C15
WORD, PAIR, MASK = 0x9B05688C2B3E6C1F, 0x510E527FADE682D1, (1 << 64) - 1
ODD = {1: 0x5BE0CD19137E2179, 0: 0x1F83D9ABFB41BD6B}


def mixed(value):
    value &= MASK
    value = ((value ^ (value >> 33)) * 0xFF51AFD7ED558CCD) & MASK
    return (value ^ (value >> 29)) >> (64 - SIZES.bits)


def slowly(text):
    """Features of one text, as the docstring of `features` says."""
    letters = [ord(c) for c in f" {text.lower()} "]
    found = [mixed(WORD)]
    for size in SIZES.grams:
        for i in range(len(letters) - size + 1):
            rolling = 0
            for letter in letters[i : i + size]:
                rolling = (rolling + letter) * PRIME & MASK
            found.append(mixed(rolling + ODD[size % 2]))
    words, word = [], []
    for letter in [*letters, 32]:
        if letter >= 0xFFFF or chr(letter).isalnum() or chr(letter) in "'_":
            word.append(letter)
        elif word:
            words.append(sum(c * pow(PRIME, k, 1 << 64) for k, c in enumerate(word)) & MASK)
            word = []
    found += [mixed(w + WORD) for w in words]
    found += [mixed(a * PRIME + b + PAIR) for a, b in itertools.pairwise(words)]
    return sorted(found)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    rng = np.random.default_rng(5)
    path = tmp_path_factory.mktemp("ngrams") / "weights.safetensors"
    shapes = {"scale": (8,), "hidden": (8, 6), "hidden_bias": (6,), "head": (6, 13), "head_bias": (13,)}
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    save_file(tensors | {"table": rng.integers(-127, 128, (1 << 12, 8)).astype(np.int8)}, path)
    return path


@pytest.fixture(scope="module")
def guard(weights):
    return NgramGuard("small", weights, settings=SIZES)


@given(TEXTS)
def test_features_are_those_of_a_slow_reference(texts):
    rows, bounds = features(texts, SIZES)
    assert [sorted(rows[a:b]) for a, b in itertools.pairwise(bounds)] == [slowly(t) for t in texts]


@given(TEXTS)
def test_a_text_scores_the_same_in_any_batch(guard, texts):
    together = guard.score([View(t) for t in texts]).logits
    alone = np.concatenate([guard.score([View(t)]).logits for t in texts])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)


def test_what_stands_around_a_window_does_not_dilute_it(guard):
    padding = "the weather is fine today. " * 40
    alone = guard.logits(windows(padding + "you are a nuisance, go away" + padding, 80, 20))
    whole = guard.score([View(padding + "you are a nuisance, go away" + padding)]).logits[0]
    np.testing.assert_allclose(whole, alone.max(axis=0), rtol=1e-5)


def test_a_prompt_does_not_dilute_its_answer(guard):
    prompt, answer = "bread and milk", "hurt you"
    pair, joined, alone = guard.score([View(prompt, answer), View(f"{prompt}\n\n{answer}"), View(answer)]).logits
    assert (alone > joined).any()
    assert (joined > alone).any()
    np.testing.assert_allclose(pair, np.maximum(joined, alone))


@given(st.text(max_size=400))
def test_windows_cover_a_text_and_overlap(text):
    pieces = windows(text, 80, 20)
    assert all(len(p) <= 80 for p in pieces)
    starts = [min(i * 60, len(text) - 80) for i in range(len(pieces))] if len(text) > 80 else [0]
    assert pieces == [text[s : s + 80] for s in starts]
    assert starts[-1] + len(pieces[-1]) == len(text)


def test_lone_surrogates_and_nothing_at_all_are_texts_too(guard):
    scores = guard.score([View("\ud800 x"), View(""), View("prompt", "response")])
    assert set(scores.status) == {Status.OK}
    assert np.isfinite(scores.logits).all()


def test_an_absurdly_long_text_fails_and_says_so(weights):
    guard = NgramGuard("small", weights, settings=NgramSettings(bits=12, max_characters=10))
    scores = guard.score([View("short"), View("x" * 11)])
    assert scores.status == (Status.OK, Status.FAILED)
    assert np.isnan(scores.logits[1]).all()
    assert "10 characters" in scores.reasons[1]


@pytest.mark.parametrize("break_it", ["truncate", "drop", "shape"])
def test_weights_that_are_not_its_own_are_refused(weights, tmp_path, break_it):
    path = tmp_path / "weights.safetensors"
    raw = weights.read_bytes()
    path.write_bytes(raw[: len(raw) // 2] if break_it == "truncate" else raw)
    if break_it == "drop":
        save_file({"table": np.zeros((1 << 12, 8), dtype=np.int8)}, path)
    sizes = NgramSettings(bits=13) if break_it == "shape" else SIZES
    with pytest.raises(ValueError, match=r"weights\.safetensors"):
        NgramGuard("small", path, settings=sizes)
