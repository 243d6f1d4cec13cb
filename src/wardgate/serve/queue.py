"""What waits to be judged, and what goes into the next batch. Plain Python: no tensors and no event loop."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wardgate.engine import Submission
    from wardgate.policy import Decision

# An English token is about four bytes, and most other scripts spend more bytes a character: an estimate good
# enough to size batches with. The engine counts real tokens when it pads.
BYTES_PER_TOKEN = 4
# A turn of one request inside a batch, so that a call with 500 texts does not hold up a call with one.
TURN_ITEMS = 8


def cost_of(submission: Submission, *, cap: int, window: int = 1) -> int:
    """The estimated tokens of a submission, 1 to `cap`: what is longer than a model reads costs no more.

    Args:
        submission: what is to be judged.
        cap: the most it may cost.
        window: turns that the policy reads together. Those before the text are scored alone, and joined with it.
    """
    size = _size(submission.text) + _size(submission.response or "")
    turns = submission.history[-(window - 1) :] if window > 1 else ()
    if turns:
        size += size + 2 * sum(map(_size, turns))
    return max(1, min(cap, size // BYTES_PER_TOKEN + 2))


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


@dataclass(slots=True, eq=False)
class Job:
    """The texts of one request, all under one policy.

    Attributes:
        lane: the policy's name; only texts of one lane share a batch.
        items: the texts.
        costs: the estimated tokens of each text.
        admitted: when the job came, in the clock's seconds.
        deadline: when the caller stops waiting, in the clock's seconds.
        results: the decisions so far, in the order of `items`.
        taken: how many items were handed out.
        finished: how many have their decision.
    """

    lane: str
    items: Sequence[Submission]
    costs: Sequence[int]
    admitted: float
    deadline: float
    results: list[Decision | None] = field(init=False)
    taken: int = 0
    finished: int = 0

    def __post_init__(self) -> None:
        self.results = [None] * len(self.items)

    @property
    def waiting(self) -> int:
        """How many items have not been handed out."""
        return len(self.items) - self.taken

    @property
    def waiting_cost(self) -> int:
        """The estimated tokens that have not been handed out."""
        return sum(self.costs[self.taken :])


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts that are scored together.

    Attributes:
        lane: the policy's name.
        pieces: which item of which job, in order.
        cost: the estimated tokens of all.
        full: whether texts were left waiting when it was taken.
    """

    lane: str
    pieces: tuple[tuple[Job, int], ...]
    cost: int
    full: bool = False

    def submissions(self) -> list[Submission]:
        """The texts, in the order of the pieces."""
        return [job.items[index] for job, index in self.pieces]

    def by_job(self) -> list[Batch]:
        """The same texts as one batch for each job."""
        pieces: dict[Job, list[tuple[Job, int]]] = {}
        for job, index in self.pieces:
            pieces.setdefault(job, []).append((job, index))
        return [Batch(self.lane, tuple(own), sum(job.costs[i] for _, i in own)) for job, own in pieces.items()]


class Queue:
    """Waiting jobs in lanes. Jobs of a lane take turns; lanes take turns."""

    def __init__(self, *, batch_tokens: int, batch_items: int, max_items: int) -> None:
        self._lanes: dict[str, deque[Job]] = {}
        self._batch_tokens = batch_tokens
        self._batch_items = batch_items
        self._max_items = max_items
        self.items = 0
        self.cost = 0

    @property
    def full(self) -> bool:
        """Whether not even one more text fits."""
        return self.items >= self._max_items

    def can_admit(self, items: int) -> bool:
        """Whether `items` more texts fit."""
        return self.items + items <= self._max_items

    def admit(self, job: Job) -> None:
        """Let a job wait.

        Raises:
            ValueError: if there is no room; ask `can_admit` first.
        """
        if not self.can_admit(job.waiting):
            raise ValueError("the queue is full")
        self._lanes.setdefault(job.lane, deque()).append(job)
        self.items += job.waiting
        self.cost += job.waiting_cost

    def drop(self, job: Job) -> bool:
        """Take a job out (cancelled or late); whether it was still waiting."""
        jobs = self._lanes.get(job.lane)
        if jobs is None or job not in jobs:
            return False
        jobs.remove(job)
        self.items -= job.waiting
        self.cost -= job.waiting_cost
        if not jobs:
            del self._lanes[job.lane]
        return True

    def take(self) -> Batch | None:
        """The next batch, or None when nothing waits. At least one text, whatever its cost."""
        if not self._lanes:
            return None
        lane = next(iter(self._lanes))
        jobs = self._lanes.pop(lane)
        pieces: list[tuple[Job, int]] = []
        left = self._batch_tokens
        while jobs and len(pieces) < self._batch_items:
            spent = self._take_turn(jobs, pieces, left)
            if not spent:
                break
            left -= spent
        if jobs:  # put back behind the other lanes
            self._lanes[lane] = jobs
        cost = self._batch_tokens - left
        self.items -= len(pieces)
        self.cost -= cost
        return Batch(lane, tuple(pieces), cost, full=self.items > 0)

    def _take_turn(self, jobs: deque[Job], pieces: list[tuple[Job, int]], left: int) -> int:
        """Move up to a turn of the first job's items into `pieces`; returns their cost, 0 when none fits."""
        job = jobs[0]
        room = min(TURN_ITEMS, job.waiting, self._batch_items - len(pieces))
        spent = 0
        for _ in range(room):
            cost = job.costs[job.taken]
            if pieces and spent + cost > left:
                break
            pieces.append((job, job.taken))
            job.taken += 1
            spent += cost
        if not job.waiting:
            jobs.popleft()
        elif spent:
            jobs.rotate(-1)
        return spent
