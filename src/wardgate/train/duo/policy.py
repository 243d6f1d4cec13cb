"""The generator that runs on a laptop: a softmax policy over edits that keep the label, learnt by REINFORCE.

A rewrite is a few edits one after another, each drawn from its own softmax (or none at all): the attacks of
`normalise/disguise.py`, and translation where a table or an engine is at hand. Its objective is the game's own,

    E[-log p_theta(y | x~)] - beta KL(pi || pi_0),

with the KL term exact, since there are only so many edits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from wardgate.normalise.disguise import DISGUISES
from wardgate.train.duo.moves import Proposal, Seed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Edit = Callable[[str, int], str]
    Reward = Callable[[Sequence[Seed], Sequence[str]], Array]

NONE = "none"
"""The edit that changes nothing."""

EDITS = (NONE, *DISGUISES)
"""Every edit that needs nothing installed."""


@dataclass(frozen=True, slots=True)
class Learning:
    """How the policy learns.

    Attributes:
        beta: weight of the KL term to its start, in nats of reward per nat.
        rate: step size on the logits.
        steps: updates per round.
        batch: rewrites per update.
    """

    beta: float = 0.1
    rate: float = 0.5
    steps: int = 30
    batch: int = 128


@dataclass(frozen=True, slots=True, eq=False)
class EditPolicy:
    """A policy over sequences of edits, one table for safe seeds and one for unsafe ones.

    Attributes:
        names: the edits.
        logits: float64 of shape (2, slots, edits): unsafe seeds are row 1.
        start: the logits it began with.
        tables: translations: edit to text to text; applied to a text that the table knows.
    """

    names: tuple[str, ...]
    logits: Array
    start: Array
    tables: Mapping[str, Mapping[str, str]]

    @classmethod
    def uniform(
        cls, names: Sequence[str] = EDITS, *, slots: int = 2, tables: Mapping[str, Mapping[str, str]] | None = None
    ) -> EditPolicy:
        """A policy that draws every edit alike.

        Raises:
            ValueError: if an edit is not known.
        """
        every = (*names, *(tables or {}))
        strange = [n for n in every if n != NONE and n not in DISGUISES and n not in (tables or {})]
        if strange:
            raise ValueError(f"there is no edit {strange[0]!r}")
        zeros = np.zeros((2, slots, len(every)))
        return cls(every, zeros, zeros.copy(), tables or {})

    def probabilities(self) -> Array:
        """*Shape:* (2, slots, edits), each row a distribution."""
        return softmax(self.logits)

    def kl(self) -> Array:
        """KL(pi || pi_0) in nats, for safe and for unsafe seeds. *Shape:* (2,)."""
        p = self.probabilities()
        return np.asarray((p * (np.log(p) - np.log(softmax(self.start)))).sum((1, 2)))

    def draw(self, unsafe: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int64]:
        """One sequence of edits per seed. *Shape:* (n, slots)."""
        cumulative = self.probabilities().cumsum(-1)[unsafe.astype(int)]
        u = rng.random(cumulative.shape[:2])[..., None]
        return np.asarray((u > cumulative[..., :-1]).sum(-1))

    def apply(self, text: str, edits: Sequence[int], seed: int) -> str:
        """Make the edits, in order."""
        for slot, index in enumerate(edits):
            name = self.names[index]
            if name in self.tables:
                text = self.tables[name].get(text, text)
            elif name != NONE:
                text = DISGUISES[name](text, seed=seed * 31 + slot)
        return text

    def propose(
        self, seeds: Sequence[Seed], k: int, round_: int, chance: int, *, mirrored: float = 0.0
    ) -> list[Proposal]:
        """K rewrites of each seed.

        Args:
            seeds: what to rewrite.
            k: rewrites of each.
            round_: the round, for ids and chance.
            chance: seed of what is drawn.
            mirrored: share of the rewrites that is drawn from the other side's table.
        """
        out: list[Proposal] = []
        for number in range(k):
            rng = np.random.default_rng([chance, round_, number])
            sides = np.array([s.unsafe for s in seeds], dtype=bool)
            if mirrored:
                sides ^= rng.random(len(seeds)) < mirrored
            drawn = self.draw(sides, rng)
            for seed, edits in zip(seeds, drawn, strict=True):
                how = tuple(self.names[i] for i in edits if self.names[i] != NONE)
                text = self.apply(seed.text, edits, chance * 1009 + round_ * 97 + number)
                out.append(Proposal(f"{round_}/{seed.id}/{number}", seed.id, text, seed.language, how))
        return out

    def learnt(self, seeds: Sequence[Seed], reward: Reward, learning: Learning, chance: int) -> EditPolicy:
        """The policy after one round of REINFORCE against a fixed classifier.

        Args:
            seeds: what to rewrite.
            reward: the reward of rewrites, -log p(y | x~). *Shape:* (n,)
            learning: beta, rate, steps, batch.
            chance: seed of what is drawn.
        """
        policy = self
        for step in range(learning.steps):
            rng = np.random.default_rng([chance, step])
            some = [seeds[i] for i in rng.integers(0, len(seeds), learning.batch)]
            unsafe = np.array([s.unsafe for s in some], dtype=bool)
            edits = policy.draw(unsafe, rng)
            texts = [policy.apply(s.text, e, step) for s, e in zip(some, edits, strict=True)]
            gradient = policy.gradient(unsafe, edits, reward(some, texts), learning.beta)
            policy = replace(policy, logits=policy.logits + learning.rate * gradient)
        return policy

    def gradient(self, unsafe: NDArray[np.bool_], edits: NDArray[np.int64], rewards: Array, beta: float) -> Array:
        """An unbiased estimate of the objective's gradient in the logits.

        The baseline of a rewrite is the mean reward of the others on its side, so it does not bias the estimate;
        the KL term's gradient is exact.

        Args:
            unsafe: which table each rewrite was drawn from. *Shape:* (n,)
            edits: what was drawn. *Shape:* (n, slots)
            rewards: *Shape:* (n,)
            beta: weight of the KL term.

        Returns:
            *Shape:* (2, slots, edits)
        """
        p, total = self.probabilities(), np.zeros_like(self.logits)
        for side in (0, 1):
            mine = unsafe == bool(side)
            n = int(mine.sum())
            if n < 2:
                continue
            r = rewards[mine]
            advantage = (r - (r.sum() - r) / (n - 1)) / n
            for slot in range(edits.shape[1]):
                np.add.at(total[side, slot], edits[mine, slot], advantage)
                total[side, slot] -= advantage.sum() * p[side, slot]
        ratio = np.log(p) - np.log(softmax(self.start))
        total -= beta * p * (ratio - (p * ratio).sum(-1, keepdims=True))
        return total

    def as_dict(self) -> dict[str, object]:
        """Plain JSON values; translation tables are not among them."""
        return {"names": list(self.names), "logits": self.logits.tolist(), "start": self.start.tolist()}

    @classmethod
    def from_dict(cls, values: Mapping[str, object], tables: Mapping[str, Mapping[str, str]]) -> EditPolicy:
        """Read a policy back from `as_dict`."""
        arrays = [np.array(values[name], dtype=np.float64) for name in ("logits", "start")]
        return cls(tuple(values["names"]), arrays[0], arrays[1], tables)  # type: ignore[arg-type]


def softmax(logits: Array) -> Array:
    """Along the last axis."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(-1, keepdims=True))


def translations(seeds: Sequence[Seed], pairs: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Translation tables of English seeds by Apertium, one process a language; empty where it is not installed.

    Args:
        seeds: what may be rewritten.
        pairs: edit's name to Apertium pair, such as `{"to_spanish": "eng-spa"}`.
    """
    import shutil

    from wardgate.train.mini_data import apertium

    if shutil.which("apertium") is None:
        return {}
    english = list(dict.fromkeys(s.text for s in seeds if s.language == "en"))
    flat = [" ".join(t.split()) for t in english]
    return {name: dict(zip(english, apertium(flat, pair), strict=True)) for name, pair in pairs.items()}
