"""Guards made of hashed n-grams: a table lookup for every few letters and every word, and a tiny head.

There is no tokenizer and hardly any arithmetic: a text costs microseconds. Such a guard knows words, not meaning; it
is there to settle the plain cases, and to leave the others to a guard that reads.

The features are fastText's (Joulin et al. 2017, "Bag of Tricks for Efficient Text Classification"): letters in
groups and words, alone and in pairs, each hashed into a row of one embedding table, their mean through a small
network.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wardgate.guards.batching import plan_batches, windows
from wardgate.guards.scores import Link, Scores, View
from wardgate.hazards import WARDGATE, LabelMap

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]

_PRIME = np.uint64(0x9E3779B97F4A7C15 | 1)
"""The multiplier of the polynomial hash, odd: the golden ratio's 64 bits (Knuth, TAOCP 3, 6.4)."""
_INVERSE = np.uint64(pow(int(_PRIME), -1, 1 << 64))
_MIX = np.uint64(0xFF51AFD7ED558CCD)
"""From MurmurHash3's 64-bit finaliser."""
_KIND = np.array([0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179, 0x9B05688C2B3E6C1F, 0x510E527FADE682D1], dtype=np.uint64)
"""Keep features of one kind apart from another's; from the initial values of SHA-512 (FIPS 180-4, 5.3.5)."""
BATCH = 40_000
"""Letters per run: its arrays stay inside a core's cache."""


@dataclass(frozen=True, slots=True)
class NgramSettings:
    """How a text is cut.

    Attributes:
        bits: the table has 2 to the `bits` rows.
        grams: lengths of letter groups.
        window: letters per window; the most unsafe window speaks for a text, so that padding dilutes nothing.
        overlap: letters that neighbouring windows share.
        max_characters: longer texts are reported as failed; the policy names what happens to them.
    """

    bits: int = 18
    grams: tuple[int, ...] = (3, 4, 5)
    window: int = 600
    overlap: int = 100
    max_characters: int = 4_000_000


