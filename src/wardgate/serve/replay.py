"""Stored scores through another policy: what would it have decided, without asking a guard or a text again.

A record is a line of `wardgate check --json` or `wardgate batch` (its field `wardgate`), of a shadow's differences
(its `live` side is taken), or a stored decision in the same form. Texts are not stored, so facts about them (context,
canary) are not there to be used.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wardgate.guards import Scores, Status
from wardgate.hazards import HAZARDS
from wardgate.normalise import NormalText
from wardgate.policy import Action, Case, GuardReport

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from wardgate.engine import Engine
    from wardgate.policy import BoundPolicy, Decision


class RecordError(ValueError):
    """A line that is no record, or whose guard is not the one that is loaded."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """One record under another policy.

    Attributes:
        before: the action that was taken.
        decision: the decision now.
        unasked: guards that the new policy would have asked and that were not: the decision stands without them.
    """

    before: Action
    decision: Decision
    unasked: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Whether the action differs."""
        return self.before is not self.decision.action


def replay(lines: Iterable[str], engine: Engine) -> Iterator[Replayed]:
    """Decide on every record again.

    Args:
        lines: JSON objects, one a line.
        engine: with the new policy, and the guards whose scores were stored (for their calibrators).

    Raises:
        RecordError: with the line's number.
    """
    guards = engine.guards
    bound = engine.policy.bind(
        {name: loaded.guard.labels for name, loaded in guards.items()},
        {name: loaded.points for name, loaded in guards.items()},
    )
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield _replay(json.loads(line), engine, bound)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                told = str(error) if isinstance(error, RecordError) else "is not a stored decision"
                raise RecordError(f"line {number}: {told}") from None


def _replay(record: Mapping[str, object], engine: Engine, bound: BoundPolicy) -> Replayed:
    row = record.get("live", record.get("wardgate", record))
    if not isinstance(row, dict):
        raise RecordError("is not a stored decision")
    language = row.get("language")
    reports = {guard["name"]: _report(guard, language, engine) for guard in row["guards"]}
    case = Case(str(row["id"]), NormalText("", ""), reports=reports, language=language)
    unasked = bound.pending(case)
    for name in unasked:
        reports[name] = _absent(name, Status.MISSING)
    return Replayed(Action(row["action"]), bound.decide(case), unasked)


def _report(row: Mapping[str, object], language: str | None, engine: Engine) -> GuardReport:
    """What a guard said, from its stored logits."""
    name, status = str(row["name"]), Status(str(row["status"]))
    stored = row["scores"]
    if status is not Status.OK or not isinstance(stored, dict):
        return _absent(name, status)
    if name not in engine.guards:
        raise RecordError(f"guard {name!r} is not loaded")
    judge = engine.guards[name].judge
    labels = judge.guard.labels.labels
    if set(stored) != set(labels):
        raise RecordError(f"the labels stored for guard {name!r} are not the ones it has now")
    logits = np.array([[np.nan if stored[label] is None else stored[label] for label in labels]], dtype=np.float32)
    scores = Scores(name, labels, logits, judge.guard.link, (status,), np.zeros(1, dtype=np.float32))
    p = judge.calibrator.apply(scores, [language])
    return GuardReport(
        name=name,
        status=status,
        ms=0.0,
        scores=stored,
        native=dict(zip(labels, _known(p.native[0]), strict=True)),
        unsafe=_known(p.unsafe)[0],
        hazards=dict(zip(HAZARDS, _known(p.hazards[0]), strict=True)),
        calibrated=p.calibrated,
    )


def _known(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def _absent(name: str, status: Status = Status.SKIPPED) -> GuardReport:
    hazards = dict.fromkeys(HAZARDS)
    return GuardReport(name, status, 0.0, {}, {}, None, hazards, calibrated=False, reason="no stored scores")
