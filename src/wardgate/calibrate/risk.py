"""Thresholds for a stated risk at a stated confidence. Needs SciPy (the `[eval]` extra).

Everything here assumes that the labelled rows are exchangeable with the traffic to come: certify again for each
slice of traffic, and watch for drift.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


def clopper_pearson_upper(errors: int, n: int, delta: float) -> float:
    """The error rate that n rows with so many errors rule out at confidence 1 - delta (one-sided, exact).

    Beta quantile form of Clopper & Pearson 1934. 1.0 when there are no rows.

    Raises:
        ValueError: if errors is not between 0 and n, or delta not between 0 and 1.
    """
    from scipy.stats import beta

    if not 0 <= errors <= n or not 0 < delta < 1:
        raise ValueError(f"{errors} errors in {n} rows at delta {delta} is not a question")
    return 1.0 if errors == n else float(beta.ppf(1 - delta, errors + 1, n - errors))


def clopper_pearson_lower(errors: int, n: int, delta: float) -> float:
    """The lower counterpart of `clopper_pearson_upper`. 0.0 when there are no errors."""
    return 1.0 - clopper_pearson_upper(n - errors, n, delta)


def needed_clean_cases(alpha: float, delta: float) -> int:
    """How many rows without a single error bound the error rate by alpha at confidence 1 - delta.

    The smallest n with (1 - alpha)^n <= delta: 299 for 1 % at 95 %.

    Raises:
        ValueError: if alpha or delta is not between 0 and 1.
    """
    if not 0 < alpha < 1 or not 0 < delta < 1:
        raise ValueError("alpha and delta lie between 0 and 1")
    return math.ceil(math.log(delta) / math.log1p(-alpha))


def needed_cases(errors: int, alpha: float, delta: float) -> int:
    """How many rows with so many errors among them bound the error rate by alpha at confidence 1 - delta.

    The smallest n with P(Bin(n, alpha) <= errors) <= delta: 473 for 1 % at 95 % with one error.

    Raises:
        ValueError: as `needed_clean_cases`.
    """
    from scipy.stats import binom

    low, high = 0, needed_clean_cases(alpha, delta)
    while binom.cdf(errors, high, alpha) > delta:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if binom.cdf(errors, middle, alpha) > delta else (low, middle)
    return high


def binomial_p_value(errors: Array, n: Array, alpha: float) -> Array:
    """P(Bin(n, alpha) <= errors): how surprising so few errors are if the true rate were alpha or more.

    Exact for losses of 0 and 1 (Angelopoulos et al. 2021, arXiv 2110.01052). Shapes broadcast.
    """
    from scipy.stats import binom

    return np.asarray(binom.cdf(errors, n, alpha), dtype=np.float64)


def hoeffding_bentkus_p_value(risk: Array, n: Array, alpha: float) -> Array:
    """The Hoeffding-Bentkus p-value for losses anywhere in [0, 1] (arXiv 2110.01052, section 3.1).

    Args:
        risk: mean losses. Shapes broadcast.
        n: how many losses each mean is over.
        alpha: the risk to be ruled out.
    """
    from scipy.stats import binom

    risk, n = np.asarray(risk, dtype=np.float64), np.asarray(n, dtype=np.float64)
    low = np.minimum(risk, alpha)
    with np.errstate(divide="ignore", invalid="ignore"):
        h1 = np.where(low > 0, low * np.log(low / alpha), 0.0) + np.where(
            low < 1, (1 - low) * np.log((1 - low) / (1 - alpha)), 0.0
        )
    hoeffding = np.exp(-n * h1)
    bentkus = math.e * binom.cdf(np.ceil(n * risk), n, alpha)
    return np.asarray(np.minimum(1.0, np.minimum(hoeffding, bentkus)), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Selection:
    """The part of traffic that may be decided without a person.

    Attributes:
        threshold: act when the confidence is at least this.
        coverage: share of the labelled rows at or above it.
        covered: their number.
        errors: how many of them were wrong.
        bound: upper bound on the error rate among covered traffic, at the stated confidence.
        method: how it was found.
    """

    threshold: float
    coverage: float
    covered: int
    errors: int
    bound: float
    method: str


def _counts(confidence: Array, wrong: Array) -> tuple[Array, NDArray[np.int64], NDArray[np.int64]]:
    """Distinct confidences, highest first, with how many rows lie at or above each and how many of them are wrong."""
    confidence = np.asarray(confidence, dtype=np.float64)
    if confidence.shape != np.shape(wrong) or not len(confidence) or np.isnan(confidence).any():
        raise ValueError("every row needs a confidence and whether it was wrong, and there must be rows")
    values, inverse = np.unique(-confidence, return_inverse=True)
    covered = np.cumsum(np.bincount(inverse, minlength=len(values)))
    errors = np.cumsum(np.bincount(inverse, np.asarray(wrong, dtype=np.float64), len(values))).round().astype(np.int64)
    return -values, covered.astype(np.int64), errors


def fixed_sequence(
    confidence: Array, wrong: Array, *, alpha: float, delta: float, start: int = 0, steps: int = 50
) -> Selection | None:
    """The largest coverage whose error rate is at most alpha with confidence 1 - delta.

    Learn-then-Test (arXiv 2110.01052) with fixed-sequence testing: a grid of coverages, fixed before the labels
    are looked at, is walked from small to large, each tested at level delta by an exact binomial p-value, until
    one fails. Testing starts where rows without an error could pass at all, or later: where it starts early a single
    error among the surest rows ends it, and nothing is covered.

    Args:
        confidence: *Shape:* (n,); what the policy would act on.
        wrong: whether acting would have been wrong. *Shape:* (n,)
        alpha: the error rate to hold, 0 to 1.
        delta: the chance of not holding it, 0 to 1.
        start: rows covered at the first test, at the least; what covers fewer is not looked for. It must not
            depend on the labels.
        steps: size of the grid.

    Returns:
        None if no threshold passes.

    Raises:
        ValueError: if the arrays do not pair up or are empty.
    """
    values, covered, errors = _counts(confidence, wrong)
    n = len(confidence)
    first = max(needed_clean_cases(alpha, delta), start)
    if first > n:
        return None
    # Thresholds are confidence quantiles of the rows: they depend on the confidences, never on the labels.
    targets = np.unique(np.linspace(first, n, steps).round().astype(np.int64))
    rows = np.unique(np.searchsorted(covered, targets))
    best: int | None = None
    for row in rows:
        if binomial_p_value(errors[row], covered[row], alpha) > delta:
            break
        best = int(row)
    if best is None:
        return None
    bound = clopper_pearson_upper(int(errors[best]), int(covered[best]), delta)
    share = float(covered[best] / n)
    return Selection(float(values[best]), share, int(covered[best]), int(errors[best]), bound, "ltt-fixed-sequence")


def selective_guaranteed_risk(confidence: Array, wrong: Array, *, alpha: float, delta: float) -> Selection | None:
    """SGR (Geifman & El-Yaniv 2017, arXiv 1705.08500): binary search over thresholds under a union bound.

    Each of ceil(log2 n) thresholds is bounded at delta / ceil(log2 n).

    Returns:
        The largest coverage found whose bound is at most alpha, or None.

    Raises:
        ValueError: as `fixed_sequence`.
    """
    values, covered, errors = _counts(confidence, wrong)
    n = len(confidence)
    rounds = max(1, math.ceil(math.log2(n)))
    low, high, best = 0, n - 1, None
    for _ in range(rounds):
        middle = math.ceil((low + high) / 2)
        row = int(np.searchsorted(covered, middle + 1))
        bound = clopper_pearson_upper(int(errors[row]), int(covered[row]), delta / rounds)
        if bound <= alpha:
            chosen = Selection(
                float(values[row]), float(covered[row] / n), int(covered[row]), int(errors[row]), bound, "sgr"
            )
            best = chosen if best is None or chosen.coverage > best.coverage else best
            low = middle
        else:
            high = middle
    return best


def conformal_risk_control(losses: Array, *, alpha: float, bound: float = 1.0) -> int | None:
    """Conformal risk control (Angelopoulos et al. 2022, arXiv 2208.02814): the first setting whose risk is held.

    Args:
        losses: loss of every row under every setting, falling along the settings. *Shape:* (n, settings)
        alpha: the *expected* loss to hold; the promise is on average over calibration sets, not with confidence.
        bound: the largest loss possible.

    Returns:
        Index of the first setting with n/(n+1) * mean + bound/(n+1) <= alpha, or None.

    Raises:
        ValueError: if losses rise along the settings: the promise needs them to fall.
    """
    losses = np.asarray(losses, dtype=np.float64)
    if (np.diff(losses, axis=1) > 1e-12).any():
        raise ValueError("losses must not rise along the settings")
    n = len(losses)
    risk = losses.mean(0) * n / (n + 1) + bound / (n + 1)
    held = np.flatnonzero(risk <= alpha)
    return int(held[0]) if len(held) else None


_GRID = 1.0 / (1.0 + np.exp(-np.linspace(-2.0, 14.0, 321)))
"""Confidences that `expected_risk` may choose, even in log-odds: fixed before data are seen, as the promise asks."""


def expected_risk(confidence: Array, wrong: Array, *, alpha: float, delta: float) -> Selection | None:  # noqa: ARG001
    """Conformal risk control of acting alone: the expected share of *all* traffic that is wrong and met no person.

    The promise is weaker than the others in two ways: it is on average over labelled sets like this one, without a
    confidence (`delta` is not used), and its rate is of all traffic, not of the part that is decided.

    Returns:
        The largest coverage whose risk is held, or None.

    Raises:
        ValueError: as `fixed_sequence`.
    """
    _counts(confidence, wrong)
    sure, errs = np.asarray(confidence, dtype=np.float64), np.asarray(wrong, dtype=bool)
    chosen = conformal_risk_control((sure[:, None] >= _GRID) & errs[:, None], alpha=alpha)
    if chosen is None:
        return None
    threshold, n = float(_GRID[chosen]), len(sure)
    covered = sure >= threshold
    errors = int((covered & errs).sum())
    held = (errors + 1) / (n + 1)
    return Selection(threshold, float(covered.mean()), int(covered.sum()), errors, held, "crc")