def features(texts: Sequence[str], settings: NgramSettings) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Table rows of every feature of every text.

    Args:
        texts: any text; case is ignored.
        settings: the sizes.

    Returns:
        rows, int64 of shape (m,), sorted by text; and bounds, int64 of shape (n + 1,): text i has
        `rows[bounds[i]:bounds[i + 1]]`. Every text has at least one.
    """
    lowered = [f" {t.lower()} " for t in texts]
    lengths = np.array([len(t) for t in lowered], dtype=np.int64)
    letters = np.frombuffer("".join(lowered).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    owner = np.repeat(np.arange(len(texts)), lengths)
    found = [_letter_groups(letters, owner, settings.grams), _words(letters, owner)]
    hashes = np.concatenate([h for h, _ in found])
    owners = np.concatenate([o for _, o in found])
    rows = (hashes >> np.uint64(64 - settings.bits)).astype(np.int64)
    order = np.argsort(owners, kind="stable")
    return rows[order], np.searchsorted(owners[order], np.arange(len(texts) + 1))


def _letter_groups(letters: Hashes, owner: NDArray[np.int64], sizes: Sequence[int]) -> tuple[Hashes, NDArray[np.int64]]:
    hashes, owners = [], []
    rolling = letters * _PRIME
    for size in range(2, max(sizes) + 1):
        rolling = (rolling[:-1] + letters[size - 1 :]) * _PRIME
        if size in sizes:
            inside = owner[: len(rolling)] == owner[size - 1 :]
            hashes.append(_mixed(rolling[inside] + _KIND[size % 2]))
            owners.append(owner[: len(rolling)][inside])
    return np.concatenate(hashes), np.concatenate(owners)


def _words(letters: Hashes, owner: NDArray[np.int64]) -> tuple[Hashes, NDArray[np.int64]]:
    """Words, and pairs of neighbours, by the prefix sums of a polynomial hash."""
    solid = _word_letters()[np.minimum(letters, np.uint64(0xFFFF)).astype(np.int64)]
    edges = np.flatnonzero(np.diff(solid.astype(np.int8), prepend=0, append=0))
    starts, ends = edges[::2], edges[1::2]
    powers, inverses = _powers(len(letters))
    sums = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(letters * powers)])
    words = (sums[ends] - sums[starts]) * inverses[starts]
    owners = owner[starts]
    pairs = (words[:-1] * _PRIME + words[1:])[owners[:-1] == owners[1:]]
    # The edge of a text stands for a word of its own, so that an empty text has a feature too.
    edge = np.full(int(owner[-1]) + 1, _KIND[2])
    return (
        np.concatenate([_mixed(words + _KIND[2]), _mixed(pairs + _KIND[3]), _mixed(edge)]),
        np.concatenate([owners, owners[:-1][owners[:-1] == owners[1:]], np.arange(len(edge))]),
    )


def _mixed(hashes: Hashes) -> Hashes:
    hashes = (hashes ^ (hashes >> np.uint64(33))) * _MIX
    return hashes ^ (hashes >> np.uint64(29))


@functools.cache
def _word_letters() -> NDArray[np.bool_]:
    """Which letters make words: letters, digits and marks; what lies beyond the first plane counts as one."""
    table = np.fromiter((chr(i).isalnum() or chr(i) in "'_" for i in range(0x10000)), dtype=bool, count=0x10000)
    table[0xFFFF] = True
    return table


def _powers(n: int) -> tuple[Hashes, Hashes]:
    """The first n powers of the multiplier and of its inverse, modulo 2 to the 64."""
    powers, inverses = _power_table(1 << max(16, int(n - 1).bit_length()))
    return powers[:n], inverses[:n]


@functools.lru_cache(maxsize=4)
def _power_table(n: int) -> tuple[Hashes, Hashes]:
    return _geometric(_PRIME, n), _geometric(_INVERSE, n)


def _geometric(base: np.uint64, n: int) -> Hashes:
    row = np.full(n, base, dtype=np.uint64)
    row[0] = 1
    return np.cumprod(row, dtype=np.uint64)


class NgramGuard:
    """A multi-label guard of hashed n-grams.

    Attributes:
        name: the guard's name.
        labels: what its logits mean.
        link: always sigmoid.
    """

    link = Link.SIGMOID

    def __init__(
        self, name: str, weights: Path, *, labels: LabelMap = WARDGATE, settings: NgramSettings | None = None
    ) -> None:
        """Load the weights, a safetensors file.

        It holds `table` int8 (2^bits, d), `scale` float32 (d,), `hidden` float32 (d, k), `hidden_bias` (k,),
        `head` (k, L) and `head_bias` (L,).

        Raises:
            ValueError: if the file is not what it should be.
        """
        self.name = name
        self.labels = labels
        self.settings = settings or NgramSettings()
        tensors = _tensors(weights)
        try:
            self._table = np.ascontiguousarray(tensors["table"])
            self._scale, self._hidden, self._hidden_bias, self._head, self._head_bias = (
                tensors[key].astype(np.float32) for key in ("scale", "hidden", "hidden_bias", "head", "head_bias")
            )
        except KeyError as error:
            raise ValueError(f"{weights.name} has no tensor {error}") from None
        if self._table.shape[0] != 1 << self.settings.bits or self._head.shape[1] != len(labels.labels):
            raise ValueError(f"{weights.name} has a table of {self._table.shape} and a head of {self._head.shape}")

    def score(self, batch: Sequence[View]) -> Scores:
        """Score a batch; rows keep the order given."""
        fits = [len(v.joined) <= self.settings.max_characters for v in batch]
        pieces: list[str] = []
        owner: list[int] = []
        for row, (view, ok) in enumerate(zip(batch, fits, strict=True)):
            # Alone, too, so that a long prompt does not water down a short answer.
            texts = [view.joined] if view.response is None else [view.joined, view.response]
            cut = [w for t in texts for w in windows(t, self.settings.window, self.settings.overlap)] if ok else []
            pieces += cut
            owner += [row] * len(cut)
        logits = np.full((len(batch), len(self.labels.labels)), np.nan, dtype=np.float32)
        ms = np.zeros(len(batch), dtype=np.float32)
        for group in plan_batches([len(p) + 2 for p in pieces], BATCH):
            started = time.perf_counter()
            rows = [owner[i] for i in group]
            found = self.logits([pieces[i] for i in group])
            np.fmax.at(logits, rows, found)
            np.add.at(ms, rows, (time.perf_counter() - started) * 1000 / len(rows))
        return Scores.of_fitting(
            self.name, self.labels.labels, self.link, logits, ms, fits=fits, limit=self.settings.max_characters
        )

    def logits(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Logits of texts as they are, uncut. *Shape:* float32 (n, L)."""
        rows, bounds = features(texts, self.settings)
        sums = np.add.reduceat(self._table[rows], bounds[:-1], axis=0, dtype=np.int32)
        mean = sums * self._scale / np.diff(bounds)[:, None]
        hidden = np.maximum(mean @ self._hidden + self._hidden_bias, 0)
        out: NDArray[np.float32] = (hidden @ self._head + self._head_bias).astype(np.float32)
        return out


def _tensors(path: Path) -> dict[str, NDArray[np.float32]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors: dict[str, NDArray[np.float32]] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path.name} is not a safetensors file ({type(error).__name__})") from None
    return tensors
