"""Guarding a text while it is written: what was judged goes out, and nothing before it was.

`review` stops a stream too: nobody can review half an answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wardgate.engine.holdback import HoldBack
from wardgate.engine.passing import stops
from wardgate.engine.submission import Submission

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from wardgate.policy import Decision


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """How a stream is held back. All in characters.

    Attributes:
        holdback: the last characters that are judged and still kept, until more of the text was judged.
        debounce: how much new text is scored at once; less answers sooner and costs more.
        window: the most new text in a piece, and the most context before it.
        opening: of an answer beside its prompt, how much tells whether it declines: until there is so much nothing
            stops it, though what may not pass is not shown, and later pieces are judged after it.
    """

    holdback: int = 80
    debounce: int = 40
    window: int = 400
    opening: int = 250


@dataclass(frozen=True, slots=True)
class Streamed:
    """A step of a guarded stream.

    Attributes:
        text: what may be shown now; empty in a step that stops the stream.
        decision: None while the stream goes on. In the last step: on the whole text if it passed, or on the piece
            that stopped it.
        stopped: whether the stream must end here; what was not shown never will be.
    """

    text: str
    decision: Decision | None = None
    stopped: bool = False


def stream(
    check: Callable[[Submission], Decision],
    chunks: Iterable[str],
    *,
    prompt: str | None = None,
    settings: StreamSettings | None = None,
) -> Iterator[Streamed]:
    """Release a text piece by piece as it is judged.

    Args:
        check: judges a submission.
        chunks: the text as it is written, in pieces of any size.
        prompt: what the text answers, if it is an answer.
        settings: how much is held back.

    Yields:
        Steps; the last has a decision, unless there was no text at all.
    """
    sizes = settings or StreamSettings()
    held = HoldBack(
        holdback=sizes.holdback,
        debounce=sizes.debounce,
        window=sizes.window,
        opening=0 if prompt is None else sizes.opening,
    )

    def judged(text: str) -> Decision:
        return check(Submission(text) if prompt is None else Submission(prompt, text))

    for chunk in _and_end(chunks):
        if chunk is None:
            held.complete = True
        else:
            held.add(chunk)
        while held.due:
            piece = held.piece()
            decision = judged(piece.text)
            if stops(decision, review_blocks=True):
                if held.put_off(piece):
                    continue
                yield Streamed("", decision, stopped=True)
                return
            if out := held.passed(piece):
                yield Streamed(out)
    if held.length:
        # Once more as a whole, so that what is spread over pieces is seen together.
        decision = judged(held.text)
        passes = not stops(decision, review_blocks=True)
        yield Streamed(held.finish() if passes else "", decision, stopped=not passes)


def _and_end(chunks: Iterable[str]) -> Iterator[str | None]:
    yield from chunks
    yield None
