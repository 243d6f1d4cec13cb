"""Fitting a guard's calibrator to labelled traffic, or to none, and using the file."""

from __future__ import annotations

import json

import numpy as np
import pytest

from wardgate import Engine
from wardgate.calibrate.methods import sigmoid
from wardgate.calibrate.metrics import ece
from wardgate.engine import CalibratorError, FittedCalibrator, Submission
from wardgate.evaluate.certify import LabelledDataError, read_labelled
from wardgate.evaluate.recalibrate import content_free, fit_labelled, fit_unlabelled, read_texts, scored
from wardgate.guards import Link, Scores, Status
from wardgate.hazards import BIOGUARD, DUOGUARD, MODDOG, OPENAI_MODERATION, WARDGATE, LabelMap, Meaning
from wardgate.policy import Action


class NumberGuard:
    """The logit of every label that means unsafe is the number that the text is; `otherwise` if it is none."""

    def __init__(self, labels=WARDGATE, link=Link.SIGMOID, otherwise=np.nan):
        self.labels, self.link, self.name, self.otherwise = labels, link, f"number-{labels.name}", otherwise

    def score(self, batch):
        logits = np.full((len(batch), len(self.labels.labels)), -9.0 if self.link is Link.SIGMOID else 0.0, np.float32)
        for row, view in enumerate(batch):
            for column, meaning in enumerate(self.labels.meanings.values()):
                if meaning.unsafe and (self.labels is not WARDGATE or not meaning.hazards):
                    logits[row, column] = self.read(view.text)
        n = len(batch)
        return Scores(self.name, self.labels.labels, logits, self.link, (Status.OK,) * n, np.zeros(n, np.float32))

    def read(self, text):
        try:
            return float(text)
        except ValueError:
            return self.otherwise


def traffic(path, n, *, seed=0, truth=lambda z: sigmoid(2 * z - 1)):
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 2, n).round(6)
    y = rng.random(n) < truth(z)
    path.write_text("".join(json.dumps({"text": f"{a}", "unsafe": int(b)}) + "\n" for a, b in zip(z, y, strict=True)))
    return read_labelled(path)


def fitted(guard, data, **given):
    loaded, reports = scored(guard, data.submissions)
    return fit_labelled(loaded, reports, data, **given)


GUARDS = [
    NumberGuard(),
    NumberGuard(DUOGUARD),
    NumberGuard(BIOGUARD, Link.SOFTMAX),
    NumberGuard(MODDOG, Link.SOFTMAX),
    NumberGuard(OPENAI_MODERATION),
]


@pytest.mark.parametrize("guard", GUARDS, ids=lambda g: g.labels.name)
def test_a_fitted_calibrator_makes_any_guards_unsafe_honest(guard, tmp_path):
    made = fitted(guard, traffic(tmp_path / "d.jsonl", 3000))
    path = tmp_path / "c.json"
    made.save(path)
    assert FittedCalibrator.load(path) == made
    fresh = traffic(tmp_path / "fresh.jsonl", 4000, seed=1)
    plain = Engine.load([guard])
    tuned = Engine.load([guard], calibrators=[path])
    y = np.array(fresh.unsafe, dtype=float)
    before = np.array([d.unsafe for d in plain.check_many(fresh.submissions)])
    after = np.array([d.unsafe for d in tuned.check_many(fresh.submissions)])
    assert ece(before, y) > 0.1
    assert ece(after, y) < 0.03
    assert plain.guards_sha256 != tuned.guards_sha256, "a certificate of the one is none of the other"
    assert tuned.check("1").guards[0].calibrated


def spoken(path, n, *, seed=0, hidden=1.5):
    """Traffic in two languages, in the second of which the guard is less sure than it may be."""
    rng = np.random.default_rng(seed)
    languages = rng.choice(["en", "es"], n, p=[0.6, 0.4])
    truth = rng.normal(0, 2, n)
    z = (truth - hidden * (languages == "es")).round(6)
    y = rng.random(n) < sigmoid(2 * truth - 1)
    rows = zip(z, y, languages, strict=True)
    path.write_text(
        "".join(json.dumps({"text": f"{a}", "unsafe": int(b), "language": str(c)}) + "\n" for a, b, c in rows)
    )
    return read_labelled(path)


