"""Dynamic batching across requests: an asyncio scheduler in front of threads that score."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from wardgate.serve.pace import Pace, retry_after
from wardgate.serve.queue import Batch, Job, Queue, cost_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from wardgate.engine import Submission
    from wardgate.policy import Decision
    from wardgate.serve.settings import Settings

# Admission assumes that the measured pace may drop by this much before the deadline comes.
_SAFETY = 0.8
# What a text counts for at most: guards that read no further than this are many.
_LONGEST_TOKENS = 4096


class Checker(Protocol):
    """What the batcher needs of an engine."""

    def check_many(self, texts: Sequence[str | Submission]) -> list[Decision]:
        """Decide on many texts; results keep the order of the input."""
        ...


def _window(checker: Checker) -> int:
    """The turns that an engine's policy reads together."""
    window = getattr(getattr(checker, "policy", None), "window", 1)
    return window if isinstance(window, int) else 1


class OverloadedError(Exception):
    """The queue is full, or the expected wait too long."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"too many texts wait already; try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class LateError(Exception):
    """The request's time ran out."""


class DrainingError(Exception):
    """The server is shutting down and accepts nothing new."""


class ScoringError(Exception):
    """The engine raised; the message holds the exception's type and never its text."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A finished batch, for those who watch.

    Attributes:
        items: texts in it.
        cost: estimated tokens in it.
        fill: cost over the budget, above 0; may pass 1 for a single long text.
        seconds: how long scoring took.
        waited: the longest that a text in it waited, in seconds.
        failed: whether the engine raised.
    """

    items: int
    cost: int
    fill: float
    seconds: float
    waited: float
    failed: bool


