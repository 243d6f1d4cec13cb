"""The figures of `scripts/measure_game.py`, against slow readings of what they are."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

for name in ("torch", "transformers", "datasketch"):
    pytest.importorskip(name)
metrics = pytest.importorskip("sklearn.metrics")
SCRIPT = Path(__file__).parents[2] / "scripts/measure_game.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("measure_game", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["measure_game"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["measure_game"]


def found(script, seed, slipping=0.3, n=60):
    rng = np.random.default_rng(seed)
    attacks = len(script.DISGUISES)
    y = rng.random(2 * n) < 0.5
    return script.Found(
        1.5,
        y,
        y ^ (rng.random(2 * n) < 0.2),
        rng.random(n) < 0.8,
        rng.random((attacks, n)) < slipping,
        rng.random((attacks, n)) < 0.1,
    )


def test_evasion_and_f1_are_those_of_a_slow_reading(script):
    one = found(script, 0)
    rows, draws = [0, 3, 5], np.random.default_rng(1).integers(0, 60, (7, 60))
    for draw, value in zip(draws, script.evasion(one, rows, draws), strict=True):
        texts = [i for i in draw if one.unsafe[i]]
        assert value == pytest.approx(np.mean([[one.slips[a, i] for i in texts] for a in rows]))
    draws = np.random.default_rng(2).integers(0, 120, (7, 120))
    for draw, value in zip(draws, script.f1(one, draws), strict=True):
        assert value == pytest.approx(metrics.f1_score(one.y[draw], one.flagged[draw]))


def test_a_classifier_beside_itself_and_beside_a_leakier_one(script):
    one, leaky = found(script, 0, 0.2), found(script, 0, 0.8)
    same = script.summary(one, one, "test")
    assert same["clean_f1_change"] == [0.0, 0.0, 0.0]
    for group in script.GROUPS:
        assert same[group]["of_before"] == [1.0, 1.0, 1.0]
        assert same[group]["recall_under_attack"] == pytest.approx(0.8, abs=0.05)
    low, high = script.summary(one, leaky, "test")["unseen"]["of_before"][1:]
    assert low < 0.25 < high < 0.4


def test_the_validation_half_says_nothing_of_unseen_attacks(script):
    one = found(script, 0)
    seen = script.summary(one, one, "validation")
    assert "unseen" not in seen
    assert set(seen["attacks"]) == set(script.PLAYED)
    assert not set(script.PLAYED) & set(script.UNSEEN)
    assert set(script.PLAYED) | set(script.UNSEEN) == set(script.DISGUISES)
    halves = {script.half_of(str(i)) for i in range(50)}
    assert halves == {"validation", "test"}


def test_the_table_has_every_classifier_and_what_is_flagged_among_safe_texts(script):
    one = found(script, 0)
    results = {n: {v: script.summary(one, one, "test") for v in script.VIEWS} for n in ("before", "round 1")}
    for view in script.VIEWS:
        lines = script.table(results, view).splitlines()
        assert [line.split(" | ")[0] for line in lines[2:]] == ["| before", "| round 1"]
        assert len({line.count("|") for line in lines}) == 1
        assert "safe flagged" in lines[0]