@pytest.mark.parametrize("guard", GUARDS, ids=lambda g: g.labels.name)
def test_by_language_each_language_is_honest(guard, tmp_path):
    data, fresh = spoken(tmp_path / "d.jsonl", 4000), spoken(tmp_path / "fresh.jsonl", 6000, seed=1)
    errors = {}
    for by_language in (False, True):
        made = fitted(guard, data, by_language=by_language)
        assert ("after_by_language" in made.measured) == by_language
        made.save(tmp_path / "c.json")
        decisions = Engine.load([guard], calibrators=[tmp_path / "c.json"]).check_many(fresh.submissions)
        p, y = np.array([d.unsafe for d in decisions]), np.array(fresh.unsafe, dtype=float)
        spanish = np.array([d.language == "es" for d in decisions])
        errors[by_language] = ece(p[spanish], y[spanish])
    assert errors[False] > 0.06
    assert errors[True] < 0.04
    assert made.measured["after_by_language"]["log_loss"] < made.measured["after"]["log_loss"]


def test_a_guards_own_shifts_stay_unless_languages_are_fitted(tmp_path):
    data = spoken(tmp_path / "d.jsonl", 4000)
    fitted(NumberGuard(), data, method="platt", by_language=True).save(tmp_path / "first.json")
    loaded, cases = scored(NumberGuard(), data.submissions)
    shifted = FittedCalibrator.load(tmp_path / "first.json").fit_to(loaded)
    shifts = shifted.judge.calibrator.by_language
    assert set(shifts) == {"es"}
    again = fit_labelled(shifted, cases, data, method="platt")
    kept = again.fit_to(shifted).judge.calibrator
    assert kept.by_language == shifts
    before, after = (again.measured[when]["log_loss"] for when in ("before", "after"))
    assert after == pytest.approx(before, abs=0.02), "its method is fitted to what it will be given"
    few = read_labelled(_first(tmp_path / "d.jsonl", 90))
    fewer = fit_labelled(shifted, cases[:90], few, method="platt", by_language=True)
    assert fewer.fit_to(shifted).judge.calibrator.by_language == {}


def _first(path, n):
    some = path.with_name("few.jsonl")
    some.write_text("".join(path.read_text().splitlines(keepends=True)[:n]))
    return some


def test_what_is_measured_is_out_of_fold_and_before_and_after(tmp_path):
    made = fitted(NumberGuard(), traffic(tmp_path / "d.jsonl", 2000))
    assert made.rows == 2000
    assert made.measured["before"]["ece"][0] > 0.1
    assert made.measured["after"]["ece"][0] < 0.04
    assert made.measured["after"]["log_loss"] < made.measured["before"]["log_loss"]
    assert set(made.measured["losses"]) > {"identity", "temperature", "platt", "beta"}


def test_points_keep_their_aim_where_the_data_suffice_and_their_boundary_where_not(tmp_path):
    data = traffic(tmp_path / "d.jsonl", 1200)
    made = fitted(NumberGuard(), data)
    assert set(made.points) == {"strict", "balanced"}, "0.5 % of some 700 safe rows are too few, and none shipped"
    safe = ~np.array(data.unsafe)
    path = tmp_path / "c.json"
    made.save(path)
    p = np.array([d.unsafe for d in Engine.load([NumberGuard()], calibrators=[path]).check_many(data.submissions)])
    assert (p[safe] >= made.points["strict"]["unsafe"]).mean() == pytest.approx(0.08, abs=0.01)
    assert (p[safe] >= made.points["balanced"]["unsafe"]).mean() == pytest.approx(0.035, abs=0.005)


def test_a_bundles_boundary_survives_recalibration(tmp_path):
    """Few rows: the same texts are flagged as before, whatever their new probabilities."""
    texts = [f"You are a {w} person" for w in ("kind", "stupid", "tall", "worthless", "disgusting", "lovely")] * 12
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps({"text": t, "unsafe": int(i % 2)}) + "\n" for i, t in enumerate(texts)))
    made = fitted("mini", read_labelled(path), method="platt")
    made.save(tmp_path / "c.json")
    plain, tuned = Engine.default(), Engine.load(calibrators=[tmp_path / "c.json"])
    for one, other in zip(plain.check_many(texts[:6]), tuned.check_many(texts[:6]), strict=True):
        assert one.action == other.action
        assert one.unsafe != other.unsafe
    assert made.measured["thresholds_from_data"] == []


@pytest.mark.parametrize(
    ("n", "method", "why"),
    [
        (12, "auto", "too few rows: . of the rarer class, and the simplest method needs 10"),
        (300, "isotonic", "of the rarer class, and isotonic needs 500; try --method auto"),
    ],
)
def test_data_that_cannot_bear_a_method_are_refused(tmp_path, n, method, why):
    with pytest.raises(CalibratorError, match=why):
        fitted(NumberGuard(), traffic(tmp_path / "d.jsonl", n), method=method)


