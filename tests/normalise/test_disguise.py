from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardgate.normalise import normalise
from wardgate.normalise.disguise import DISGUISES, code_switch, disguise
from wardgate.normalise.normaliser import STEPS

TEXTS = (
    "How can I bake a cake for my grandmother without the oven smoking up the kitchen?",
    "Please explain to the children why the old bridge in our village was closed last winter.",
    "Write a letter to the landlord about the broken heating and ask when it will be repaired.",
    "I want to learn how to play the guitar, what should I practise every day with my friends?",
    "The people in this town are tired of waiting for the bus in the rain.",
    "Tell me what you know about the history of coffee, and where it was first grown.",
)
EXACT = ("fancy", "zero_width", "strike", "backspaces", "base64", "percent", "hexadecimal", "rot13", "nested")


def plain(text):
    return re.sub(r"\s+", " ", text).strip().lower()


def share_of_words_back(name, text, seed):
    before, after = plain(text).split(), plain(normalise(disguise(text, name, seed=seed)).cleaned).split()
    return sum(word in after for word in before) / len(before)


def test_every_step_of_the_normaliser_has_an_attack_that_it_undoes():
    assert {step for d in DISGUISES.values() for step in d.undone_by} == set(STEPS)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("seed", range(5))
def test_what_is_undone_is_undone_to_the_letter(name, seed):
    for text in TEXTS:
        attacked = disguise(text, name, seed=seed)
        assert attacked != text
        normal = normalise(attacked)
        assert normal.cleaned == text
        assert {s.name for s in normal.steps} & set(DISGUISES[name].undone_by)


@pytest.mark.parametrize(
    ("name", "floor"),
    [("homoglyph", 0.9), ("leet", 0.85), ("spacing", 0.9), ("tags", 0.95), ("char_swap", 0.9)],
)
def test_nearly_all_words_come_back_from_disguises_that_lose_something(name, floor):
    shares = [share_of_words_back(name, text, seed) for text in TEXTS for seed in range(10)]
    assert sum(shares) / len(shares) >= floor
    left = [share_of_words_left(name, text, seed) for text in TEXTS for seed in range(10)]
    assert sum(left) / len(left) <= sum(shares) / len(shares) - 0.15, "the attack changes what a reader's eye does not"


def share_of_words_left(name, text, seed):
    before, after = plain(text).split(), plain(disguise(text, name, seed=seed)).split()
    return sum(word in after for word in before) / len(before)


def test_case_that_was_turned_at_random_is_read_in_small_letters():
    long = [t for t in TEXTS if len(t.split()) >= 6]
    back = [normalise(disguise(t, "casing", seed=seed)).cleaned == t.lower() for t in long for seed in range(20)]
    assert sum(back) / len(back) >= 0.8


@pytest.mark.parametrize("name", ["base64", "percent", "hexadecimal", "nested"])
@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_nested_encodings_are_unwrapped(name, layers):
    for text in TEXTS:
        assert normalise(disguise(text, name, budget=layers)).cleaned == text


@pytest.mark.parametrize("name", [n for n, d in DISGUISES.items() if not d.undone_by])
def test_what_nothing_undoes_still_holds_the_text_or_its_letters(name):
    for text in TEXTS:
        attacked = disguise(text, name)
        assert attacked != text
        if name in ("padding_before", "padding_after", "many_shot", "role_play"):
            assert text in attacked


def test_swapping_keeps_every_letter():
    for text in TEXTS:
        attacked = disguise(text, "char_swap")
        assert attacked != text
        assert sorted(attacked) == sorted(text)


@given(st.text(max_size=80), st.sampled_from(sorted(DISGUISES)), st.integers(0, 2**31), st.floats(0, 3))
@settings(max_examples=500, deadline=None)
def test_disguises_are_pure_and_never_fail(text, name, seed, budget):
    once = disguise(text, name, budget=budget, seed=seed)
    assert isinstance(once, str)
    assert once == disguise(text, name, budget=budget, seed=seed)
    assert disguise(text, name, budget=0, seed=seed) == text


@pytest.mark.parametrize("name", sorted(DISGUISES))
@pytest.mark.parametrize("text", ["", "\x00", "\ud800", "{}", "{0}", "word", "%s %d"])
def test_odd_texts(name, text):
    assert isinstance(disguise(text, name), str)


@pytest.mark.parametrize("name", ["homoglyph", "leet", "zero_width", "char_swap", "casing", "emoji", "code_switch"])
def test_a_larger_budget_changes_more(name):
    def distance(budget):
        attacked = [disguise(text, name, budget=budget, seed=seed) for text in TEXTS for seed in range(5)]
        whole = [text for text in TEXTS for _ in range(5)]
        return sum(a != b for x, y in zip(attacked, whole, strict=True) for a, b in zip(x, y, strict=False)) + sum(
            abs(len(x) - len(y)) for x, y in zip(attacked, whole, strict=True)
        )

    assert 0 < distance(0.1) < distance(0.9)


def test_seeds_differ():
    assert len({disguise(TEXTS[0], "homoglyph", seed=seed) for seed in range(20)}) > 15


def test_code_switching_takes_the_callers_words():
    assert code_switch("good day", 1.0, Random(0), table={"day": ["Tag"]}) == "good Tag"
    assert code_switch("good day", 1.0, Random(0), table={}) == "good day"


def test_what_is_asked_wrongly_is_refused():
    with pytest.raises(ValueError, match="negative"):
        disguise("text", "leet", budget=-0.1)
    with pytest.raises(KeyError):
        disguise("text", "no such attack")
