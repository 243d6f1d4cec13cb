"""`Scores`, the type that the guards room produces, and the protocol every guard keeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from wardgate.hazards import LabelMap


class Status(StrEnum):
    """How a guard fared on one text. Anything but OK carries no score."""

    OK = "ok"
    FAILED = "failed"
    TIMEOUT = "timeout"
    MISSING = "missing"
    SKIPPED = "skipped"


class Link(StrEnum):
    """How the logits of a row become probabilities: each on its own, or together."""

    SIGMOID = "sigmoid"
    SOFTMAX = "softmax"


@dataclass(frozen=True, slots=True)
class View:
    """One version of what is to be judged: a text, or a prompt with its response.

    `language` (ISO 639-1, None when not known) is for guards with rules per language; views that differ in it alone
    are equal.
    """

    text: str
    response: str | None = None
    language: str | None = field(default=None, compare=False)

    @property
    def joined(self) -> str:
        """The text, with its response as a paragraph after it where there is one."""
        return self.text if self.response is None else f"{self.text}\n\n{self.response}"


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a view that a label points at: half-open character offsets into one side of the view.

    `side` is `text` or `response`. Guards give offsets in the view they saw; the engine maps them to the raw text.
    """

    label: str
    start: int
    end: int
    side: str = "text"


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Raw scores of one guard over a batch of n views.

    Attributes:
        guard: the guard's name.
        labels: L native labels, in model order.
        logits: float32 of shape (n, L). NaN means not scored, which is never the same as 0.
        link: how a row becomes probabilities.
        status: n statuses; a row that is not OK is all NaN.
        ms: float32 of shape (n,): wall-clock milliseconds spent, a batch's time shared by its tokens.
        reasons: n short reasons, empty for OK rows; never any user text.
        spans: per row, the pieces that labels point at; empty when the guard gives none at all.
        details: per row, what else the guard said (a judge's written confidence, say); empty when nothing.
    """

    guard: str
    labels: tuple[str, ...]
    logits: NDArray[np.float32]
    link: Link
    status: tuple[Status, ...]
    ms: NDArray[np.float32]
    reasons: tuple[str, ...] = ()
    spans: tuple[tuple[Span, ...], ...] = ()
    details: tuple[Mapping[str, object], ...] = field(default=())

    def __post_init__(self) -> None:
        n, columns = len(self.status), len(self.labels)
        if self.logits.shape != (n, columns):
            raise ValueError(f"logits of guard {self.guard!r} have shape {self.logits.shape}, not {(n, columns)}")
        if self.ms.shape != (n,):
            raise ValueError(f"ms of guard {self.guard!r} has shape {self.ms.shape}, not {(n,)}")
        for name in ("reasons", "spans", "details"):
            if len(getattr(self, name)) not in (0, n):
                raise ValueError(f"{name} of guard {self.guard!r} has {len(getattr(self, name))} rows, not {n}")

    def __len__(self) -> int:
        return len(self.status)

    @classmethod
    def of_fitting(
        cls,
        guard: str,
        labels: tuple[str, ...],
        link: Link,
        logits: NDArray[np.float32],
        ms: NDArray[np.float32],
        *,
        fits: Sequence[bool],
        limit: int,
    ) -> Self:
        """Rows of which those that do not fit failed for being longer than `limit` characters."""
        over = f"longer than {limit} characters"
        return cls(
            guard=guard,
            labels=labels,
            logits=logits,
            link=link,
            status=tuple(Status.OK if fit else Status.FAILED for fit in fits),
            ms=ms,
            reasons=tuple("" if fit else over for fit in fits),
        )

    @classmethod
    def failure(
        cls,
        guard: str,
        labels: tuple[str, ...],
        link: Link,
        n: int,
        status: Status,
        reason: str,
        ms: float = 0.0,
    ) -> Self:
        """N rows that were not scored, all for the same reason."""
        return cls(
            guard=guard,
            labels=labels,
            logits=np.full((n, len(labels)), np.nan, dtype=np.float32),
            link=link,
            status=(status,) * n,
            ms=np.full(n, ms, dtype=np.float32),
            reasons=(reason,) * n,
        )


@runtime_checkable
class Guard(Protocol):
    """What every guard offers.

    `score` never raises for what a text contains: a row that cannot be scored comes back with its status.
    """

    @property
    def name(self) -> str:
        """The name that policies and people use."""
        ...

    @property
    def labels(self) -> LabelMap:
        """The native labels and what each means."""
        ...

    @property
    def link(self) -> Link:
        """How a row of logits becomes probabilities."""
        ...

    def score(self, batch: Sequence[View]) -> Scores:
        """Score a batch; row i of the result belongs to batch[i], whatever order it was computed in."""
        ...
