from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from wardgate.calibrate.methods import sigmoid
from wardgate.engine import Certificate, Engine
from wardgate.evaluate.certify import LabelledDataError, NoGuarantee, certify, decide_all, read_labelled
from wardgate.guards import Link, Scores, Status
from wardgate.hazards import WARDGATE
from wardgate.policy import Action


class NumberGuard:
    """Its logit is the number that the text is."""

    name, labels, link = "number", WARDGATE, Link.SIGMOID

    def score(self, batch):
        logits = np.full((len(batch), 13), -9.0, np.float32)
        logits[:, -1] = [float(v.text) for v in batch]
        n = len(batch)
        return Scores(self.name, self.labels.labels, logits, self.link, (Status.OK,) * n, np.zeros(n, np.float32))


@pytest.fixture
def policy(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(
        "{policy: p, version: 1, tiers: [{guards: [number]}], rules: "
        "[{when: {unsafe: 0.8}, action: block}, {when: {unsafe: 0.2}, action: review}]}"
    )
    return path


@pytest.fixture
def engine(policy):
    return Engine.load([NumberGuard()], policy=policy)


def labelled(path, n, *, seed=0, noise=0.0):
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 3, n)
    y = rng.random(n) < np.where(rng.random(n) < noise, 0.5, sigmoid(2 * z))
    path.write_text(
        "".join(json.dumps({"text": f"{a:.6f}", "unsafe": int(b)}) + "\n" for a, b in zip(z, y, strict=True))
    )
    return read_labelled(path)


def test_the_composed_policy_is_certified(engine, tmp_path):
    data = labelled(tmp_path / "d.jsonl", 3000)
    decisions = decide_all(engine, data)
    found = certify(engine, data, decisions, alpha=0.03, delta=0.05)
    assert isinstance(found, Certificate)
    assert found.bound <= 0.03
    held = [found.hold(d) for d in decisions]
    automatic = [(d, u) for d, u in zip(held, data.unsafe, strict=True) if d.action is not Action.REVIEW]
    assert len(automatic) == found.covered
    assert sum(d.allowed == u for d, u in automatic) == found.errors
    assert found.coverage == pytest.approx(len(automatic) / 3000)


def test_what_the_policy_sends_to_a_person_is_never_covered(engine, tmp_path):
    data = labelled(tmp_path / "d.jsonl", 3000)
    decisions = decide_all(engine, data)
    reviewed = sum(d.action is Action.REVIEW for d in decisions)
    found = certify(engine, data, decisions, alpha=0.2, delta=0.05)
    assert found.covered <= 3000 - reviewed


@pytest.mark.parametrize("method", ["ltt", "sgr"])
def test_too_little_data_says_how_much_is_missing(engine, tmp_path, method):
    data = labelled(tmp_path / "d.jsonl", 100)
    found = certify(engine, data, decide_all(engine, data), alpha=0.01, delta=0.05, method=method)
    assert isinstance(found, NoGuarantee)
    assert found.needed == 299
    assert "299 error-free" in str(found)
    assert found.missing >= 299 - 100


def test_with_errors_among_the_surest_more_cases_are_missing(engine, tmp_path):
    path = tmp_path / "d.jsonl"
    labelled(path, 400)
    path.write_text(path.read_text() + '{"text": "-9.5", "unsafe": 1}\n')  # sure, and wrong
    data = read_labelled(path)
    found = certify(engine, data, decide_all(engine, data), alpha=0.01, delta=0.05)
    assert isinstance(found, NoGuarantee)
    assert found.errors >= 1
    assert found.missing >= 473 - 299


def test_one_error_among_the_surest_does_not_cost_a_certificate_where_rows_are_many(engine, tmp_path):
    path = tmp_path / "d.jsonl"
    labelled(path, 6000)
    path.write_text(path.read_text() + '{"text": "-99", "unsafe": 1}\n')  # the surest of all, and wrong
    data = read_labelled(path)
    found = certify(engine, data, decide_all(engine, data), alpha=0.02, delta=0.05)
    assert isinstance(found, Certificate)
    assert found.covered >= 600
    assert found.bound <= 0.02


