"""How much of a stream may go out: nothing before it was judged, and the last of it only when more was."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SENTENCE_END = re.compile(r"[.!?\u3002\uff01\uff1f]\s|\n")


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the stream to be scored: half-open offsets.

    Attributes:
        start: where it starts; what lies before `judged` is context that was judged already.
        end: where it ends.
        text: the stretch; of an answer, after how it begins.
    """

    start: int
    end: int
    text: str


class HoldBack:
    """The state of one stream. Plain Python: no event loop and no clock.

    Each character is scored with at most `window` characters before it, and again as context of at most
    `window` characters after it: the work is proportional to the length of the stream, never to its square.

    How an answer begins tells whether it declines what was asked. So its later pieces are scored after its `opening`,
    and a piece within the opening that may not pass is put off: scored again with more, and not shown meanwhile.
    """

    def __init__(self, *, holdback: int, debounce: int, window: int, opening: int = 0) -> None:
        self._holdback = holdback
        self._debounce = max(1, debounce)
        self._window = max(1, window)
        self._opening = min(opening, self._window)
        self._put_off = 0
        self._chunks: list[str] = []
        self._text = ""
        self.length = 0
        self.judged = 0
        self.released = 0
        self.complete = False

    @property
    def text(self) -> str:
        """Everything that came in."""
        if self._chunks:
            self._text += "".join(self._chunks)
            self._chunks.clear()
        return self._text

    @property
    def pending(self) -> int:
        """Characters that came in and were not judged."""
        return self.length - self.judged

    @property
    def unseen(self) -> int:
        """Characters that came in and were not scored, not even put off."""
        return self.length - max(self.judged, self._put_off)

    @property
    def due(self) -> bool:
        """Whether there is enough to score at once."""
        return self.unseen >= self._debounce or (self.complete and self.pending > 0)

    def add(self, chunk: str) -> None:
        """Take in what the model wrote."""
        self._chunks.append(chunk)
        self.length += len(chunk)

    def piece(self) -> Piece:
        """What to score next: new characters, at most a window of them, and as much context before them."""
        text = self.text
        end = min(self.length, self.judged + self._window)
        start = self._sentence_start(text, max(0, self.judged - self._window))
        if start <= self._opening:
            start = 0 if self._opening else start
            return Piece(start, end, text[start:end])
        before = f"{text[: self._opening]}\n" if self._opening else ""
        return Piece(start, end, before + text[start:end])

    def _sentence_start(self, text: str, earliest: int) -> int:
        """The first start of a sentence from `earliest` on, or `earliest` if none comes before the new text."""
        if earliest == 0:
            return 0
        found = _SENTENCE_END.search(text, earliest, self.judged)
        return found.end() if found else earliest

    def put_off(self, piece: Piece) -> bool:
        """Whether it is too early to stop at a piece that may not pass; it is scored again when there is more."""
        if self.complete or piece.end >= self._opening:
            return False
        self._put_off = piece.end
        return True

    def passed(self, piece: Piece) -> str:
        """Note that a piece may pass; returns what may go out now."""
        self.judged = max(self.judged, piece.end)
        return self._release(self.judged - self._holdback)

    def finish(self) -> str:
        """What was held back, once the whole was judged and may pass."""
        if self.judged < self.length:
            raise ValueError("a stream is finished when all of it was judged")
        return self._release(self.judged)

    def _release(self, until: int) -> str:
        out = self.text[self.released : max(until, self.released)]
        self.released += len(out)
        return out
