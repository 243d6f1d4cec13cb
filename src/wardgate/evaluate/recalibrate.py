"""Fits a guard's calibrator on labelled traffic, or without labels, and measures what that gains."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np

from wardgate.calibrate import FALSE_POSITIVE_RATES, Calibrator
from wardgate.calibrate.calibrator import BY_LANGUAGE, OVERALL, log_odds, logit
from wardgate.calibrate.choose import MINIMUM_ROWS, fit_chosen, out_of_fold
from wardgate.calibrate.fit import FITTERS
from wardgate.calibrate.languages import fit_by_language, shifts_of
from wardgate.calibrate.methods import Identity, method_to_dict
from wardgate.calibrate.metrics import brier, debiased_ece, ece_interval, log_loss
from wardgate.calibrate.unlabelled import CONTENT_FREE, batch, contextual
from wardgate.engine.catalogue import load_guard
from wardgate.engine.engine import Engine
from wardgate.engine.fitted import CalibratorError, FittedCalibrator
from wardgate.engine.submission import Submission
from wardgate.evaluate.certify import CHUNK, LabelledDataError, submission_of
from wardgate.guards import Link
from wardgate.policy import load_policy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from wardgate.calibrate.methods import Method
    from wardgate.engine.catalogue import Loaded
    from wardgate.evaluate.certify import Labelled
    from wardgate.guards import Guard
    from wardgate.policy import Case

    Array = NDArray[np.float64]

EXPECTED_EXCEEDANCES = 10
"""Safe rows that must lie above a threshold for their quantile to set it: below, its relative error exceeds a third."""
UNLABELLED = ("contextual", "batch")
METHODS = ("auto", *MINIMUM_ROWS, *UNLABELLED)


def read_texts(path: Path) -> tuple[list[Submission], str]:
    """Unlabelled traffic: JSON lines with `text` (or `prompt`), `response`, `language` if known; and the file's hash.

    Raises:
        LabelledDataError: if a line is not of that form, or there are no rows; the message never holds text.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise LabelledDataError(f"{path}: {error.strerror or 'cannot be read'}") from None
    out = []
    for number, line in enumerate(raw.splitlines(), 1):
        if line.strip():
            try:
                out.append(submission_of(json.loads(line)))
            except (ValueError, KeyError, TypeError, AttributeError):
                raise LabelledDataError(f"{path.name}, line {number}: needs a string `text`") from None
    if not out:
        raise LabelledDataError(f"{path.name} has no rows")
    return out, hashlib.sha256(raw).hexdigest()


def scored(
    spec: str | Path | Guard, submissions: Sequence[Submission], progress: Callable[[], None] = lambda: None
) -> tuple[Loaded, list[Case]]:
    """Texts with a guard's reports under its link function alone, as the engine gives them: the highest of all views.

    Raises:
        GuardUnavailableError: if the guard cannot be loaded.
    """
    loaded = load_guard(spec)
    guard = loaded.guard
    plain = replace(loaded.judge, calibrator=Calibrator.uncalibrated(guard.labels, guard.link))
    policy = load_policy("default").for_guards((guard.name,))
    engine = Engine({guard.name: replace(loaded, judge=plain, points={})}, policy)
    cases = []
    for start in range(0, len(submissions), CHUNK):
        for case in engine.cases(submissions[start : start + CHUNK]):
            cases.append(case)
            progress()
    return loaded, cases


def unsafe_logits(loaded: Loaded, cases: Sequence[Case]) -> tuple[str, Array]:
    """What P(unsafe) is calibrated by: the one label that speaks for it, or `*` for several together, and its logits.

    Returns:
        The key under which the method belongs, and logits of *shape* (n,); NaN where not scored.
    """
    guard = loaded.guard
    speaking = Calibrator.uncalibrated(guard.labels, guard.link).speaking()
    if not speaking:
        raise CalibratorError(f"guard {guard.name} has no label that means unsafe: there is nothing to calibrate")
    reports = [case.reports[guard.name] for case in cases]
    if len(speaking) > 1:
        return OVERALL, logit(np.array([np.nan if r.unsafe is None else r.unsafe for r in reports]))
    table = np.array([[_number(r.scores.get(label)) for label in guard.labels.labels] for r in reports])
    logits = log_odds(table) if guard.link is Link.SOFTMAX else table
    return speaking[0], logits[:, guard.labels.labels.index(speaking[0])]


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def fit_labelled(
    loaded: Loaded, cases: Sequence[Case], data: Labelled, *, method: str = "auto", by_language: bool = False
) -> FittedCalibrator:
    """Fit P(unsafe) on labelled rows, carry the operating points over, and measure out of fold.

    Args:
        loaded: the guard, with the calibrator it has had so far.
        cases: the data with its reports, in order, from `scored`.
        data: the labels.
        method: a method of `MINIMUM_ROWS`, or `auto` for the one with the lowest cross-validated log-loss.
        by_language: fit shifts by language as well, instead of keeping the guard's own.

    Raises:
        CalibratorError: if the data cannot bear the method; the message says what is missing.
    """
    key, z = unsafe_logits(loaded, cases)
    y = np.array(data.unsafe, dtype=np.float64)
    known = np.isfinite(z)
    z, y = z[known], y[known]
    languages = [case.language for case in compress(cases, known)]
    own = loaded.judge.calibrator
    before = (own.overall if key == OVERALL else own.methods.get(key)) or Identity()
    moved = z + shifts_of(languages, own.by_language)
    x = z if by_language else moved
    made, name, losses = _fitted(x, y, method)
    methods: dict[str, Mapping[str, object]] = {key: method_to_dict(made)}
    measured = {
        "method": name,
        "rows_not_scored": int((~known).sum()),
        "losses": {k: round(v, 6) for k, v in losses.items()},
        "before": _quality(before(moved), y),
        "after": _quality(out_of_fold(x, y, name), y),
    }
    if by_language:
        made, shifts = fit_by_language(name, z, y, languages)
        methods |= {key: method_to_dict(made), BY_LANGUAGE: shifts}
        measured["after_by_language"] = _quality(out_of_fold(z, y, name, languages=languages), y)
        x = z + shifts_of(languages, shifts)
    points, measured["thresholds_from_data"] = _points(loaded.points, before, made, x[y == 0])
    return _file(loaded, methods, points, len(y), int(y.sum()), data.sha256, measured)