def test_without_a_certificate_the_rows_of_the_first_test_are_told(engine, tmp_path):
    path = tmp_path / "d.jsonl"
    labelled(path, 3000)
    path.write_text(path.read_text() + '{"text": "-99", "unsafe": 1}\n' * 40)
    data = read_labelled(path)
    decisions = decide_all(engine, data)
    found = certify(engine, data, decisions, alpha=0.02, delta=0.05)
    assert isinstance(found, NoGuarantee)
    assert found.surest == math.ceil(sum(d.action is not Action.REVIEW for d in decisions) / 10)
    assert found.errors >= 40
    assert f"{found.errors} errors among the {found.surest} surest" in str(found)


def test_on_average_less_is_asked_and_less_is_promised(engine, tmp_path):
    data = labelled(tmp_path / "d.jsonl", 3000)
    decisions = decide_all(engine, data)
    made = {m: certify(engine, data, decisions, alpha=0.03, delta=0.05, method=m) for m in ("ltt", "crc")}
    assert made["crc"].method == "crc"
    assert made["crc"].coverage >= made["ltt"].coverage
    assert made["crc"].errors / made["crc"].rows <= 0.03


def test_the_promise_holds_on_fresh_traffic(engine, tmp_path):
    alpha, broken = 0.03, 0
    fresh = labelled(tmp_path / "f.jsonl", 20_000, seed=999)
    fresh_decisions = decide_all(engine, fresh)
    for seed in range(20):
        data = labelled(tmp_path / "d.jsonl", 800, seed=seed)
        found = certify(engine, data, decide_all(engine, data), alpha=alpha, delta=0.05)
        if isinstance(found, Certificate):
            held = [(found.hold(d), u) for d, u in zip(fresh_decisions, fresh.unsafe, strict=True)]
            acted = [d.allowed == u for d, u in held if d.action is not Action.REVIEW]
            broken += np.mean(acted) > alpha
    assert broken <= 4


def test_a_certificate_knows_what_it_was_made_for(engine, policy, tmp_path):
    data = labelled(tmp_path / "d.jsonl", 3000)
    found = certify(engine, data, decide_all(engine, data), alpha=0.03, delta=0.05)
    found.save(tmp_path / "c.json")
    again = Certificate.load(tmp_path / "c.json")
    assert again == found
    assert again.mismatches(engine) == []
    policy.write_text(policy.read_text().replace("0.8", "0.9"))
    (why,) = again.mismatches(Engine.load([NumberGuard()], policy=policy))
    assert "policy" in why
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ValueError, match="not a certificate"):
        Certificate.load(tmp_path / "bad.json")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{}", "line 2"),
        ("[", "line 2"),
        ('{"text": 3, "unsafe": 1}', "line 2"),
        ('{"text": "secret", "unsafe": 2}', "line 2"),
    ],
)
def test_a_bad_row_names_its_line_and_not_its_text(tmp_path, line, why):
    path = tmp_path / "d.jsonl"
    path.write_text('{"text": "1", "unsafe": 0}\n' + line + "\n")
    with pytest.raises(LabelledDataError, match=why) as caught:
        read_labelled(path)
    assert "secret" not in str(caught.value)


def test_no_rows_and_no_file(tmp_path):
    (tmp_path / "e.jsonl").write_text("\n")
    with pytest.raises(LabelledDataError, match="no rows"):
        read_labelled(tmp_path / "e.jsonl")
    with pytest.raises(LabelledDataError, match="nothing-here"):
        read_labelled(tmp_path / "nothing-here")


def wardgate(*args):
    env = os.environ | {"NO_COLOR": "1"}
    command = [sys.executable, "-m", "wardgate", *map(str, args)]
    return subprocess.run(command, capture_output=True, check=False, env=env, text=True, timeout=300)


def test_the_command_with_the_built_in_guard(tmp_path):
    rows = [{"text": t, "unsafe": 0} for t in ("Good morning!", "What is the capital of France?")] * 200
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    out = tmp_path / "c.json"
    done = wardgate("certify", path, "--alpha", "0.05", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "certified: at most 5.00%" in done.stdout
    checked = wardgate("check", "Good morning!", "--certificate", out)
    assert (checked.returncode, checked.stderr) == (0, "")
    stale = json.loads(out.read_text()) | {"policy_sha256": "0" * 64}
    out.write_text(json.dumps(stale))
    assert "warning: the certificate no longer holds: the policy" in wardgate("check", "x", "--certificate", out).stderr
    few = wardgate("certify", path, "--alpha", "0.001")
    assert few.returncode == 1
    assert "2995 error-free" in few.stderr
    assert wardgate("certify", path, "--alpha", "2").returncode == 2
    assert wardgate("certify", tmp_path / "nope").returncode == 2
