"""From one guard's scores on many views to one report per case."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from wardgate.guards import Link, Status, View
from wardgate.guards.batching import distinct
from wardgate.hazards import HAZARDS
from wardgate.policy import GuardReport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from wardgate.calibrate import Calibrator, Probabilities
    from wardgate.guards import Guard, Span
    from wardgate.normalise import NormalText
    from wardgate.policy import Case


class Place(StrEnum):
    """Which version of which part of a case a view is."""

    RAW = "raw"
    CLEANED = "cleaned"
    TURN = "turn"
    JOINED_RAW = "joined, raw"
    JOINED_CLEANED = "joined, cleaned"


def views_of(case: Case, wanted: Sequence[str]) -> list[tuple[Place, View]]:
    """The distinct views of a case that a policy wants.

    They are the text (with its response) and, where the policy reads a window of a conversation, every turn before
    it and all of them joined.
    """
    out = _versions(case.text, case.response, case.language, wanted)
    for turn in case.turns:
        out += [(Place.TURN, view) for _, view in _versions(turn, None, case.language, wanted)]
    if case.joined is not None:
        joined = {Place.RAW: Place.JOINED_RAW, Place.CLEANED: Place.JOINED_CLEANED}
        out += [(joined[p], view) for p, view in _versions(case.joined, case.response, case.language, wanted)]
    return out


def _versions(
    text: NormalText, response: NormalText | None, language: str | None, wanted: Sequence[str]
) -> list[tuple[Place, View]]:
    raw = View(text.raw, None if response is None else response.raw, language)
    changed = text.changed or (response is not None and response.changed)
    if "cleaned" not in wanted or (not changed and "raw" in wanted):
        return [(Place.RAW, raw)]
    cleaned = View(text.cleaned, None if response is None else response.cleaned, language)
    return [(Place.RAW, raw), (Place.CLEANED, cleaned)] if "raw" in wanted else [(Place.CLEANED, cleaned)]


@dataclass(frozen=True, slots=True)
class Judge:
    """A guard with its calibrator: what the engine runs."""

    guard: Guard
    calibrator: Calibrator

    def reports(self, cases: Sequence[Case], wanted: Sequence[str]) -> list[GuardReport]:
        """One report per case: the maximum over its views. Identical views are scored once."""
        names: list[Place] = []
        views: list[View] = []
        bounds = [0]
        for case in cases:
            for name, view in views_of(case, wanted):
                names.append(name)
                views.append(view)
            bounds.append(len(views))
        unique, places = distinct([(view, view.language) for view in views])
        scores = self.guard.score([view for view, _ in unique])
        probabilities = self.calibrator.apply(scores, [language for _, language in unique])
        return [
            self._report(case, probabilities, places[start:stop], names[start:stop])
            for case, start, stop in zip(cases, bounds[:-1], bounds[1:], strict=True)
        ]

    def _report(self, case: Case, p: Probabilities, rows: list[int], names: list[Place]) -> GuardReport:
        s = p.scores
        bad = [r for r in rows if s.status[r] is not Status.OK]
        if bad:  # a view that could not be scored leaves the case without a score: half an answer is none
            reason = s.reasons[bad[0]] if s.reasons else ""
            empty = dict.fromkeys(s.labels)
            return GuardReport(
                name=s.guard,
                status=s.status[bad[0]],
                ms=float(s.ms[rows].sum()),
                scores=empty,
                native=empty,
                unsafe=None,
                hazards=dict.fromkeys(HAZARDS),
                calibrated=p.calibrated,
                reason=reason,
            )
        # The labels of a softmax stand or fall together, so there one view speaks for the case.
        rows_used = [max(rows, key=lambda r: p.unsafe[r])] if s.link is Link.SOFTMAX else rows
        seen = [(span, name) for r, name in zip(rows, names, strict=True) if s.spans for span in s.spans[r]]
        spans = [found for span, name in seen if (found := _to_raw(span, case, name))]
        return GuardReport(
            name=s.guard,
            status=Status.OK,
            ms=float(s.ms[rows].sum()),
            scores=dict(zip(s.labels, _highest(s.logits, rows_used), strict=True)),
            native=dict(zip(s.labels, _highest(p.native, rows_used), strict=True)),
            unsafe=_highest(p.unsafe[:, None], rows_used)[0],
            hazards=dict(zip(HAZARDS, _highest(p.hazards, rows_used), strict=True)),
            calibrated=p.calibrated,
            spans=tuple(dict.fromkeys(spans)),
            details=s.details[rows_used[0]] if s.details else {},
        )


def merge_views(table: NDArray[np.float32], bounds: Sequence[int]) -> NDArray[np.float32]:
    """The highest value per column over each run of rows.

    Args:
        table: *Shape:* (views, columns)
        bounds: n + 1 rising row numbers; run i is rows bounds[i] to bounds[i + 1], never empty.

    Returns:
        *Shape:* (n, columns)
    """
    return np.asarray(np.fmax.reduceat(table, np.asarray(bounds[:-1]), axis=0))


def _highest(table: NDArray[np.floating], rows: list[int]) -> list[float | None]:
    """The highest value per column over some rows; None where a column was not scored in any."""
    best = table[rows[0]] if len(rows) == 1 else np.fmax.reduce(table[rows])
    return [None if v != v else v for v in best.tolist()]  # noqa: PLR0124 - NaN differs from itself


def _to_raw(span: Span, case: Case, place: Place) -> Span | None:
    """A span in the raw text or response; None if it lies in an earlier turn."""
    if place is Place.TURN:
        return None
    joined = case.joined if place in (Place.JOINED_RAW, Place.JOINED_CLEANED) and span.side == "text" else None
    side = joined or (case.response if span.side == "response" else case.text)
    start, end = span.start, span.end
    if side is not None and place in (Place.CLEANED, Place.JOINED_CLEANED):
        start, end = side.raw_span(start, end)
    before = len(joined.raw) - len(case.text.raw) if joined else 0
    return replace(span, start=start - before, end=end - before) if start >= before else None
