"""Guarding an LLM's answer while it is written: text comes in, and goes out once it was judged."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wardgate.engine import Submission
from wardgate.engine.holdback import HoldBack
from wardgate.engine.passing import stops
from wardgate.serve.problems import Kind, Problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from wardgate.policy import Decision
    from wardgate.serve.settings import Settings


@dataclass(frozen=True, slots=True)
class Release:
    """Text that may be shown."""

    text: str


@dataclass(frozen=True, slots=True)
class Stop:
    """The answer must end here; what was not released never will be.

    Attributes:
        decision: why.
        released: how many characters were shown.
    """

    decision: Decision
    released: int


@dataclass(frozen=True, slots=True)
class Done:
    """The whole answer was judged and released.

    Attributes:
        decision: the decision on the whole; None for an empty stream.
        released: how many characters were shown.
    """

    decision: Decision | None
    released: int


Event = Release | Stop | Done


class Session:
    """One answer on its way through."""

    def __init__(
        self,
        settings: Settings,
        judge: Callable[[Submission], Awaitable[Decision]],
        *,
        prompt: str | None = None,
    ) -> None:
        self._settings = settings
        self._judge = judge
        self._prompt = prompt
        self._changed = asyncio.Event()
        self._held = HoldBack(
            holdback=settings.holdback_chars,
            debounce=settings.debounce_chars,
            window=settings.window_chars,
            opening=0 if prompt is None else settings.opening_chars,
        )

    async def run(self, incoming: AsyncIterator[str]) -> AsyncIterator[Event]:
        """Events for the text that comes in; the last is `Stop` or `Done`.

        Raises:
            Problem: if the stream is too long, silent for too long, or could not be judged. Nothing more goes out.
        """
        reader = asyncio.create_task(self._read(incoming))
        try:
            async for event in self._events():
                yield event
                if isinstance(event, Stop):
                    return
            await reader  # raises what went wrong while reading
            yield await self._whole()
        finally:
            reader.cancel()

    async def _read(self, incoming: AsyncIterator[str]) -> None:
        try:
            async for chunk in incoming:
                self._held.add(chunk)
                if self._held.length > self._settings.max_stream_chars:
                    raise Problem(Kind.BODY_TOO_LARGE, "the stream is too long")
                self._changed.set()
        finally:
            self._held.complete = True
            self._changed.set()

    async def _events(self) -> AsyncIterator[Event]:
        """Score piece after piece until everything that came in was judged."""
        while await self._wait():
            piece = self._held.piece()
            decision = await self._judge(self._submission(piece.text))
            if stops(decision, review_blocks=self._settings.review_blocks):
                if self._held.put_off(piece):
                    continue
                yield Stop(decision, self._held.released)
                return
            if out := self._held.passed(piece):
                yield Release(out)

    async def _wait(self) -> bool:
        """Wait until something is to be scored; False when the stream is over and all was."""
        while not self._held.due:
            if self._held.complete and not self._held.pending:
                return False
            self._changed.clear()
            patience = self._settings.debounce_ms / 1000 if self._held.unseen else None
            try:
                async with asyncio.timeout(patience):
                    await self._changed.wait()
            except TimeoutError:
                return True  # nothing more came for a while: score what there is
        return True

    async def _whole(self) -> Event:
        """Judge the whole once more, so that what is spread over windows is seen together; then let go."""
        if not self._held.length:
            return Done(None, 0)
        decision = await self._judge(self._submission(self._held.text))
        if stops(decision, review_blocks=self._settings.review_blocks):
            return Stop(decision, self._held.released)
        return Done(decision, self._held.length)

    def rest(self) -> str:
        """What was held back to the end; call it after `Done`."""
        return self._held.finish()

    def _submission(self, text: str) -> Submission:
        return Submission(text) if self._prompt is None else Submission(self._prompt, text)
