"""The data plan of the built-in guard: parts, targets, templates, requests and translated texts."""

from __future__ import annotations

import random
import re

import pytest

torch = pytest.importorskip("torch")

from small_encoder import WORDS  # noqa: E402
from wardgate.data.example import Example  # noqa: E402
from wardgate.hazards import HAZARDS, Hazard  # noqa: E402
from wardgate.train.mini_data import WEAK_SAFE, code_switch, lexicon, sorry, split_of, targets  # noqa: E402
from wardgate.train.written import benign_requests, of_groups, requests, templates, works  # noqa: E402


def test_split_keeps_near_copies_together():
    assert split_of("How to bake bread?") == split_of("how to bake bread") == split_of("HOW to bake: bread 1!!")
    shares = [split_of(f"text number {w} {v}") for w in WORDS for v in WORDS]
    assert 0.8 < shares.count("train") / len(shares) < 0.95


def test_targets_leave_the_unknown_out():
    def example(unsafe, present=(), absent=()):
        return Example("1", "t", None, unsafe, frozenset(present), frozenset(absent), "en", "prompt", "s", "x")

    values, weights = targets(
        [example(True, [Hazard.HATE]), example(False, absent=HAZARDS), example(None, absent=[Hazard.HATE])]
    )
    hate = HAZARDS.index(Hazard.HATE)
    assert sum(values[0]) == 2
    assert sum(weights[0]) == 2
    assert sum(weights[1]) == 13
    assert sum(values[1]) == 0
    assert weights[2][hate] == 1
    assert weights[2][-1] == WEAK_SAFE


def test_templates_pair_intents_with_harmless_twins_in_four_languages():
    made = templates()
    for language in ("en", "de", "es", "fr"):
        sides = {e.unsafe for e in made if e.language == language}
        assert sides == {True, False}


def test_what_is_said_of_groups_has_a_kind_and_a_harmless_side_in_every_language():
    made = of_groups()
    for language in {e.language for e in made}:
        unkind = {e.text for e in made if e.language == language and e.unsafe}
        others = {e.text for e in made if e.language == language and e.unsafe is False}
        assert unkind
        assert others
        assert not unkind & others


def test_ordinary_requests_are_filled_in_distinct_and_the_same_for_a_seed():
    made = benign_requests(500, seed=3)
    assert [e.text for e in made] == [e.text for e in benign_requests(500, seed=3)]
    assert len({e.text for e in made}) > 450
    assert not [e.text for e in made if re.search(r"\{[a-z]+\}", e.text)]
    assert {e.unsafe for e in made} == {False}
    assert max(len(e.text) for e in made) > 400


def test_code_switching_swaps_known_words_only():
    words = {"help": "Helfen", "my": "mein", "neighbour": "Nachbar"}
    assert code_switch("Help my neighbour, zork!", words, random.Random(0), share=1.0) == "Helfen mein Nachbar, zork!"
    assert code_switch("Help", words, random.Random(0), share=0.0) == "Help"


def test_the_words_are_one_each_and_swap_most_of_an_ordinary_sentence():
    words = lexicon()
    assert len(words) > 2500
    assert all(english == english.lower().strip() and german.strip() for english, german in words.items())
    assert (
        code_switch("You can use this tool.", words, random.Random(0), share=1.0) == "Du kann benutzen dies Werkzeug."
    )


def test_regret_is_put_in_for_the_word_that_apertium_writes_for_it():
    assert sorry(["Losiento , pero no"], "lo siento") == ["lo siento, pero no"]
    assert sorry(["yo siento"], "lo siento") == ["yo siento"]


def test_texts_that_were_written_out_are_of_both_sides_and_differ():
    rows = requests()
    assert len({e.text for e in rows}) == len(rows) > 10_000
    assert len({e.language for e in rows}) == 19
    assert {e.kind for e in rows} == {"prompt", "response", "comment"}
    for language in {e.language for e in rows}:
        sides = [e.unsafe for e in rows if e.language == language]
        assert sum(sides) > 20
        assert sides.count(False) > 40
    never = {Hazard.CHILD_SEXUAL_EXPLOITATION, Hazard.INDISCRIMINATE_WEAPONS}
    assert not never & {h for e in rows for h in e.present}


def test_asking_about_a_protected_work_is_harmless_and_so_is_a_free_one_whole():
    rows = works()
    assert {e.present for e in rows} == {frozenset(), frozenset({Hazard.INTELLECTUAL_PROPERTY})}
    asked = {e.text for e in rows if e.unsafe}
    assert any("Neuromancer" in t for t in asked)
    assert any("Neuromancer" in e.text for e in rows if not e.unsafe)
    assert not any("Frankenstein" in t for t in asked)
    assert len({e.text for e in rows}) == len(rows)
