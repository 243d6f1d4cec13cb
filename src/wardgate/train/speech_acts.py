"""What a text does, beside what it says: whether a line asks for something, and whether an answer declines.

The last line of a long text is read alone, because a request often follows a passage. An answer has a last line too,
and read alone it is a sentence without its context. And an answer that declines what was asked is no harm, whatever was
asked. Texts of known kind, and the words that answers decline with, tell both.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from wardgate.data.pool import read_pool
from wardgate.guards.encoder import ACTS
from wardgate.guards.windows import last_line
from wardgate.train.mini_data import trained_on
from wardgate.train.written import declining, requests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from wardgate.data.example import Example
    from wardgate.train.encoder_model import LayerHead

    Reads = Callable[[Sequence[str]], tuple[NDArray[np.float16], NDArray[np.float32]]]


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """Texts of which it is known whether they do something.

    Attributes:
        texts: n distinct texts.
        does: whether each does it, bool (n,).
        weights: how much each counts among those that do, or do not, float32 (n,).
    """

    texts: list[str]
    does: NDArray[np.bool_]
    weights: NDArray[np.float32]


MOST, MOST_WRITTEN = 500, 9000
"""So many lines that ask are taken of a source and kind, and of the written texts."""

SHORTEST, LONGEST = 4, 600
"""Letters of a line."""

OPENING = 250
"""Letters of an answer in which words are looked for that decline."""

DECLINES = re.compile(
    r"\b(i'?m|i am|we'?re) (very |really |truly |so |deeply )?(sorry|afraid|unable)"
    r"|\b(i|we) (can ?not|can.?t|am not able|won.?t|will not|must decline|refuse|am unable)"
    r"|\b(i|we) (do not|don.?t) feel comfortable"
    r"|as an? (ai|language|responsible|artificial)|not be able to (help|assist|provide|fulfil)"
    r"|against (my|the) (programming|guidelines|principles|polic)|i apologi[sz]e",
    re.IGNORECASE,
)
"""Words that decline, in English."""


def acts(pool: Path, seed: int) -> dict[str, Told]:
    """For each of `ACTS`, texts that are trained on.

    Args:
        pool: folder of the training pool.
        seed: drives the choice.
    """
    rng = random.Random(seed)  # noqa: S311 - sampling, not secrets
    rows = list(trained_on([*read_pool(pool), *requests()]))
    rng.shuffle(rows)
    return dict(zip(ACTS, (_asking(rows, rng), _declining(rows)), strict=True))


def _asking(rows: Iterable[Example], rng: random.Random) -> Told:
    """Last lines. What users write counts as asking, a comment too: its last line is the whole of what it says.

    Of an answer of three sentences or more the last one, and one from its midst, do not.
    """
    found: dict[str, bool] = {}
    taken: Counter[tuple[str, str]] = Counter()
    for e in rows:
        if e.kind == "response":
            sentences = [s for s in re.split(r"(?<=[.!?])\s+|\n+", e.text) if len(s) > SHORTEST]
            if len(sentences) > 2:
                found |= dict.fromkeys((sentences[-1], rng.choice(sentences[1:-1])), False)
        most = MOST_WRITTEN if e.source == "written" else MOST
        if e.kind in {"prompt", "comment"} and taken[e.source, e.kind] < most:
            taken[e.source, e.kind] += 1
            found[last_line(e.text)] = True
    kept = {line: asks for line, asks in found.items() if SHORTEST <= len(line) <= LONGEST}
    return Told(list(kept), np.array(list(kept.values())), np.ones(len(kept), np.float32))


def _declining(rows: Iterable[Example]) -> Told:
    """Answers, read from their start. An unsafe one that begins with words that decline goes on all the same: left out.

    So are English answers that a list calls safe, of a source where others decline, without such words, and what is not
    English, where the words are not known, but for the written ones.
    """
    answers = [e for e in rows if e.kind == "response" and e.language == "en"]
    found = {e.text: DECLINES.search(e.text[:OPENING]) is not None for e in answers}
    doubtful = {e.text for e in answers if e.unsafe == found[e.text] and (e.unsafe or e.source in _REFUSING)}
    written = declining()
    kept = {t: declines for t, declines in found.items() if t not in doubtful} | written
    weights = np.array([WRITTEN if t in written else 1 for t in kept], np.float32)
    return Told(list(kept), np.array(list(kept.values())), weights)


_REFUSING = frozenset(["gptfuzz_responses", "med_safety_bench"])
"""Sources whose safe answers mostly decline."""

WRITTEN = 30
"""A written beginning of an answer counts as so many answers of the pool, where few are short."""


FITTED = {"asks": (1, 0.01), "declines": (None, 0.03)}
"""Of how many of a head's layers, from the lowest, each act is told, and scikit-learn's C.

The lowest ranks lines of a source that it was not fitted on better than those above it do; all of them together know
more refusals in other words (`docs/log.md`).
"""


def fit_acts(head: LayerHead, read: Reads, told: dict[str, Told]) -> None:
    """Give a trained head its answers to `ACTS`, by logistic regression on what it reads.

    Args:
        head: its `acts` are set.
        read: gives the mean states of texts after the head's layers, float16 (n, layers, width), and logits.
        told: for each act, texts that are known to do it or not.
    """
    from sklearn.linear_model import LogisticRegression

    for column, (name, known) in enumerate(told.items()):
        means, _ = read(known.texts)
        layers, c = FITTED[name]
        states = head.standardised(torch.from_numpy(means.reshape(len(means), -1)).float())
        states = states[:, : None if layers is None else layers * means.shape[-1]]
        found = LogisticRegression(C=c, max_iter=1000).fit(states.numpy(), known.does, balanced(known))
        with torch.no_grad():
            head.acts.weight[column] = 0
            head.acts.weight[column, : states.shape[1]] = torch.from_numpy(found.coef_[0])
            head.acts.bias[column] = float(found.intercept_[0])


def balanced(known: Told) -> NDArray[np.float64]:
    """A weight for each text: those that do it and those that do not weigh alike, and 1 is the mean of all."""
    each = known.weights.astype(np.float64)
    for side in (known.does, ~known.does):
        each[side] *= len(each) / 2 / each[side].sum()
    return each
