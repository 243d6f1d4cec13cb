"""How fast scoring goes, and so how long a newcomer will wait."""

from __future__ import annotations

import math

# Batches count for less as scoring goes on, by a factor e in so many seconds of one scorer.
_MEMORY_S = 1.0
_LONGEST_RETRY_S = 60


class Pace:
    """How many tokens are scored per second, over all scorers together.

    Tokens over seconds of the last batches that left texts waiting: a batch that took all there was is as small as
    the traffic, and its overhead says nothing of what a full one would do. Any batch that was faster than the others
    counts as well, so that a slow spell is forgotten. The two are summed apart, because a mean of each batch's own
    rate would be too high: texts that turn out cheap would count for as much as those that take long.
    """

    def __init__(self, *, scorers: int) -> None:
        self._scorers = scorers
        self._tokens = 0.0
        self._seconds = 0.0

    def saw(self, *, tokens: int, seconds: float, full: bool) -> None:
        """Take a finished batch into account; `full` if it left texts waiting."""
        seconds = max(seconds, 1e-6)
        faster = self._seconds > 0 and tokens * self._seconds > self._tokens * seconds
        if full or faster:
            kept = math.exp(-seconds / _MEMORY_S)
            self._tokens = kept * self._tokens + tokens
            self._seconds = kept * self._seconds + seconds

    def wait_s(self, tokens: int) -> float:
        """Seconds until `tokens` are scored; 0 before anything was measured."""
        return tokens * self._seconds / (self._tokens * self._scorers) if self._tokens else 0.0


def retry_after(wait_s: float) -> int:
    """Whole seconds for a `Retry-After` header, 1 to 60."""
    return max(1, min(_LONGEST_RETRY_S, math.ceil(wait_s)))
