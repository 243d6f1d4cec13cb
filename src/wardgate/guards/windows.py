"""Views to token windows: what a sequence classifier reads, and how windows become one row of scores again.

A text that the model can read whole is one window, encoded exactly as its card encodes it. A longer one is
never cut off: it is read in overlapping windows, and the most unsafe of them speaks for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from wardgate.guards.scores import Link, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from wardgate.guards.scores import View
    from wardgate.hazards import LabelMap

MAX_WINDOWS = 256
"""More windows than this for one text is an attack or a mistake: it fails rather than being half read."""

MOST_PLACES = 8
"""What surrounds a harmful window lowers its odds by this factor at most. See `mean_odds`."""


@dataclass(frozen=True, slots=True)
class Window:
    """Token ids with special tokens in place, and a pair's segment ids (empty where the model has none)."""

    ids: tuple[int, ...]
    types: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """A view that cannot be read, and why."""

    status: Status
    reason: str


def encode_views(
    tokenizer: Any, views: Sequence[View], *, kind: str, max_length: int
) -> list[tuple[Window, ...] | Refusal]:
    """Encode each view in windows of at most `max_length` tokens that overlap by a quarter.

    Args:
        tokenizer: a fast tokenizer.
        views: what to read.
        kind: `text`, `joined` or `pair`, as a classifier card's `input`.
        max_length: tokens a window may hold, special tokens included.

    Returns:
        Per view its windows, or why it has none.
    """
    if kind == "pair":
        return [_pair(tokenizer, view, max_length) for view in views]
    texts = [view.text if kind == "text" or view.response is None else f"{view.text} {view.response}" for view in views]
    return [_checked(windows) for windows in _single(tokenizer, texts, max_length)]


def _checked(windows: list[Window]) -> tuple[Window, ...] | Refusal:
    if len(windows) > MAX_WINDOWS:
        return Refusal(Status.FAILED, f"too long: {len(windows)} windows, the limit is {MAX_WINDOWS}")
    if not any(window.ids for window in windows):
        return Refusal(Status.SKIPPED, "the text has no tokens")
    return tuple(windows)


def _single(tokenizer: Any, texts: list[str], max_length: int) -> list[list[Window]]:
    if not texts:
        return []
    special = tokenizer.num_special_tokens_to_add(pair=False)
    out = tokenizer(
        texts,
        truncation=True,
        max_length=max_length,
        stride=(max_length - special) // 4,
        return_overflowing_tokens=True,
    )
    return _gather(out, len(texts))


def _gather(out: Any, n: int) -> list[list[Window]]:
    grouped: list[list[Window]] = [[] for _ in range(n)]
    types = out.get("token_type_ids") or [()] * len(out["input_ids"])
    for owner, ids, kinds in zip(out["overflow_to_sample_mapping"], out["input_ids"], types, strict=True):
        grouped[owner].append(Window(tuple(ids), tuple(kinds)))
    return grouped


def _pair(tokenizer: Any, view: View, max_length: int) -> tuple[Window, ...] | Refusal:
    if view.response is None:
        return Refusal(Status.SKIPPED, "this guard reads a response beside its prompt, and there is none")
    whole = tokenizer(view.text, view.response, truncation=False, verbose=False)
    if len(whole["input_ids"]) <= max_length:
        return (Window(tuple(whole["input_ids"]), tuple(whole.get("token_type_ids") or ())),)
    prompts = pieces(tokenizer, view.text, max_length // 2)
    responses = pieces(tokenizer, view.response, max_length - max_length // 2 - _room(tokenizer))
    if len(prompts) * len(responses) > MAX_WINDOWS:
        return Refusal(Status.FAILED, f"too long: {len(prompts) * len(responses)} windows, the limit is {MAX_WINDOWS}")
    pairs = [(prompt, response) for prompt in prompts for response in responses]
    out = tokenizer([p for p, _ in pairs], [r for _, r in pairs], truncation=True, max_length=max_length)
    types = out.get("token_type_ids") or [()] * len(pairs)
    return tuple(Window(tuple(ids), tuple(kinds)) for ids, kinds in zip(out["input_ids"], types, strict=True))


def _room(tokenizer: Any) -> int:
    """Tokens kept free in a pair: its special tokens, and one for each edge where a cut may split a word."""
    return int(tokenizer.num_special_tokens_to_add(pair=True)) + 4


def pieces(tokenizer: Any, text: str, size: int) -> list[str]:
    """Overlapping pieces of a text, each of about `size` tokens; the text itself where it is short enough."""
    spans = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    if len(spans) <= size:
        return [text]
    step = size - size // 4
    starts = range(0, len(spans) - size // 4, step)
    return [text[spans[at][0] : spans[min(at + size, len(spans)) - 1][1]] for at in starts]


def combine(rows: NDArray[np.float32], labels: LabelMap, link: Link) -> NDArray[np.float32]:
    """One row for a text from the rows of its windows.

    With a sigmoid head every label takes its largest logit. With a softmax head the row of the window with
    the largest unsafe probability is taken whole, so that a row stays one the model gave.

    Args:
        rows: float32 logits of shape (windows, labels), one window or more.
        labels: the native labels.
        link: the head.

    Returns:
        float32 of shape (labels,).
    """
    if len(rows) == 1 or link is Link.SIGMOID:
        return rows.max(axis=0)  # type: ignore[no-any-return]
    return rows[int(np.argmax(unsafe_share(rows, labels)))]  # type: ignore[no-any-return]


def unsafe_share(rows: NDArray[np.float32], labels: LabelMap) -> NDArray[np.float64]:
    """The summed softmax probability of the unsafe labels, per row; shape (rows, labels) to (rows,)."""
    unsafe = np.array([meaning.unsafe is True for meaning in labels.meanings.values()])
    shifted = np.exp(rows.astype(np.float64) - rows.max(axis=1, keepdims=True))
    return shifted[:, unsafe].sum(axis=1) / shifted.sum(axis=1)  # type: ignore[no-any-return]


def last_line(text: str) -> str:
    """What follows the last line break that has anything after it; the text itself where there is none."""
    return text.rstrip().rpartition("\n")[2]


def both(one: NDArray[np.float32], other: NDArray[np.float32] | np.float32) -> NDArray[np.float32]:
    """The logit of two independent things being so at once, from the logit of each.

    1 / (p q) - 1 = e^-a + e^-b + e^-(a + b) for p = sigmoid(a), q = sigmoid(b); its negative logarithm is the logit.

    Args:
        one: float32 logits.
        other: float32 logits of a shape that fits, or one; infinity is certainty.

    Returns:
        float32, nowhere over either.
    """
    return -np.logaddexp(np.logaddexp(-one, -other), -one - other)  # type: ignore[no-any-return]


def mean_odds(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """One row of sigmoid logits for a text from the rows of its windows: per label, the mean of their odds.

    A long text has many windows in which a guard may err, and the highest of k logits is high by chance alone. If one
    window is harmful and any of them may be it, each is it with a k-th of the odds that it would have by itself, and
    these add up: the text's odds are the mean. But whoever surrounds a harmful part with harmless ones must not gain
    without limit, so the odds are at least those of the highest window over `MOST_PLACES`.

    Args:
        rows: float32 logits of shape (windows, labels), one window or more.

    Returns:
        float32 of shape (labels,).
    """
    mean = np.logaddexp.reduce(rows, axis=0) - np.log(len(rows))
    return np.maximum(mean, rows.max(axis=0) - np.log(MOST_PLACES)).astype(np.float32)  # type: ignore[no-any-return]