def _fitted(z: Array, y: Array, method: str) -> tuple[Method, str, Mapping[str, float]]:
    """The method, its kind, and the cross-validated losses that it was chosen by, if it was."""
    rarer = int(min(y.sum(), len(y) - y.sum()))
    if method == "auto":
        made, choice = fit_chosen(z, y)
        if choice.name == "identity" and rarer < min(MINIMUM_ROWS.values()):
            need = min(MINIMUM_ROWS.values())
            raise CalibratorError(f"too few rows: {rarer} of the rarer class, and the simplest method needs {need}")
        return made, choice.name, choice.losses
    if rarer < MINIMUM_ROWS[method]:
        need = MINIMUM_ROWS[method]
        raise CalibratorError(f"too few rows: {rarer} of the rarer class, and {method} needs {need}; try --method auto")
    return FITTERS[method](z, y), method, {}


def fit_unlabelled(loaded: Loaded, cases: Sequence[Case], data_sha256: str, *, method: str) -> FittedCalibrator:
    """Shift P(unsafe) by what the guard gives to texts that say nothing, or to a batch of traffic.

    Raises:
        CalibratorError: if the guard scored none of the texts.
    """
    key, z = unsafe_logits(loaded, cases)
    own = loaded.judge.calibrator
    z = z + shifts_of([case.language for case in cases], own.by_language)
    try:
        made = contextual(z) if method == "contextual" else batch(z)
    except ValueError as error:
        raise CalibratorError(str(error)) from None
    before = (own.overall if key == OVERALL else own.methods.get(key)) or Identity()
    points, _ = _points(loaded.points, before, made, np.empty(0))
    measured = {"method": method, "texts": int(np.isfinite(z).sum())}
    return _file(loaded, {key: method_to_dict(made)}, points, 0, 0, data_sha256, measured)


def content_free() -> list[Submission]:
    """Texts that say nothing."""
    return [Submission(text) for text in CONTENT_FREE]


def _points(
    shipped: Mapping[str, Mapping[str, float]], before: Method, after: Method, safe: Array
) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Thresholds of P(unsafe) on the new scale, and the points that were set by the data.

    Where there are enough safe rows a point keeps its aim, the share of them that it flags; otherwise it keeps its
    boundary: the logit at which the old threshold lay.
    """
    points, from_data = {}, []
    for point, rate in FALSE_POSITIVE_RATES.items():
        if len(safe) * rate >= EXPECTED_EXCEEDANCES:
            boundary = float(np.quantile(safe, 1 - rate))
            from_data.append(point)
        elif "unsafe" in shipped.get(point, {}):
            boundary = _inverse(before, shipped[point]["unsafe"])
        else:
            continue
        points[point] = {"unsafe": round(float(after(np.array([boundary]))[0]), 6)}
    return points, from_data


def _inverse(method: Method, p: float) -> float:
    """The least logit that a never-falling method maps to p or more, by bisection."""
    low, high = -60.0, 60.0
    for _ in range(80):
        middle = (low + high) / 2
        if method(np.array([middle]))[0] >= p:
            high = middle
        else:
            low = middle
    return high


def _quality(p: Array, y: Array) -> dict[str, object]:
    interval = ece_interval(p, y, draws=400)
    return {
        "log_loss": round(log_loss(p, y), 4),
        "brier": round(brier(p, y), 4),
        "ece": [round(v, 4) for v in (interval.value, interval.low, interval.high)],
        "debiased_ece": round(debiased_ece(p, y), 4),
    }


def _file(
    loaded: Loaded,
    methods: Mapping[str, Mapping[str, object]],
    points: Mapping[str, Mapping[str, float]],
    rows: int,
    unsafe: int,
    data_sha256: str,
    measured: Mapping[str, object],
) -> FittedCalibrator:
    return FittedCalibrator(
        guard=loaded.guard.name,
        guard_sha256=loaded.sha256,
        methods=methods,
        points=points,
        rows=rows,
        unsafe=unsafe,
        data_sha256=data_sha256,
        made=datetime.now(UTC).date().isoformat(),
        measured=measured,
    )
