"""Chooses a calibration method by cross-validated log-loss, among those that the data can bear."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np

from wardgate.calibrate.fit import fit_named
from wardgate.calibrate.languages import fit_by_language, shifts_of
from wardgate.calibrate.methods import Identity
from wardgate.calibrate.metrics import log_loss

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from wardgate.calibrate.methods import Method

    Array = NDArray[np.float64]

MINIMUM_ROWS: Mapping[str, int] = {
    "temperature": 10,
    "platt": 20,
    "beta": 50,
    "platt-histogram": 250,
    "histogram": 500,
    "isotonic": 500,
}
"""Rows of the rarer class that a method needs to be tried, simplest first.

Ten per free parameter is the rule of thumb for logistic regression (Peduzzi et al. 1996): 10, 20, and for beta's three,
whose constraint has to hold too, 50. A histogram of ten bins on 1,000 rows bounds each bin's mean to 0.17 at 95 %
(Gupta & Ramdas 2021, arXiv 2105.04656), which is the most that one would call calibrated; binning fitted values instead
of labels needs fewer (Kumar et al. 2019), half as many here. Isotonic regression overfits below about 1,000 rows
(Niculescu-Mizil & Caruana 2005). Rows here are of the rarer class: at one half unsafe, twice as many in all.
"""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which method was chosen, and why.

    Attributes:
        name: the method's kind; `identity` where the data bear none, or none beats the link function alone.
        losses: cross-validated log-loss in nats of every method that was tried, `identity` among them.
        refused: method to the rows of the rarer class it would need.
        rows: rows in all.
        rarer: rows of the rarer class.
    """

    name: str
    losses: Mapping[str, float]
    refused: Mapping[str, int]
    rows: int
    rarer: int


def choose(z: Array, y: Array, *, candidates: Sequence[str] = tuple(MINIMUM_ROWS), folds: int = 5) -> Choice:
    """Choose among methods by log-loss on rows that were held out of fitting.

    Args:
        z: logits. *Shape:* (n,)
        y: labels, 0 or 1. *Shape:* (n,)
        candidates: methods to try, of those in `MINIMUM_ROWS`.
        folds: folds of the cross-validation.

    Returns:
        The choice; a tie goes to the simpler method.

    Raises:
        ValueError: if the arrays do not pair up.
    """
    z, y = np.asarray(z, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if z.shape != y.shape or z.ndim != 1:
        raise ValueError(f"logits of shape {z.shape} and labels of shape {y.shape} do not pair up")
    rarer = int(min(y.sum(), len(y) - y.sum()))
    refused = {name: MINIMUM_ROWS[name] for name in candidates if MINIMUM_ROWS[name] > rarer}
    tried = [name for name in MINIMUM_ROWS if name in candidates and name not in refused]
    losses = {"identity": log_loss(Identity()(z), y)} if len(y) else {}
    losses |= {name: log_loss(out_of_fold(z, y, name, folds=folds), y) for name in tried}
    best = min(losses, key=losses.__getitem__, default="identity")
    return Choice(best, losses, refused, len(y), rarer)


def fit_chosen(z: Array, y: Array, *, candidates: Sequence[str] = tuple(MINIMUM_ROWS)) -> tuple[Method, Choice]:
    """The chosen method, fitted on all rows; the link function alone where the data bear nothing else."""
    choice = choose(z, y, candidates=candidates)
    return fit_named(choice.name, z, y), choice


def out_of_fold(
    z: Array, y: Array, name: str, *, folds: int = 5, languages: Sequence[str | None] | None = None
) -> Array:
    """Every row's probability from a method that was fitted on the other folds; *shape* (n,).

    With languages, it was fitted together with shifts by language (`calibrate.languages`).

    Each class is dealt out to the folds in turn, so that every fold has its share of both; the deal is the same in
    every run, and does not follow the order of the rows.
    """
    z, y = np.asarray(z, dtype=np.float64), np.asarray(y, dtype=np.float64)
    spoken = [None] * len(y) if languages is None else languages
    fold = np.empty(len(y), dtype=np.int64)
    shuffled = np.random.default_rng(0).permutation(len(y))
    for label in (0, 1):
        rows = shuffled[y[shuffled] == label]
        fold[rows] = np.arange(len(rows)) % folds
    out = np.empty(len(y))
    for k in range(folds):
        held, rest = fold == k, fold != k
        method, shifts = fit_by_language(name, z[rest], y[rest], list(compress(spoken, rest)))
        out[held] = method(z[held] + shifts_of(list(compress(spoken, held)), shifts))
    return out
