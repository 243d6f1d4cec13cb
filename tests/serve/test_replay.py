"""Stored scores through another policy, against what that policy decides on the texts themselves."""

import json

import numpy as np
import pytest

from wardgate.engine import Engine, Submission
from wardgate.guards import Link, Scores, Status
from wardgate.hazards import WARDGATE
from wardgate.policy import Action, parse_policy
from wardgate.serve.replay import RecordError, replay

LABELS = WARDGATE.labels


class Words:
    """`unsafe` is +2 for a text with "bad", 0 for one with "odd", -2 otherwise; "broken" is not scored."""

    name = "words"
    labels = WARDGATE
    link = Link.SIGMOID

    def score(self, batch):
        logits = np.full((len(batch), len(LABELS)), -2, dtype=np.float32)
        for row, view in zip(logits, batch, strict=True):
            row[-1] = 2 if "bad" in view.text else 0.3 if "odd" in view.text else -2
        status = tuple(Status.FAILED if "broken" in view.text else Status.OK for view in batch)
        logits[[s is not Status.OK for s in status]] = np.nan
        return Scores("words", LABELS, logits, Link.SIGMOID, status, np.ones(len(batch), np.float32))


def engine(threshold):
    text = f"""
policy: by-{threshold}
version: "1"
tiers:
  - guards: [words]
on_failure: review
rules:
  - name: unsafe
    when: {{ unsafe: {threshold} }}
    action: block
otherwise: allow
"""
    return Engine.load([Words()], policy=parse_policy(text.encode(), "test.yaml"))


TEXTS = ["fine", "bad", "odd", "broken", "an odd bad one"]


@pytest.mark.parametrize("threshold", [0.05, 0.5, 0.8, 0.99])
def test_a_replay_decides_as_the_policy_does_on_the_texts(threshold):
    stored = [json.dumps(decision.as_dict()) for decision in engine(0.5).check_many(TEXTS)]
    new = engine(threshold)
    again = list(replay(stored, new))
    direct = new.check_many(TEXTS)
    assert [row.decision.action for row in again] == [decision.action for decision in direct]
    assert [row.decision.rule for row in again] == [decision.rule for decision in direct]
    assert [row.decision.unsafe for row in again] == pytest.approx([d.unsafe for d in direct], abs=1e-5)
    assert [row.before for row in again] == [d.action for d in engine(0.5).check_many(TEXTS)]


def test_a_replay_knows_what_a_language_is_shifted_by(tmp_path):
    plain = engine(0.5)
    values = {"methods": {"by_language": {"es": 3.0}}, "points": {}, "rows": 0, "unsafe": 0, "data_sha256": ""}
    made = {"guard": "words", "guard_sha256": plain.guards["words"].sha256, "made": "", "measured": {}, "format": 1}
    (tmp_path / "c.json").write_text(json.dumps(values | made))
    shifted = Engine.load([Words()], policy=plain.policy, calibrators=[tmp_path / "c.json"])
    texts = [Submission("fine", language=language) for language in ("es", "en")]
    stored = [json.dumps(decision.as_dict()) for decision in plain.check_many(texts)]
    assert [row.decision.action for row in replay(stored, shifted)] == [Action.BLOCK, Action.ALLOW]
    assert [d.action for d in shifted.check_many(texts)] == [Action.BLOCK, Action.ALLOW]


def test_the_live_side_of_a_shadows_difference_is_replayed():
    decision = engine(0.5).check("bad").as_dict()
    (row,) = replay([json.dumps({"at": "now", "live": decision, "shadow": {}})], engine(0.99))
    assert (row.before, row.decision.action, row.changed) == (Action.BLOCK, Action.ALLOW, True)


def test_a_guard_that_was_not_asked_is_named_and_the_policys_failure_action_holds():
    decision = engine(0.5).check("fine").as_dict() | {"guards": []}
    (row,) = replay([json.dumps(decision)], engine(0.5))
    assert row.unasked == ("words",)
    assert row.decision.action is Action.REVIEW


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "not a stored decision"),
        ("[]", "not a stored decision"),
        ('{"id":"1"}', "not a stored decision"),
        ('{"id":"1","action":"allow","guards":[{"name":"other","status":"ok","scores":{}}]}', "not loaded"),
        ('{"id":"1","action":"allow","guards":[{"name":"words","status":"ok","scores":{}}]}', "labels"),
    ],
)
def test_lines_that_are_no_records_are_told_by_number(line, told):
    with pytest.raises(RecordError, match=f"line 2: .*{told}"):
        list(replay(["", line], engine(0.5)))
