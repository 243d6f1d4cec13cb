"""A candidate beside the live engine: it sees the same texts, decides nothing, and where it differs is recorded."""

from __future__ import annotations

import json
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from wardgate.engine import Submission
    from wardgate.policy import Decision
    from wardgate.serve.batcher import Checker
    from wardgate.serve.metrics import Metrics

# Texts that may wait for the shadow. Beyond it the newest are not looked at: the live server comes first.
_MOST_WAITING = 512


class Shadow:
    """Runs a candidate in a thread of its own. What it has no time for is counted, not hidden."""

    def __init__(
        self,
        name: str,
        candidates: Mapping[str, Checker],
        *,
        record: Callable[[Decision, Decision], None],
        metrics: Metrics,
    ) -> None:
        """Make a shadow.

        Args:
            name: what metrics call it.
            candidates: by live policy, what looks at the same texts; policies without one are not looked at.
            record: told of each live decision that the candidate would have made otherwise.
            metrics: where comparisons are counted.
        """
        self._name = name
        self._candidates = candidates
        self._record = record
        self._metrics = metrics
        self._waiting = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=f"wardgate-shadow-{name}")

    def stop(self) -> None:
        """Finish what waits, and stop."""
        self._pool.shutdown()

    def saw(self, lane: str, items: Sequence[Submission], decisions: Sequence[Decision]) -> None:
        """Take live decisions of one policy; returns at once."""
        candidate = self._candidates.get(lane)
        if candidate is None:
            return
        with self._lock:
            if self._waiting + len(items) > _MOST_WAITING:
                self._metrics.shadow_dropped(self._name, len(items))
                return
            self._waiting += len(items)
        future = self._pool.submit(candidate.check_many, list(items))
        future.add_done_callback(partial(self._compare, list(decisions)))

    def _compare(self, live: list[Decision], future: Future[list[Decision]]) -> None:
        with self._lock:
            self._waiting -= len(live)
        error = future.exception()
        if error is not None:  # a candidate may be broken: that is what a shadow is for
            structlog.get_logger("wardgate.shadow").warning("failed", shadow=self._name, exc_info=error)
            self._metrics.shadow_dropped(self._name, len(live))
            return
        for mine, other in zip(live, future.result(), strict=True):
            self._metrics.shadowed(self._name, mine.action.value, other.action.value)
            if mine.action is not other.action or set(mine.flagged) != set(other.flagged):
                self._record(mine, other)


def to_file(path: Path) -> Callable[[Decision, Decision], None]:
    """A recorder that appends one JSON object a difference: both decisions with their scores, and no text."""

    def record(live: Decision, other: Decision) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        row = {"at": now, "live": live.as_dict(), "shadow": other.as_dict()}
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")

    return record
