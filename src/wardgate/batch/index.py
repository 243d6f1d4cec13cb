"""Where a remembered text is: an index in memory, so that the disk sees nothing but appended rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class _Run:
    """Hashes in ascending order, and the number of each."""

    hashes: NDArray[np.uint64]
    numbers: NDArray[np.int64]


class Index:
    """Key to number, in sorted runs: 16 bytes a key, at most three times that while old ones wait to be dropped.

    Runs are merged as in a log-structured merge tree (O'Neil et al. 1996): two neighbours become one when the older
    is not twice as long. A key in an index on disk would cost a page written for each, since keys are random.
    """

    def __init__(self) -> None:
        self._runs: list[_Run] = []

    def __len__(self) -> int:
        """How many numbers are held, those included that wait to be dropped."""
        return sum(len(run.numbers) for run in self._runs)

    def add(self, keys: Sequence[bytes], numbers: Sequence[int], oldest: int) -> None:
        """Add distinct keys.

        Args:
            keys: 16 bytes each, evenly spread; the first eight count.
            numbers: one per key, greater than any that was added before.
            oldest: numbers below it will never be asked for again.
        """
        if keys:
            self._runs.append(_sorted(_hashes(keys), np.asarray(numbers, dtype=np.int64)))
        self._runs = [run for run in self._runs if run.numbers.max() >= oldest]
        while len(self._runs) > 1 and len(self._runs[-2].numbers) < 2 * len(self._runs[-1].numbers):
            older, newer = self._runs[-2:]
            self._runs[-2:] = [_merged(older, newer, oldest)]

    def find(self, keys: Sequence[bytes], oldest: int) -> list[int]:
        """The numbers, ascending, that keys may have: another key with the same first eight bytes may own one.

        Args:
            keys: 16 bytes each.
            oldest: numbers below it are left out.
        """
        if not keys:
            return []
        wanted = _hashes(keys)
        found: list[int] = []
        for run in self._runs:
            at = np.minimum(np.searchsorted(run.hashes, wanted), len(run.hashes) - 1)
            numbers = run.numbers[at][run.hashes[at] == wanted]
            found.extend(numbers[numbers >= oldest].tolist())
        return sorted(found)


def _hashes(keys: Sequence[bytes]) -> NDArray[np.uint64]:
    return np.frombuffer(b"".join(keys), dtype="<u8")[::2]


def _sorted(hashes: NDArray[np.uint64], numbers: NDArray[np.int64]) -> _Run:
    order = np.argsort(hashes, kind="stable")
    return _Run(hashes[order], numbers[order])


def _merged(older: _Run, newer: _Run, oldest: int) -> _Run:
    live = older.numbers >= oldest
    return _sorted(
        np.concatenate([older.hashes[live], newer.hashes]), np.concatenate([older.numbers[live], newer.numbers])
    )
