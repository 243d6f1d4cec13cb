"""Two guards as one: an encoder, which reads, beside n-grams, which know words ("wide and deep").

Their mistakes differ, so the sum of their logits ranks texts better than either, and n-grams cost next to nothing.
Cheng et al. 2016 (arXiv 1606.07792) train both parts together; here each is trained alone, and one number joins them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from wardgate.guards.scores import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wardgate.guards.scores import Guard, Link, Scores, View
    from wardgate.hazards import LabelMap


class BlendGuard:
    """Adds a share of one guard's logits to another's.

    Attributes:
        name: the guard's name.
        labels: what its logits mean.
        link: that of both.
        deep, wide: the guards.
        share: what the logits of `wide` are multiplied with before they are added.
    """

    name: str
    labels: LabelMap
    link: Link

    def __init__(self, name: str, deep: Guard, wide: Guard, share: float) -> None:
        """Join two guards.

        Raises:
            ValueError: if they do not answer the same labels in the same way.
        """
        if deep.labels.labels != wide.labels.labels or deep.link is not wide.link:
            raise ValueError(f"{deep.name!r} and {wide.name!r} do not answer the same labels")
        self.name, self.labels, self.link = name, deep.labels, deep.link
        self.deep, self.wide, self.share = deep, wide, share

    def score(self, batch: Sequence[View]) -> Scores:
        """Score a batch; rows keep the order given, and one that either guard could not score is not scored."""
        deep, wide = self.deep.score(batch), self.wide.score(batch)
        first = [d if d is not Status.OK else w for d, w in zip(deep.status, wide.status, strict=True)]
        reasons = [d or w for d, w in zip(deep.reasons, wide.reasons, strict=True)]
        return replace(
            deep,
            guard=self.name,
            logits=deep.logits + self.share * wide.logits,
            status=tuple(first),
            reasons=tuple(reasons),
            ms=deep.ms + wide.ms,
        )
