"""Calibration by language: what is added to the logit of P(unsafe) where a text's language is known.

A guard that learnt mostly from one language is less sure of the same thing said in another, so one map from logits to
probabilities understates what it finds there. One number per language mends that without touching the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wardgate.calibrate.fit import fit_named

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from wardgate.calibrate.methods import Method

    Array = NDArray[np.float64]

MINIMUM_ROWS = 50
"""Rows of the rarer class that a language needs: with fewer, they say less of its shift than `SPREAD` does already."""

SPREAD = 0.5
"""Standard deviation, in logits, of the normal prior around 0 by which shifts are shrunk.

About what the shifts of mini 1.11.0 vary by, between four languages and between the sources of one.
"""

LARGEST = 4.0
"""No shift is larger, in logits."""

ROUNDS = 5
"""How often method and shifts are fitted in turn: shifts are then within 0.002 of where they settle.

Measured on four draws of 4,000 rows whose true shift is 1.5, and on mini's calibration rows.
"""


def shifts_of(languages: Sequence[str | None], shifts: Mapping[str, float]) -> Array:
    """Each row's shift: 0 where its language is not known or has none; *shape* (n,)."""
    return np.array([shifts.get(language, 0.0) if language else 0.0 for language in languages], dtype=np.float64)


def fit_shifts(method: Method, z: Array, y: Array, languages: Sequence[str | None]) -> dict[str, float]:
    """What each language's logits are to be shifted by before a fitted method maps them.

    The most frequent language stays as it is, and so do those with fewer than `MINIMUM_ROWS` of either class. Each
    other one takes the shift with the lowest log-loss on its rows, under a normal prior (the posterior's mode), as
    the intercept of a group in a logistic regression with random intercepts does (Gelman & Hill 2006, chapter 14).

    Args:
        method: fitted on all rows.
        z: logits. *Shape:* (n,)
        y: labels, 0 or 1. *Shape:* (n,)
        languages: an ISO 639-1 code for each row, or None where it is not known; n of them.

    Returns:
        Language to shift in logits, -`LARGEST` to `LARGEST`, sorted by language.

    Raises:
        ValueError: if the arrays do not pair up.
    """
    z, y = np.asarray(z, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if not z.shape == y.shape == (len(languages),):
        raise ValueError(f"{z.shape} logits, {y.shape} labels and {len(languages)} languages do not pair up")
    spoken = np.array([language or "" for language in languages], dtype=str)
    known, counts = np.unique(spoken[spoken != ""], return_counts=True)
    usual = known[counts.argmax()] if len(known) else ""
    rows = {str(language): spoken == language for language in known if language != usual}
    return {
        language: round(_shift(method, z[own], y[own]), 4)
        for language, own in rows.items()
        if min(y[own].sum(), (1 - y[own]).sum()) >= MINIMUM_ROWS
    }


def fit_by_language(name: str, z: Array, y: Array, languages: Sequence[str | None]) -> tuple[Method, dict[str, float]]:
    """A method and the shifts that go with it, each fitted given the other in turn.

    Args:
        name: the method's kind.
        z: logits. *Shape:* (n,)
        y: labels, 0 or 1. *Shape:* (n,)
        languages: as for `fit_shifts`.

    Raises:
        ValueError: as `fit_shifts` and the method's own fitting.
    """
    shifts: dict[str, float] = {}
    for _ in range(ROUNDS):
        method = fit_named(name, z + shifts_of(languages, shifts), y)
        shifts = fit_shifts(method, z, y, languages)
        if not shifts:  # no language has rows enough, so that no further round would change anything
            break
    return method, shifts


def _shift(method: Method, z: Array, y: Array) -> float:
    from scipy.optimize import minimize_scalar

    def loss(shift: float) -> float:
        p = np.clip(method(z + shift), 1e-12, 1 - 1e-12)
        return float(-(y * np.log(p) + (1 - y) * np.log1p(-p)).sum() + 0.5 * (shift / SPREAD) ** 2)

    found = minimize_scalar(loss, bounds=(-LARGEST, LARGEST), method="bounded", options={"xatol": 1e-6})
    return float(found.x)
