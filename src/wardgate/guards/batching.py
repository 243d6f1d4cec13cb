"""Batches without padding: which texts go through a model together, decided from their lengths alone.

Nothing here holds a tensor. A batch costs its longest text times its size, since shorter texts are padded, so
texts of like length belong together: over chat-like lengths sorted batches waste a few per cent where batches
in arrival order waste most of the work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

T = TypeVar("T", bound="Hashable")
S = TypeVar("S", str, range)


def plan_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Group texts into batches whose padded size stays within a budget of tokens.

    Texts are taken longest first (equal lengths in their given order), so that the batch that needs most
    memory runs first and every batch starts with its longest text.

    Args:
        lengths: n lengths in tokens, each 0 or more.
        budget: the most tokens a batch may hold once padded, 1 or more. A text longer than the budget is not
            dropped: it gets a batch of its own.

    Returns:
        Batches of indices into `lengths`; every index appears exactly once. Empty for no lengths.

    Raises:
        ValueError: if the budget is below 1 or a length is negative.
    """
    if budget < 1:
        raise ValueError(f"a batch needs a budget of at least 1 token, not {budget}")
    if any(length < 0 for length in lengths):
        raise ValueError("a length in tokens cannot be negative")
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= budget:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


def padded_tokens(lengths: Sequence[int], batches: Sequence[Sequence[int]]) -> int:
    """The tokens that batches hold once every text is padded to the longest beside it."""
    return sum(len(batch) * max(lengths[i] for i in batch) for batch in batches if batch)


def halve(batch: Sequence[int]) -> list[list[int]]:
    """Split a batch that did not fit into memory in two; a batch of one comes back whole."""
    middle = len(batch) // 2
    return [list(part) for part in (batch[:middle], batch[middle:]) if part]


def windows(whole: S, size: int, overlap: int) -> list[S]:
    """Cut tokens or letters into windows of at most `size` that overlap by at least `overlap` and cover them all.

    What is empty has one empty window.
    """
    if len(whole) <= size:
        return [whole]
    starts = [*range(0, len(whole) - size, size - overlap), len(whole) - size]
    return [whole[s : s + size] for s in starts]


def distinct(items: Sequence[T]) -> tuple[list[T], list[int]]:
    """The distinct items in order of first appearance, and for each item its place among them.

    So identical texts are scored once: `[distinct_items[i] for i in places]` is the input again.
    """
    places: dict[T, int] = {}
    where = [places.setdefault(item, len(places)) for item in items]
    return list(places), where