def test_rows_that_were_not_scored_are_left_out_and_counted(tmp_path):
    path = tmp_path / "d.jsonl"
    traffic(path, 400)
    path.write_text(path.read_text() + '{"text": "no number", "unsafe": 1}\n' * 7)
    made = fitted(NumberGuard(), read_labelled(path))
    assert (made.rows, made.measured["rows_not_scored"]) == (400, 7)


def test_a_calibrator_for_other_weights_is_refused(tmp_path):
    path = tmp_path / "c.json"
    made = fitted(NumberGuard(), traffic(tmp_path / "d.jsonl", 300))
    made.save(path)
    with pytest.raises(CalibratorError, match="which does not run here"):
        Engine.load([NumberGuard(DUOGUARD)], calibrators=[path])
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"guard_sha256": "0" * 64}))
    with pytest.raises(CalibratorError, match="fitted for another number-wardgate"):
        Engine.load([NumberGuard()], calibrators=[path])


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"methods": {"unsafe": {"kind": "magic"}}},
        {"methods": {"nonsense": {"kind": "identity"}}},
        {"methods": {"unsafe": 3}},
        {"methods": {"by_language": {"es": "much"}}},
        {"methods": {"by_language": [0.5]}},
        {"methods": []},
        {"points": {"strict": {"unsafe": "high"}}},
    ],
)
def test_a_file_that_makes_no_sense_is_refused_with_one_line(tmp_path, change):
    path = tmp_path / "c.json"
    fitted(NumberGuard(), traffic(tmp_path / "d.jsonl", 300)).save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CalibratorError) as caught:
        Engine.load([NumberGuard()], calibrators=[path])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"guard": "x"}', "[" * 5000])
def test_a_file_that_is_none_is_refused(tmp_path, text):
    path = tmp_path / "c.json"
    path.write_text(text)
    with pytest.raises(CalibratorError, match="not a calibrator file"):
        FittedCalibrator.load(path)
    with pytest.raises(CalibratorError, match="No such file"):
        FittedCalibrator.load(tmp_path / "gone.json")


@pytest.mark.parametrize(
    "guard", [NumberGuard(otherwise=1.5), NumberGuard(DUOGUARD, otherwise=1.5)], ids=["one", "many"]
)
def test_contextual_calibration_needs_no_data(guard, tmp_path):
    loaded, reports = scored(guard, content_free())
    path = tmp_path / "c.json"
    fit_unlabelled(loaded, reports, "", method="contextual").save(path)
    assert Engine.load([guard], calibrators=[path]).check("1.5").unsafe == pytest.approx(0.5, abs=1e-6)


def test_batch_calibration_reads_unlabelled_traffic(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps({"text": str(z)}) + "\n" for z in np.linspace(-1, 4, 101)))
    texts, sha256 = read_texts(path)
    loaded, reports = scored(NumberGuard(), texts)
    made = fit_unlabelled(loaded, reports, sha256, method="batch")
    made.save(tmp_path / "c.json")
    tuned = Engine.load([NumberGuard()], calibrators=[tmp_path / "c.json"])
    assert np.mean([d.unsafe for d in tuned.check_many(texts)]) == pytest.approx(0.5, abs=0.1)
    assert made.measured == {"method": "batch", "texts": 101}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no rows"),
        ('{"text": 3}', "line 1"),
        ('{"text": "a", "response": 3}', "line 1"),
        ('{"text": "a", "language": ["de"]}', "line 1"),
        ('{"text": "a"}\nno', "line 2"),
        ('["a"]', "line 1"),
        ('"a"', "line 1"),
    ],
)
def test_unlabelled_files_that_make_no_sense_are_refused(tmp_path, text, why):
    path = tmp_path / "t.jsonl"
    path.write_text(text)
    with pytest.raises(LabelledDataError, match=why):
        read_texts(path)


def test_a_guard_without_unsafe_labels_cannot_be_calibrated():
    labels = LabelMap("mood", "here", {"happy": Meaning(unsafe=None)})
    loaded, reports = scored(NumberGuard(labels), [Submission("1")])
    with pytest.raises(CalibratorError, match="nothing to calibrate"):
        fit_unlabelled(loaded, reports, "", method="batch")


def test_what_a_calibrator_leaves_out_stays_as_it_shipped(tmp_path):
    made = FittedCalibrator("mini", Engine.default().guards["mini"].sha256, {}, {}, 0, 0, "", "2026-11-21")
    made.save(tmp_path / "c.json")
    tuned = Engine.load(calibrators=[tmp_path / "c.json"])
    text = "I will find you and hurt you."
    assert tuned.check(text).unsafe == Engine.default().check(text).unsafe
    assert tuned.check("Good morning!").action is Action.ALLOW
