"""Calibrators fitted on an operator's own traffic: a file of plain numbers, tied to the guard it was fitted for."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self

from wardgate.calibrate import Calibrator
from wardgate.calibrate.calibrator import BY_LANGUAGE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from wardgate.engine.catalogue import Loaded

FORMAT = 1


class CalibratorError(ValueError):
    """A calibrator file that cannot be used; the message is one line and says why."""


@dataclass(frozen=True, slots=True)
class FittedCalibrator:
    """A guard's calibrator, fitted by `wardgate calibrate`.

    Attributes:
        guard: the guard's name.
        guard_sha256: of its weights, or whatever made up the guard; with others these numbers mean nothing.
        methods: native label, or `*` for P(unsafe) itself, to method, and shifts by language, as `Calibrator.to_dict`
            gives them; what the guard ships is kept where this says nothing.
        points: operating point to label to threshold; what the guard ships is kept where this says nothing.
        rows: labelled rows; 0 where none were needed.
        unsafe: unsafe ones among them; 0 likewise.
        data_sha256: of the file it was fitted on; empty where there was none.
        made: ISO date.
        measured: what was found out while fitting, for people.
        format: of this file.
    """

    guard: str
    guard_sha256: str
    methods: Mapping[str, Mapping[str, object]]
    points: Mapping[str, Mapping[str, float]]
    rows: int
    unsafe: int
    data_sha256: str
    made: str
    measured: Mapping[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a calibrator file.

        Raises:
            CalibratorError: if the file is not one.
        """
        try:
            values = json.loads(path.read_text("utf-8"))
            made = cls(**{f.name: values[f.name] for f in fields(cls)})
        except OSError as error:
            raise CalibratorError(f"{path}: {error.strerror or 'cannot be read'}") from None
        except (ValueError, KeyError, TypeError, RecursionError):
            raise CalibratorError(f"{path} is not a calibrator file") from None
        if made.format != FORMAT:
            raise CalibratorError(f"{path} has format {made.format!r}; this wardgate knows {FORMAT}")
        return made

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    def fit_to(self, loaded: Loaded) -> Loaded:
        """The guard with this calibrator in place of its own, and these thresholds before its own.

        Raises:
            CalibratorError: if it was fitted for other weights, or does not know the guard's labels.
        """
        guard = loaded.guard
        if self.guard_sha256 != loaded.sha256:
            raise CalibratorError(f"the calibrator was fitted for another {self.guard} than the one that is here")
        try:
            fitted = Calibrator.from_dict(self.methods, guard.labels, guard.link)
            points = _merged(loaded.points, self.points)
        except (ValueError, TypeError, AttributeError) as error:
            raise CalibratorError(f"the calibrator does not fit guard {self.guard}: {error}") from None
        own = loaded.judge.calibrator
        kept = {label: m for label, m in own.methods.items() if label not in fitted.methods}
        shifts = fitted.by_language if BY_LANGUAGE in self.methods else own.by_language
        calibrator = replace(fitted, methods={**kept, **fitted.methods}, by_language=shifts)
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        sha256 = hashlib.sha256(f"{loaded.sha256} {digest}".encode()).hexdigest()
        return replace(loaded, judge=replace(loaded.judge, calibrator=calibrator), points=points, sha256=sha256)


def _merged(
    shipped: Mapping[str, Mapping[str, float]], own: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    out = {point: dict(labels) for point, labels in shipped.items()}
    for point, labels in own.items():
        out.setdefault(point, {}).update({label: float(p) for label, p in labels.items()})
    return out
