"""`Decision`, the type that the policy room produces, and the evidence it is made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from wardgate.hazards import HAZARDS, Hazard

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wardgate.guards import Span, Status
    from wardgate.normalise import NormalText


class Action(StrEnum):
    """What is done with a text, from the mildest to the gravest."""

    ALLOW = "allow"
    REVIEW = "review"
    WARN = "warn"
    BLOCK = "block"
    DELETE = "delete"
    TIMEOUT = "timeout"
    BAN = "ban"


GRAVITY: Mapping[Action, int] = {action: i for i, action in enumerate(Action)}
"""Rank of every action: higher is graver."""


@dataclass(frozen=True, slots=True)
class GuardReport:
    """What one guard said of one text.

    Attributes:
        name: the guard.
        status: how it fared; anything but `ok` has no scores and no probabilities.
        ms: wall-clock milliseconds spent.
        scores: native label to raw logit; None where not scored.
        native: native label to probability; None where not scored.
        unsafe: probability that the text is unsafe, 0 to 1; None where not scored.
        hazards: probability per hazard, 0 to 1; None where the guard cannot see it.
        calibrated: whether the probabilities come from a fitted calibrator.
        spans: the pieces of the *raw* text that labels point at.
        reason: why it was not scored; never user text.
        details: what else the guard said.
    """

    name: str
    status: Status
    ms: float
    scores: Mapping[str, float | None]
    native: Mapping[str, float | None]
    unsafe: float | None
    hazards: Mapping[Hazard, float | None]
    calibrated: bool
    spans: tuple[Span, ...] = ()
    reason: str = ""
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Case:
    """One text on its way to a decision: what is known of it, and what the guards have said so far.

    Attributes:
        id: the caller's identifier, or the text's number.
        text: the text, or the prompt.
        response: the response, where there is one.
        reports: guard name to report, for the guards that have run.
        language: ISO 639-1 code, or None when the text is too short to tell.
        context: facts the caller states (audience, author's past offences, …) that a policy may ask for.
        turns: the turns of the conversation before this text that the policy's window reaches, oldest first.
        joined: those turns and the text as one; None when there are none.
    """

    id: str
    text: NormalText
    response: NormalText | None = None
    reports: Mapping[str, GuardReport] = field(default_factory=dict)
    language: str | None = None
    context: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    turns: tuple[NormalText, ...] = ()
    joined: NormalText | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided, by which rule, on what evidence. Its `repr` is one line, without `hazards` and `guards`.

    Attributes:
        id: the case's identifier.
        action: what to do.
        unsafe: the probability of being unsafe that the policy acted on; None when nothing was scored.
        hazards: per hazard, the highest probability any guard gave, or the last tier's where that counts; None where
            no guard can see it.
        flagged: the names (hazards, or native labels) that went over their threshold.
        rule: the rule that decided.
        policy: the policy, as `name@version`.
        guards: what each guard said, in the order they ran.
        normalised: whether a disguise was taken off before scoring.
        language: ISO 639-1 code, or None.
        reason: one sentence for people; never user text.
        dry_run: True when the policy only records what it would have done; `action` is then what it would do.
    """

    id: str
    action: Action
    unsafe: float | None
    hazards: Mapping[Hazard, float | None] = field(repr=False)
    flagged: tuple[str, ...]
    rule: str
    policy: str
    guards: tuple[GuardReport, ...] = field(repr=False)
    normalised: bool
    language: str | None
    reason: str = ""
    dry_run: bool = False

    @property
    def allowed(self) -> bool:
        """Whether the text may pass."""
        return self.action is Action.ALLOW

    def as_dict(self) -> dict[str, object]:
        """The decision as plain JSON values, in the fixed field order of `wardgate check --json`."""
        return {
            "id": self.id,
            "action": self.action.value,
            "unsafe": _rounded(self.unsafe),
            "hazards": {h.value: _rounded(self.hazards.get(h)) for h in HAZARDS},
            "flagged": list(self.flagged),
            "rule": self.rule,
            "policy": self.policy,
            "guards": [
                {
                    "name": g.name,
                    "status": g.status.value,
                    "ms": round(g.ms, 3),
                    "scores": {label: _rounded(v) for label, v in g.scores.items()},
                }
                for g in self.guards
            ],
            "normalised": self.normalised,
            "language": self.language,
        }


def _rounded(value: float | None) -> float | None:
    """Six decimals: finer than float32 logits carry, short enough to read."""
    return None if value is None else round(float(value), 6)
