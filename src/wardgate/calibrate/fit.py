"""Fitting calibration methods on held-back rows. Needs scikit-learn and SciPy (the `[eval]` extra)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wardgate.calibrate.methods import (
    Beta,
    Histogram,
    Identity,
    Isotonic,
    Method,
    Platt,
    PlattHistogram,
    Temperature,
    sigmoid,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    Array = NDArray[np.float64]


def _checked(z: Array, y: Array) -> tuple[Array, Array]:
    z, y = np.asarray(z, dtype=np.float64).ravel(), np.asarray(y, dtype=np.float64).ravel()
    if z.shape != y.shape:
        raise ValueError(f"{len(z)} logits and {len(y)} labels do not pair up")
    if not np.isin(y, (0, 1)).all():
        raise ValueError("labels are 0 or 1")
    if len(np.unique(y)) < 2:
        raise ValueError("a calibrator needs rows of both classes")
    if not np.isfinite(z).all():
        raise ValueError("a logit that was not scored cannot be calibrated on")
    return z, y


def fit_temperature(z: Array, y: Array) -> Temperature:
    """Minimise the log-loss over one temperature between 0.01 and 100.

    Args:
        z: logits. *Shape:* (n,)
        y: labels, 0 or 1. *Shape:* (n,)

    Raises:
        ValueError: if the arrays do not pair up, a label is not 0 or 1, or only one class is there.
    """
    from scipy.optimize import minimize_scalar

    z, y = _checked(z, y)

    def loss(log_t: float) -> float:
        scaled = z / np.exp(log_t)
        return float(np.mean(np.logaddexp(0, scaled) - y * scaled))

    found = minimize_scalar(loss, bounds=(np.log(0.01), np.log(100)), method="bounded", options={"xatol": 1e-8})
    return Temperature(float(np.exp(found.x)))


def fit_platt(z: Array, y: Array) -> Platt:
    """Logistic regression of the label on the logit, without a penalty.

    Raises:
        ValueError: as `fit_temperature`.
    """
    z, y = _checked(z, y)
    slope, intercept = _logistic(z[:, None], y)
    return Platt(float(slope[0]), intercept)


def fit_beta(z: Array, y: Array) -> Beta:
    """Logistic regression on [ln s, -ln(1 - s)].

    A coefficient that comes out negative is set to 0 and the rest fitted again, as Kull et al. prescribe.

    Raises:
        ValueError: as `fit_temperature`.
    """
    z, y = _checked(z, y)
    features = np.column_stack([-np.logaddexp(0, -z), np.logaddexp(0, z)])
    coefficients, intercept = _logistic(features, y)
    if coefficients.min() >= 0:
        return Beta(float(coefficients[0]), float(coefficients[1]), intercept)
    keep = int(coefficients.argmax())
    slope, intercept = _logistic(features[:, [keep]], y)
    a, b = (float(slope[0]), 0.0) if keep == 0 else (0.0, float(slope[0]))
    return Beta(max(a, 0.0), max(b, 0.0), intercept)


def _logistic(features: Array, y: Array) -> tuple[Array, float]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit(features, y)
    return np.asarray(model.coef_[0]), float(model.intercept_[0])


def fit_isotonic(z: Array, y: Array) -> Isotonic:
    """Pool adjacent violators; only the knots where the line bends are kept.

    Raises:
        ValueError: as `fit_temperature`.
    """
    from sklearn.isotonic import IsotonicRegression

    z, y = _checked(z, y)
    model = IsotonicRegression(out_of_bounds="clip").fit(z, y)
    return Isotonic(tuple(map(float, model.X_thresholds_)), tuple(map(float, model.y_thresholds_)))


def fit_histogram(z: Array, y: Array, *, bins: int = 10) -> Histogram:
    """Bins of equal mass that carry the mean label; edges lie midway between neighbours.

    Equal logits never straddle an edge, so there may be fewer bins than asked for.

    Raises:
        ValueError: as `fit_temperature`, or if bins is below 1.
    """
    z, y = _checked(z, y)
    edges = _equal_mass_edges(z, bins)
    where = np.searchsorted(edges, z, side="right")
    return Histogram(tuple(edges.tolist()), tuple(float(y[where == b].mean()) for b in range(len(edges) + 1)))


def fit_platt_histogram(z: Array, y: Array, *, bins: int = 10) -> PlattHistogram:
    """Platt scaling, then equal-mass bins carrying the mean of the scaled probabilities.

    Raises:
        ValueError: as `fit_histogram`.
    """
    z, y = _checked(z, y)
    platt = fit_platt(z, y)
    scaled = platt.slope * z + platt.intercept
    edges = _equal_mass_edges(scaled, bins)
    where = np.searchsorted(edges, scaled, side="right")
    means = tuple(float(sigmoid(scaled[where == b]).mean()) for b in range(len(edges) + 1))
    return PlattHistogram(platt.slope, platt.intercept, tuple(edges.tolist()), means)


def _equal_mass_edges(z: Array, bins: int) -> Array:
    if bins < 1:
        raise ValueError("a histogram needs at least one bin")
    ordered = np.sort(z)
    cuts = [round(len(ordered) * i / bins) for i in range(1, bins)]
    mids = [(ordered[c - 1] + ordered[c]) / 2 for c in cuts if 0 < c < len(ordered) and ordered[c - 1] < ordered[c]]
    return np.unique(np.asarray(mids, dtype=np.float64))


FITTERS: Mapping[str, Callable[[Array, Array], Method]] = {
    "temperature": fit_temperature,
    "platt": fit_platt,
    "beta": fit_beta,
    "isotonic": fit_isotonic,
    "histogram": fit_histogram,
    "platt-histogram": fit_platt_histogram,
}


def fit_named(name: str, z: Array, y: Array) -> Method:
    """A method by its kind, fitted; `identity` is the link function alone."""
    return Identity() if name == "identity" else FITTERS[name](z, y)
