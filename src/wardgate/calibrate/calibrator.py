"""`Calibrator`: one method per native label, and what the labels mean, from `Scores` to `Probabilities`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np

from wardgate.calibrate.languages import shifts_of
from wardgate.calibrate.methods import Identity, Method, method_from_dict, method_to_dict
from wardgate.calibrate.probabilities import Probabilities
from wardgate.guards import Link, Scores
from wardgate.hazards import HAZARDS, LabelMap

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


FALSE_POSITIVE_RATES = {"strict": 0.08, "balanced": 0.035, "permissive": 0.005}
"""What each operating point aims at on a user's labelled rows: the share of the safe ones that it flags."""

OVERALL = "*"
"""The key of what was fitted for P(unsafe) itself, beside the native labels."""

BY_LANGUAGE = "by_language"
"""The key of the shifts by language, beside the native labels."""


@dataclass(frozen=True, slots=True)
class Calibrator:
    """What turns a guard's scores into probabilities.

    For a softmax guard the method maps the log-odds of each label against all others.

    Attributes:
        label_map: the native labels and what each means.
        link: how the guard's logits become probabilities before calibration.
        methods: native label to fitted method; a label without one gets the link alone.
        overall: fitted for P(unsafe) itself, where several labels make it up: it maps the log-odds of what they give
            together. None where one label speaks for unsafe, or nothing was fitted.
        by_language: ISO 639-1 code to what is added to the logit of P(unsafe) before its method, where a text's
            language is known; see `calibrate.languages`. Hazards stay as they are.
    """

    label_map: LabelMap
    link: Link
    methods: Mapping[str, Method]
    overall: Method | None = None
    by_language: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def uncalibrated(cls, label_map: LabelMap, link: Link) -> Self:
        """The link function alone."""
        return cls(label_map, link, {})

    @classmethod
    def from_dict(cls, values: Mapping[str, Mapping[str, object]], label_map: LabelMap, link: Link) -> Self:
        """Read a calibrator back from `to_dict`.

        Raises:
            ValueError: if a label or a method is not known.
        """
        strange = set(values) - set(label_map.labels) - {OVERALL, BY_LANGUAGE}
        if strange:
            raise ValueError(f"the calibrator names labels that the guard does not have: {sorted(strange)}")
        told = values.get(BY_LANGUAGE, {})
        if not isinstance(told, dict) or not all(isinstance(shift, float | int) for shift in told.values()):
            raise ValueError("shifts by language are not numbers by language")
        shifts = {code: float(shift) for code, shift in told.items()}
        if not all(map(math.isfinite, shifts.values())):
            raise ValueError("a shift by language is not finite")
        methods = {label: method_from_dict(m) for label, m in values.items() if label != BY_LANGUAGE}
        overall = methods.pop(OVERALL, None)
        return cls(label_map, link, methods, overall, shifts)

    def to_dict(self) -> dict[str, dict[str, object]]:
        """Plain JSON values: label to method, `*` to what was fitted for P(unsafe) itself, and shifts by language."""
        methods = dict(self.methods) | ({} if self.overall is None else {OVERALL: self.overall})
        shifts: dict[str, dict[str, object]] = {BY_LANGUAGE: dict(self.by_language)} if self.by_language else {}
        return {label: method_to_dict(m) for label, m in methods.items()} | shifts

    def speaking(self) -> tuple[str, ...]:
        """The labels that P(unsafe) is made of: the general ones, or else every label that means unsafe."""
        unsafe = {label: m for label, m in self.label_map.meanings.items() if m.unsafe is True}
        general = () if self.link is Link.SOFTMAX else tuple(label for label, m in unsafe.items() if not m.hazards)
        return general or tuple(unsafe)

    def apply(self, scores: Scores, languages: Sequence[str | None] | None = None) -> Probabilities:
        """Calibrate a batch.

        Args:
            scores: what the guard said, n rows.
            languages: an ISO 639-1 code for each row, or None where it is not known; without it no row is shifted.

        Raises:
            ValueError: if the scores' labels are not the calibrator's, or languages and rows do not pair up.
        """
        if scores.labels != self.label_map.labels:
            raise ValueError(f"scores of {scores.guard!r} are under other labels than its calibrator's")
        logits = scores.logits.astype(np.float64)
        if self.link is Link.SOFTMAX:
            logits = log_odds(logits)
        shifts = shifts_of([None] * len(logits) if languages is None else languages, self.by_language)
        if len(shifts) != len(logits):
            raise ValueError(f"{len(logits)} rows and {len(shifts)} languages do not pair up")
        speaking = self.speaking()
        if len(speaking) == 1:  # then the label's own probability moves too; what several give together moves as one
            logits[:, scores.labels.index(speaking[0])] += shifts
            shifts = np.zeros(len(logits))
        native = np.empty_like(logits)
        for column, label in enumerate(scores.labels):
            native[:, column] = self.methods.get(label, Identity())(logits[:, column])
        calibrated = bool(self.methods) or self.overall is not None
        unsafe = self._unsafe(native, speaking, shifts)
        return Probabilities(scores, native, unsafe, self._hazards(native), calibrated)

    def _unsafe(
        self, native: NDArray[np.float64], speaking: Sequence[str], shifts: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        columns = [self.label_map.labels.index(label) for label in speaking]
        if not columns:
            return np.full(len(native), np.nan)
        part = native[:, columns]
        # A label that was not scored (a rule that matched nothing) leaves it to those that were.
        p: NDArray[np.float64]
        p = np.clip(part.sum(1), 0.0, 1.0) if self.link is Link.SOFTMAX else np.fmax.reduce(part, axis=1)
        if self.overall is None and not shifts.any():
            return p
        return np.asarray((self.overall or Identity())(logit(p) + shifts))

    def _hazards(self, native: NDArray[np.float64]) -> NDArray[np.float64]:
        out = np.full((len(native), len(HAZARDS)), np.nan)
        meanings = list(self.label_map.meanings.values())
        for row, hazard in enumerate(HAZARDS):
            columns = [i for i, m in enumerate(meanings) if hazard in m.hazards]
            if columns:
                out[:, row] = np.fmax.reduce(native[:, columns], axis=1)
        return out


def logit(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-odds of probabilities, kept finite: p is held 1e-12 away from 0 and 1. NaN stays NaN."""
    held = np.clip(p, 1e-12, 1 - 1e-12)
    return np.asarray(np.log(held) - np.log1p(-held))


def log_odds(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each label's log-odds against all others under a softmax: z_i - logsumexp of the rest.

    Its sigmoid is the softmax probability.

    Args:
        logits: *Shape:* (n, L), L at least 2.
    """
    total = np.logaddexp.reduce(logits, axis=1, keepdims=True)
    log_p = logits - total
    rest = np.log1p(-np.exp(np.minimum(log_p, -1e-300)))
    return np.asarray(log_p - rest)
