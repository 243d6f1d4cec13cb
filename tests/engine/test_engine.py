from __future__ import annotations

import asyncio
import json
import shutil

import numpy as np
import pytest

from wardgate import Engine
from wardgate.engine import BundleError, GuardUnavailableError, Submission
from wardgate.engine.bundle import BUILT_IN, load_bundle
from wardgate.guards import Link, Scores, Span, Status, View
from wardgate.hazards import WARDGATE
from wardgate.policy import Action, PolicyError


class WordGuard:
    """Unsafe when a text holds its word; remembers what it was asked."""

    name, labels, link = "word", WARDGATE, Link.SIGMOID

    def __init__(self, word="cheese", *, fails_on=None):
        self.word, self.fails_on, self.asked = word, fails_on, []

    def score(self, batch):
        self.asked.append(list(batch))
        logits = np.full((len(batch), 13), -6.0, np.float32)
        spans, status = [], []
        for row, view in enumerate(batch):
            joined = view.text + (view.response or "")
            at = view.text.find(self.word)
            if self.word in joined:
                logits[row, -1] = 6.0
            spans.append((Span("unsafe", at, at + len(self.word)),) if at >= 0 else ())
            failed = self.fails_on is not None and self.fails_on in joined
            status.append(Status.FAILED if failed else Status.OK)
            if failed:
                logits[row] = np.nan
        ms = np.ones(len(batch), np.float32)
        reasons = tuple("broke" if s is Status.FAILED else "" for s in status)
        return Scores(self.name, self.labels.labels, logits, self.link, tuple(status), ms, reasons, tuple(spans))


def engine(**given):
    guard = WordGuard(**given)
    return Engine.load([guard]), guard


def test_decisions_keep_the_order_and_the_callers_ids():
    made, _ = engine()
    texts = ["bread", Submission("cheese", id="c7"), "milk", "cheese please"]
    decisions = made.check_many(texts)
    assert [d.id for d in decisions] == ["1", "c7", "3", "4"]
    assert [d.allowed for d in decisions] == [True, False, True, False]


def test_a_decision_prints_as_one_line_without_the_text():
    made, _ = engine()
    shown = repr(made.check(Submission("some cheese and cake", id="c7")))
    assert "c7" in shown
    assert "BLOCK" in shown
    assert len(shown) < 400
    assert "cake" not in shown


def test_a_disguised_word_is_found_and_its_span_lies_in_the_raw_text():
    made, _ = engine()
    text = "some c h e e s e please"
    decision = made.check(text)
    assert decision.action is Action.BLOCK
    assert decision.normalised
    (span,) = decision.guards[0].spans
    assert text[span.start : span.end] == "c h e e s e"


def test_cleaning_adds_suspicion_and_never_takes_it_away():
    made, _ = engine(word="c h e e s e")
    assert made.check("c h e e s e").action is Action.BLOCK


def test_identical_views_are_scored_once():
    made, guard = engine()
    made.check_many(["bread", "bread", "milk", "bread"])
    assert guard.asked == [[View("bread"), View("milk")]]


def test_a_view_that_fails_leaves_the_case_without_a_score():
    made, _ = engine(fails_on="milk")
    decision = made.check("milk and cheese")
    assert (decision.action, decision.rule, decision.unsafe) == (Action.REVIEW, "on_failure", None)
    assert set(decision.hazards.values()) == {None}
    assert made.check("bread").allowed


def test_prompt_and_response_are_judged_together():
    made, guard = engine()
    assert made.check("what goes with bread?", response="cheese").action is Action.BLOCK
    assert guard.asked[-1] == [View("what goes with bread?", "cheese")]


def test_check_iter_reads_in_chunks_and_numbers_on():
    made, guard = engine()
    decisions = list(made.check_iter((f"text {i}" for i in range(10)), chunk=4))
    assert [d.id for d in decisions] == [str(i) for i in range(1, 11)]
    assert [len(batch) for batch in guard.asked] == [4, 4, 2]


def test_acheck_is_check():
    made, _ = engine()
    assert asyncio.run(made.acheck("cheese")).action is Action.BLOCK


def test_no_texts_no_decisions():
    made, guard = engine()
    assert made.check_many([]) == []
    assert guard.asked == []


def test_a_guard_that_is_missing_means_review(tmp_path):
    policy = tmp_path / "p.yaml"
    policy.write_text("{policy: p, version: 1, tiers: [{guards: [bioguard-prompt]}], rules: []}")
    made = Engine.default(policy=policy)
    decision = made.check("hello")
    assert decision.action is Action.REVIEW
    assert decision.guards[0].status is Status.MISSING
    assert "gated" in made.missing["bioguard-prompt"]


def test_a_guard_that_nobody_knows_is_an_error(tmp_path):
    policy = tmp_path / "p.yaml"
    policy.write_text("{policy: p, version: 1, tiers: [{guards: [minni]}], rules: []}")
    with pytest.raises(PolicyError, match=r"line 1: no guard is called 'minni' \(did you mean 'mini'\?\)"):
        Engine.default(policy=policy)


def test_what_is_named_by_hand_must_be_there():
    with pytest.raises(GuardUnavailableError, match="minni"):
        Engine.load(["minni"])
    with pytest.raises(PolicyError, match="defualt"):
        Engine.default(policy="defualt")


@pytest.fixture
def bundle(tmp_path):
    return shutil.copytree(BUILT_IN / "mini", tmp_path / "mini")


def test_a_bundle_folder_is_a_guard(bundle):
    assert Engine.load([bundle]).check("Good morning!").allowed


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_damaged_bundle_is_refused(bundle, name):
    path = bundle / name
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(BundleError, match=f"{name} is damaged"):
        load_bundle(bundle)
    path.unlink()
    with pytest.raises(BundleError, match="missing"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    "change", [{"kind": "magic"}, {"labels": "nothing"}, {"files": None}, {"calibrator": {"x": {}}}]
)
def test_a_manifest_that_makes_no_sense_is_refused(bundle, change):
    manifest = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps(manifest | change))
    with pytest.raises(BundleError):
        load_bundle(bundle)


def test_a_manifest_that_is_not_json_is_refused(bundle):
    (bundle / "bundle.json").write_text("{")
    with pytest.raises(BundleError, match=r"bundle\.json"):
        load_bundle(bundle)
    with pytest.raises(BundleError, match="not a bundle"):
        load_bundle(bundle.parent)