class Batcher:
    """Gathers the texts of many requests into batches and hands each request its own decisions.

    Use as an async context manager: leaving it drains what was accepted, for at most `drain_s`.
    """

    def __init__(
        self,
        lanes: Mapping[str, Checker],
        settings: Settings,
        *,
        watch: Callable[[Scored], None] = lambda _: None,
    ) -> None:
        self._lanes = lanes
        self._settings = settings
        self._watch = watch
        self._queue = Queue(
            batch_tokens=settings.batch_tokens,
            batch_items=settings.batch_items,
            max_items=settings.queue_items,
        )
        self._pace = Pace(scorers=settings.scorers)
        self._futures: dict[Job, asyncio.Future[None]] = {}
        self._running_cost = 0
        self._tasks: list[asyncio.Task[None]] = []
        self.draining = True

    async def __aenter__(self) -> Self:
        self.draining = False
        self._wake = asyncio.Event()
        self._pool = ThreadPoolExecutor(self._settings.scorers, thread_name_prefix="wardgate-scorer")
        self._tasks = [asyncio.create_task(self._score_forever()) for _ in range(self._settings.scorers)]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.drain()

    @property
    def waiting(self) -> int:
        """Texts in the queue."""
        return self._queue.items

    @property
    def expected_wait_s(self) -> float:
        """How long a newcomer would wait, by the measured pace."""
        return self._pace.wait_s(self._queue.cost + self._running_cost)

    @property
    def saturated(self) -> bool:
        """Whether the next request would be refused whatever is in it."""
        too_long = self.waiting > 0 and self.expected_wait_s > self._settings.queue_delay_s
        return self._queue.full or too_long

    def refusal(self) -> OverloadedError:
        """The refusal for a caller that comes now."""
        return OverloadedError(retry_after(self.expected_wait_s))

    async def submit(self, lane: str, items: Sequence[Submission], *, timeout_s: float | None = None) -> list[Decision]:
        """Decisions for `items`, in order. Cancelling the call takes its texts out of the queue.

        Raises:
            KeyError: if there is no such lane.
            DrainingError: if the server is shutting down.
            OverloadedError: if there is no room, or the wait would be too long.
            LateError: if the time ran out.
            ScoringError: if the engine raised.
        """
        if lane not in self._lanes:
            raise KeyError(lane)
        if not items:
            return []
        loop = asyncio.get_running_loop()
        timeout = self._settings.timeout_s if timeout_s is None else min(timeout_s, self._settings.timeout_s)
        window = _window(self._lanes[lane])
        costs = [cost_of(item, cap=_LONGEST_TOKENS, window=window) for item in items]
        self._refuse_if_busy(len(items), sum(costs), timeout)
        job = Job(lane, items, costs, admitted=loop.time(), deadline=loop.time() + timeout)
        future = self._futures[job] = loop.create_future()
        self._queue.admit(job)
        self._wake.set()
        timer = loop.call_at(job.deadline, self._expire, job)
        try:
            await future
        finally:
            timer.cancel()
            self._queue.drop(job)
            self._futures.pop(job, None)
        return [decision for decision in job.results if decision is not None]

    def _refuse_if_busy(self, items: int, cost: int, timeout_s: float) -> None:
        if self.draining:
            raise DrainingError("the server is shutting down")
        too_long = self.expected_wait_s > self._settings.queue_delay_s
        too_late = self._pace.wait_s(self._queue.cost + self._running_cost + cost) > _SAFETY * timeout_s
        # An idle server takes any call that fits: a first measurement may be far too slow.
        busy = self._queue.items > 0 and (too_long or too_late)
        if busy or not self._queue.can_admit(items):
            raise self.refusal()

    def _expire(self, job: Job) -> None:
        self._fail(job, LateError("the request's time ran out"))

    def _fail(self, job: Job, error: Exception) -> None:
        self._queue.drop(job)
        future = self._futures.get(job)
        if future is not None and not future.done():
            future.set_exception(error)

    async def _score_forever(self) -> None:
        while True:
            batch = await self._next_batch()
            if batch is None:
                return
            await self._score(batch)

    async def _next_batch(self) -> Batch | None:
        """Wait for something to do; None when draining and nothing is left."""
        while not self._queue.items:
            if self.draining:
                return None
            self._wake.clear()
            await self._wake.wait()
        if self._settings.linger_ms > 0 and self._queue.cost < self._settings.batch_tokens:
            await asyncio.sleep(self._settings.linger_ms / 1000)
        return self._queue.take() or await self._next_batch()

    async def _score(self, batch: Batch) -> None:
        """Score a batch; if that fails, each job's part on its own: one text cannot fail its neighbours."""
        self._running_cost += batch.cost
        error = await self._try(batch)
        parts = batch.by_job()
        if error is not None and len(parts) > 1:
            for part in parts:
                error = await self._try(part)
                if error is not None:
                    self._fail_all(part, error)
        elif error is not None:
            self._fail_all(batch, error)
        self._running_cost -= batch.cost

    async def _try(self, batch: Batch) -> Exception | None:
        """Score and deliver; returns what went wrong."""
        loop = asyncio.get_running_loop()
        waited = loop.time() - min(job.admitted for job, _ in batch.pieces)
        began = time.perf_counter()
        future = loop.run_in_executor(self._pool, self._lanes[batch.lane].check_many, batch.submissions())
        # `wait` raises nothing of what the engine raised: a scorer outlives it.
        await asyncio.wait({future})
        seconds = time.perf_counter() - began
        error = future.exception()
        if error is None and len(future.result()) != len(batch.pieces):
            error = ValueError("the engine returned another number of decisions")
        fill = batch.cost / self._settings.batch_tokens
        self._watch(Scored(len(batch.pieces), batch.cost, fill, seconds, waited, error is not None))
        if error is None:
            self._pace.saw(tokens=batch.cost, seconds=seconds, full=batch.full)
            self._deliver(batch, future.result())
        return error if isinstance(error, Exception) else None

    def _fail_all(self, batch: Batch, error: Exception) -> None:
        for job, _ in batch.pieces:
            self._fail(job, ScoringError(type(error).__name__))

    def _deliver(self, batch: Batch, decisions: Sequence[Decision]) -> None:
        for (job, index), decision in zip(batch.pieces, decisions, strict=True):
            job.results[index] = decision
            job.finished += 1
            future = self._futures.get(job)
            if job.finished == len(job.items) and future is not None and not future.done():
                future.set_result(None)

    async def drain(self) -> None:
        """Accept nothing more, finish what was accepted (for at most `drain_s`), and stop the scorers."""
        self.draining = True
        self._wake.set()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=self._settings.drain_s)
            for task in late:
                task.cancel()
        for job in list(self._futures):
            self._fail(job, DrainingError("the server shut down before this was judged"))
        self._pool.shutdown(wait=False, cancel_futures=True)
