"""What the built-in guard `small` learns: texts of `mini`, others that need no label, changed copies of all.

A teacher answers, so that a text is worth reading whatever its label, and copies may be changed at will: mistyped or
attacked, cut to a stretch, or joined (as Tang et al. 2019, arXiv 1903.12136, do for an LSTM).
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from wardgate.data.pool import read_pool
from wardgate.train.augment import augmented
from wardgate.train.mini import Split
from wardgate.train.mini_data import trained_on

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from wardgate.train.encoder_model import LayerHead

    Array = NDArray[np.float32]

SAMPLE = 40_000
"""Texts from which the components are taken."""


@dataclass(frozen=True, slots=True, eq=False)
class Lessons:
    """Texts as word pieces, with what the teacher says of them and what is known.

    Attributes:
        ids: the pieces of each text, special ones included.
        taught: the teacher's probabilities, float32 (n, 13).
        states: what the teacher's layers make of each text, float16 (n, components).
        values: labels, float32 (n, 13).
        weights: float32 (n, 13); 0 where unknown.
    """

    ids: list[NDArray[np.int32]]
    taught: Array
    states: NDArray[np.float16]
    values: Array
    weights: Array


def distinct_rows(split: Split) -> Split:
    """Each text of a split once, with the labels that it has first."""
    first: dict[str, int] = {}
    for i, text in enumerate(split.texts):
        first.setdefault(text, i)
    rows = list(first.values())
    return Split(list(first), split.values[rows], split.weights[rows], [split.sources[i] for i in rows])


def unlabelled(pool: Path, known: Split, most: int, seed: int) -> Split:
    """Texts of the pool that the data plan leaves out, as rows of which no label is known.

    Args:
        pool: folder of the training pool.
        known: the rows that are learnt from already.
        most: at most so many of a source.
        seed: drives the choice.
    """
    used = set(known.texts)
    found = {e.text: e.source for e in trained_on(read_pool(pool)) if e.text not in used}
    texts, room = list(found), Counter(dict.fromkeys(found.values(), most))
    random.Random(seed).shuffle(texts)  # noqa: S311 - sampling, not secrets
    kept = []
    for text in texts:
        if room[found[text]]:
            room[found[text]] -= 1
            kept.append(text)
    blank = np.zeros((len(kept), known.values.shape[1]), dtype=np.float32)
    return Split(kept, blank, blank, [found[t] for t in kept])


def together(*splits: Split) -> Split:
    """The rows of several splits, one after the other."""
    return Split(
        [t for s in splits for t in s.texts],
        np.concatenate([s.values for s in splits]),
        np.concatenate([s.weights for s in splits]),
        [name for s in splits for name in s.sources],
    )


def altered(split: Split, share: float, seed: int) -> list[str]:
    """Changed copies of texts: mistyped or attacked as in training, a stretch of one, or two together.

    Args:
        split: distinct texts.
        share: how many copies, as a share of the texts, at most 1.
        seed: drives the draw.
    """
    rng = random.Random(seed)  # noqa: S311 - sampling, not secrets
    out = []
    for i in rng.sample(range(len(split.texts)), round(share * len(split.texts))):
        text, roll = augmented(i, split, rng, 0.1)[0], rng.random()
        words = text.split(" ")
        if roll < 0.35 and len(words) > 8:
            size = rng.randrange(4, len(words))
            start = rng.randrange(len(words) - size + 1)
            text = " ".join(words[start : start + size])
        elif roll < 0.5:
            pair = [text[:400], rng.choice(split.texts)[:400]]
            rng.shuffle(pair)
            text = rng.choice((" ", "\n", ". ")).join(pair)
        out.append(text)
    return out


@torch.no_grad()
def answers(means: NDArray[np.float16], head: LayerHead) -> Array:
    """What a head says of texts: probabilities, float32 (n, 13).

    Args:
        means: mean states after the layers that it reads, float16 (n, layers, width).
        head: a trained one.
    """
    return np.concatenate([head(block).sigmoid().numpy() for block in _blocks(means)])


@torch.no_grad()
def reduced(means: NDArray[np.float16], head: LayerHead, components: int) -> NDArray[np.float16]:
    """The states that a head reads, standardised as it does, by their principal components.

    Args:
        means: as for `answers`.
        head: a trained one.
        components: numbers per text.

    Returns:
        float16 (n, components), of mean square 1.
    """
    sample = means[np.random.default_rng(0).permutation(len(means))[:SAMPLE]]
    flat = np.concatenate([head.standardised(block).numpy() for block in _blocks(sample)])
    powers, axes = np.linalg.eigh(flat.T @ flat / len(flat))
    chosen = axes[:, ::-1][:, :components] / np.sqrt(powers[::-1][:components].mean())
    blocks = (head.standardised(block).numpy() for block in _blocks(means))
    return np.concatenate([(block @ chosen).astype(np.float16) for block in blocks])


def _blocks(means: NDArray[np.float16]) -> Iterator[torch.Tensor]:
    flat = means.reshape(len(means), -1)
    for start in range(0, len(flat), 8192):
        yield torch.from_numpy(flat[start : start + 8192]).float()
