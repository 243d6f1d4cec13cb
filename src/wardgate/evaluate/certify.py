"""Certifies a composed policy: not one head's score, but what the whole chain would do with real traffic."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from wardgate.calibrate.risk import (
    clopper_pearson_upper,
    expected_risk,
    fixed_sequence,
    needed_cases,
    needed_clean_cases,
    selective_guaranteed_risk,
)
from wardgate.engine.certificate import Certificate, confidence
from wardgate.engine.submission import Submission

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from wardgate.calibrate.risk import Selection
    from wardgate.engine import Engine
    from wardgate.policy import Decision

    Array = NDArray[np.float64]

CHUNK = 512
"""Texts that are decided together."""
START = 0.1
"""The share of automatic decisions at which fixed-sequence testing starts (`docs/log.md` compares others)."""


def _start(sure: Array) -> int:
    """How many rows the first test of `ltt` covers at the least."""
    return math.ceil(START * int((sure >= 0).sum()))


def from_a_tenth(confidence: Array, wrong: Array, *, alpha: float, delta: float) -> Selection | None:
    """Fixed-sequence testing from a tenth of the automatic decisions on; a confidence below 0 is a case for a person.

    Raises:
        ValueError: as `fixed_sequence`.
    """
    return fixed_sequence(confidence, wrong, alpha=alpha, delta=delta, start=_start(confidence))


METHODS = {"ltt": from_a_tenth, "sgr": selective_guaranteed_risk, "crc": expected_risk}


class LabelledDataError(ValueError):
    """Labelled rows that cannot be used; the message names the line, never the text."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """Labelled traffic.

    Attributes:
        submissions: the texts.
        unsafe: whether each is unsafe.
        sha256: of the file.
    """

    submissions: tuple[Submission, ...]
    unsafe: tuple[bool, ...]
    sha256: str


@dataclass(frozen=True, slots=True)
class NoGuarantee:
    """Why nothing could be promised.

    Attributes:
        needed: error-free automatic decisions that the promise needs at the least.
        rows: labelled rows that the policy decides without a person.
        surest: how many of the surest of them were looked at first.
        errors: wrong ones among those.
        with_errors: automatic decisions that the promise needs with that many errors among them.
    """

    needed: int
    rows: int
    surest: int
    errors: int
    with_errors: int

    @property
    def missing(self) -> int:
        """How many more clean cases are needed at the least, on top of the surest, errors and all, that are there."""
        return max(1, self.with_errors - self.surest)

    def __str__(self) -> str:
        return (
            f"no guarantee: it takes {self.needed} error-free automatic decisions; the data has {self.rows} automatic "
            f"decisions, and {self.errors} errors among the {self.surest} surest; "
            f"at least {self.missing} more clean labelled cases are needed"
        )


def read_labelled(path: Path) -> Labelled:
    """Read JSON lines with `text` (or `prompt`) and `unsafe` (0, 1, true or false); `response`, `language` if known.

    Raises:
        LabelledDataError: if a line is not of that form, or there are no rows.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise LabelledDataError(f"{path}: {error.strerror or 'cannot be read'}") from None
    submissions, unsafe = [], []
    for number, line in enumerate(raw.splitlines(), 1):
        if not line.strip():
            continue
        try:
            submission, label = _row(json.loads(line))
        except (ValueError, KeyError, TypeError):
            what = "needs a string `text` and `unsafe` as 0 or 1"
            raise LabelledDataError(f"{path.name}, line {number}: {what}") from None
        submissions.append(submission)
        unsafe.append(label)
    if not submissions:
        raise LabelledDataError(f"{path.name} has no rows")
    return Labelled(tuple(submissions), tuple(unsafe), hashlib.sha256(raw).hexdigest())


def _row(row: dict[str, object]) -> tuple[Submission, bool]:
    if row["unsafe"] not in (0, 1):
        raise TypeError
    return submission_of(row), bool(row["unsafe"])


def submission_of(row: Mapping[str, object]) -> Submission:
    """A row's `text` (or `prompt`), with its `response` and `language` where it has them.

    Raises:
        KeyError: if it has no text.
        TypeError: if one of these is not a string.
    """
    text = row["text"] if "text" in row else row["prompt"]
    response, language = row.get("response"), row.get("language")
    if not isinstance(text, str) or not isinstance(response, str | None) or not isinstance(language, str | None):
        raise TypeError
    return Submission(text, response, language=language)


def decide_all(engine: Engine, data: Labelled, progress: Callable[[], None] = lambda: None) -> list[Decision]:
    """Every decision, in order, telling `progress` after each. The policy's breaker does not count them."""
    out = []
    for start in range(0, len(data.submissions), CHUNK):
        for case in engine.cases(data.submissions[start : start + CHUNK]):
            out.append(engine.decide(case))
            progress()
    return out


def certify(
    engine: Engine, data: Labelled, decisions: Sequence[Decision], *, alpha: float, delta: float, method: str = "ltt"
) -> Certificate | NoGuarantee:
    """Find the largest coverage at which automatic actions are wrong at most `alpha` of the time.

    An action is automatic unless it is review; it is wrong when a safe text is acted on or an unsafe one allowed.

    Args:
        engine: what decided.
        data: the labelled traffic.
        decisions: the engine's decisions on it, in order.
        alpha: the error rate to hold, 0 to 1.
        delta: one minus the confidence, 0 to 1.
        method: `ltt` (fixed-sequence testing), `sgr`, or `crc` (on average, over all traffic).

    Returns:
        A certificate, or why there is none.
    """
    sure = np.array([confidence(d) for d in decisions])
    wrong = np.array([d.allowed == u for d, u in zip(decisions, data.unsafe, strict=True)], dtype=float)
    wrong[sure < 0] = 1.0  # a case for a person is never covered
    chosen = METHODS[method](sure, wrong, alpha=alpha, delta=delta)
    if chosen is None or chosen.threshold < 0 or not chosen.covered:
        least = _start(sure) if method == "ltt" else 0
        return _why_none(sure, wrong, alpha=alpha, delta=None if method == "crc" else delta, least=least)
    exact = 1.0 if method == "crc" else clopper_pearson_upper(chosen.errors, chosen.covered, delta)
    return Certificate(
        alpha=alpha,
        delta=delta,
        threshold=chosen.threshold,
        coverage=chosen.coverage,
        covered=chosen.covered,
        errors=chosen.errors,
        bound=min(chosen.bound, exact),
        method=chosen.method,
        rows=len(decisions),
        guards_sha256=engine.guards_sha256,
        policy=f"{engine.policy.name}@{engine.policy.version}",
        policy_sha256=engine.policy.sha256,
        data_sha256=data.sha256,
        made=datetime.now(UTC).date().isoformat(),
    )


def _why_none(sure: Array, wrong: Array, *, alpha: float, delta: float | None, least: int) -> NoGuarantee:
    """What is missing; without a delta for a promise on average, which takes (errors + 1) / alpha rows."""
    needed = math.ceil(1 / alpha) - 1 if delta is None else needed_clean_cases(alpha, delta)
    automatic = sure >= 0
    surest = np.argsort(-sure[automatic], kind="stable")[: max(needed, least)]
    errors = int(wrong[automatic][surest].sum())
    with_errors = math.ceil((errors + 1) / alpha) - 1 if delta is None else needed_cases(errors, alpha, delta)
    return NoGuarantee(needed, int(automatic.sum()), len(surest), errors, with_errors)
