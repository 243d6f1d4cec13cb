"""`wardgate train duo`: the rounds of the game, resumable at every step.

Round t: the generator rewrites each seed k times; the classifier of round t - 1 scores the rewrites and the rater
rates them; filters leave some out; what is left and missed is added to what was missed before; pairs are made by
level; the generator learns; a new classifier is trained on the seeds and everything missed so far (DuoGuard,
arXiv 2502.05163, algorithm 1). No text is logged: the run's folder holds it, and the card counts it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from wardgate.data.rows import DataError, read_rows, write_rows
from wardgate.train.duo.filters import Filters, copies, why_dropped, wrong_side
from wardgate.train.duo.moves import ALLOWED, OWN, Pair, Proposal, Scored, read_moves, rewritten, seeds_of, write_moves
from wardgate.train.duo.pairing import level_of, pairs_of
from wardgate.train.folder import write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from wardgate.data.example import Example
    from wardgate.hazards import Hazard
    from wardgate.train.duo.filters import Identify
    from wardgate.train.duo.ledger import Ledger
    from wardgate.train.duo.moves import Seed
    from wardgate.train.duo.players import Classifier, Generator, Rater, Trainee

    Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Rules:
    """How the game is played.

    Attributes:
        rounds: how many.
        k: rewrites per seed (DuoGuard: 8).
        languages: what seeds are rewritten into; `own` for the language that each has.
        threshold: P(unsafe) from which the classifier flags.
        filters: what is left out.
        per_seed: preference pairs per seed at most.
        allowed: hazards whose seeds may be rewritten.
        chunk: seeds per step that is written down on its own.
        rewrite: most seeds that are rewritten, drawn by chance; None takes all.
        chance: seed of what is drawn.
        paired: beside each miss, train on a rewrite of the other label that was made the same way, where there is
            one. Misses alone are one-sided: a classifier that misses padded unsafe texts would learn that padding is
            unsafe (`docs/training.md` has the figures). DuoGuard's algorithm has no such step.
        longest: most letters of a seed that is rewritten; None takes any. What surrounds a text can push it out of the
            window that a model is trained on, and its label would then be wrong.
        drawn: train on so many of each round's kept rewrites, drawn by chance, missed or not; None takes the missed.
            Then the classifier answers the generator's distribution, as the theorem has it; of what is missed much is
            missed in plain too (71 % in one game, `docs/training.md`).
        hardest: train on so many kept rewrites of each seed, those that the classifier loses most on; None takes the
            missed. Adversarial training against the worst of k draws (Engstrom et al., ICML 2019, arXiv 1712.02779,
            section 4): every seed is seen as often, so what is learnt is which edits hide and not which seeds are hard.
    """

    rounds: int = 2
    k: int = 8
    languages: tuple[str, ...] = (OWN,)
    threshold: float = 0.5
    filters: Filters = field(default_factory=Filters)
    per_seed: int = 1
    allowed: frozenset[Hazard] = ALLOWED
    chunk: int = 512
    rewrite: int | None = None
    chance: int = 0
    paired: bool = False
    longest: int | None = None
    drawn: int | None = None
    hardest: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"allowed": sorted(self.allowed)}


@dataclass(frozen=True, slots=True)
class Players:
    """Who plays."""

    generator: Generator
    rater: Rater
    trainee: Trainee


def added(scored: Sequence[Scored], proposals: dict[str, Proposal], *, paired: bool) -> list[Scored]:
    """What a round adds to the training data: what was kept and missed, with its counterparts if `paired`.

    The counterpart of a miss has the other label and was made by the same edits; each is used once, in the order of
    the scores.
    """
    kept = [s for s in scored if not s.dropped]
    new = [s for s in kept if s.missed]
    if not paired:
        return new
    free: dict[tuple[object, bool], list[Scored]] = {}
    for s in kept:
        if not s.missed:
            free.setdefault((proposals[s.proposal].how, s.unsafe), []).append(s)
    for s in list(new):
        others = free.get((proposals[s.proposal].how, not s.unsafe))
        if others:
            new.append(others.pop(0))
    return new


def drawn(scored: Sequence[Scored], most: int, chance: int) -> list[Scored]:
    """At most so many of a round's kept rewrites, by chance."""
    kept = [s for s in scored if not s.dropped]
    return [kept[i] for i in sorted(np.random.default_rng(chance).permutation(len(kept))[:most])]


def hardest(scored: Sequence[Scored], each: int) -> list[Scored]:
    """So many of each seed's kept rewrites, those with the highest reward, seeds in order of appearance."""
    by_seed: dict[str, list[Scored]] = {}
    for s in scored:
        if not s.dropped:
            by_seed.setdefault(s.seed, []).append(s)
    return [s for some in by_seed.values() for s in sorted(some, key=lambda s: -s.reward)[:each]]


class Game:
    """One game: its rules, players and folder.

    Every public step makes one artefact of the run's folder, and leaves it as it is where it is there already.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        rules: Rules,
        players: Players,
        ledger: Ledger,
        identify: Identify,
        report: Report = lambda _: None,
    ) -> None:
        """Set up a game.

        Raises:
            DataError: if no example may be rewritten, or those that may are all safe or all unsafe.
        """
        self.examples = list(examples)
        self.rules, self.players, self.ledger = rules, players, ledger
        self._identify, self._report = identify, report
        seeds, self.left_out = seeds_of(self.examples, rules.allowed)
        if rules.longest is not None:
            short = [s for s in seeds if len(s.text) <= rules.longest]
            self.left_out["too long"] = len(seeds) - len(short)
            seeds = short
        if {s.unsafe for s in seeds} != {True, False}:
            raise DataError(f"no game without safe and unsafe seeds that may be rewritten (left out: {self.left_out})")
        self.seeds = self._drawn(seeds)
        self._by_id = {e.id: e for e in self.examples}

    def _drawn(self, seeds: list[Seed]) -> list[Seed]:
        if self.rules.rewrite is None or self.rules.rewrite >= len(seeds):
            return seeds
        rng = np.random.default_rng(self.rules.chance)
        return [seeds[i] for i in sorted(rng.choice(len(seeds), self.rules.rewrite, replace=False))]

    def play(self) -> Path:
        """Play all rounds.

        Returns:
            The last classifier's folder.
        """
        self.classifier(0)
        for round_ in range(1, self.rules.rounds + 1):
            self.round(round_)
        self.ledger.once("card.json", "card", self._card, [f"classifier-{t}" for t in range(self.rules.rounds + 1)])
        return self.ledger.folder / f"classifier-{self.rules.rounds}"

    def round(self, t: int) -> None:
        """One round."""
        self.proposals(t)
        self.scored(t)
        self.misses(t)
        self.pairs(t)
        self.generator(t)
        self.classifier(t)

    # --- the steps -----------------------------------------------------------------------------------------------

    def proposals(self, t: int) -> list[Proposal]:
        """The rewrites of a round, written down chunk by chunk."""
        parts = []
        for language in self.rules.languages:
            for number, start in enumerate(range(0, len(self.seeds), self.rules.chunk)):
                name = f"proposals-{t}/{language}-{number:05d}.jsonl"
                parts.append(name)
                if self.ledger.made(name):
                    continue
                self._report(f"round {t}: rewriting, {language}, {start} of {len(self.seeds)} seeds")
                some = self.seeds[start : start + self.rules.chunk]
                found = self._generator(t - 1).propose(some, language, self.rules.k, t)
                self.ledger.once(name, "sample", lambda p, f=found: write_moves(p, f), self._generator_inputs(t - 1))  # type: ignore[misc]
        return [p for name in parts for p in read_moves(self.ledger.folder / name, Proposal)]

    def scored(self, t: int) -> list[Scored]:
        """What classifier and rater say of a round's rewrites, and which a filter leaves out."""

        def make(path: Path) -> None:
            self._report(f"round {t}: scoring")
            write_moves(path, self._judge(self.proposals(t), self._classifier(t - 1)))

        path = self.ledger.once(f"scored-{t}.jsonl", "score", make, [f"classifier-{t - 1}"])
        return read_moves(path, Scored)

    def misses(self, t: int) -> list[Example]:
        """What is trained on up to a round: rewrites kept and missed, or chosen otherwise, with their seeds' labels."""
        if t == 0:
            return []

        def make(path: Path) -> None:
            proposals = {p.id: p for p in self.proposals(t)}
            rules, scored = self.rules, self.scored(t)
            if rules.hardest is not None:
                new = hardest(scored, rules.hardest)
            elif rules.drawn is not None:
                new = drawn(scored, rules.drawn, rules.chance + t)
            else:
                new = added(scored, proposals, paired=rules.paired)
            found = [rewritten(self._by_id[s.seed], proposals[s.proposal]) for s in new]
            write_rows(path, [*self.misses(t - 1), *found])

        path = self.ledger.once(f"misses-{t}.jsonl", "accumulate", make, [f"scored-{t}.jsonl"])
        return list(read_rows(path))

    def pairs(self, t: int) -> list[Pair]:
        """The round's preference pairs."""

        def make(path: Path) -> None:
            proposals = {p.id: p for p in self.proposals(t)}
            write_moves(path, pairs_of(self.scored(t), proposals, per_seed=self.rules.per_seed))

        return read_moves(self.ledger.once(f"pairs-{t}.jsonl", "pair", make, [f"scored-{t}.jsonl"]), Pair)

    def generator(self, t: int) -> Path:
        """The generator after a round."""

        def make(path: Path) -> None:
            self._report(f"round {t}: the generator learns")
            self._generator(t - 1).improve(self.seeds, self.pairs(t), self._classifier(t - 1), path)

        return self.ledger.once(f"generator-{t}", "improve", make, [f"pairs-{t}.jsonl", f"classifier-{t - 1}"])

    def classifier(self, t: int) -> Path:
        """The classifier after a round, trained from scratch."""

        def make(path: Path) -> None:
            misses = self.misses(t)
            self._report(f"round {t}: training on {len(self.examples)} examples and {len(misses)} rewrites")
            self.players.trainee.train(self.examples, misses, path)

        return self.ledger.once(f"classifier-{t}", "train", make, [f"misses-{t}.jsonl"] if t else [])

    # --- what the steps are made of ------------------------------------------------------------------------------

    def _generator_inputs(self, t: int) -> list[str]:
        return [f"generator-{t}"] if t else []

    def _generator(self, t: int) -> Generator:
        first = self.players.generator
        return first if t == 0 else first.open(self.ledger.folder / f"generator-{t}")

    def _classifier(self, t: int) -> Classifier:
        return self.players.trainee.open(self.ledger.folder / f"classifier-{t}")

    def _judge(self, proposals: Sequence[Proposal], classifier: Classifier) -> list[Scored]:
        seeds = {s.id: s for s in self.seeds}
        mine = [seeds[p.seed] for p in proposals]
        p = classifier.unsafe([one.text for one in proposals])
        ratings = self.players.rater.rate(mine, proposals)
        again = copies(self.seeds, proposals, self.rules.filters.near)
        out = []
        for proposal, seed, chance, rating in zip(proposals, mine, p.tolist(), ratings, strict=True):
            failed = not np.isfinite(chance)
            flagged = not failed and chance >= self.rules.threshold
            one = Scored(proposal.id, seed.id, seed.unsafe, 0.5 if failed else chance, rating, flagged != seed.unsafe)
            dropped = "not scored" if failed else why_dropped(seed, proposal, self.rules.filters, self._identify)
            if not dropped and proposal.id in again:
                dropped = "a copy"
            out.append(replace(one, dropped=dropped or wrong_side(one, self.rules.filters)))
        return out

    def _card(self, path: Path) -> None:
        rounds = []
        for t in range(1, self.rules.rounds + 1):
            scored = self.scored(t)
            kept = [s for s in scored if not s.dropped]
            rounds.append(
                {
                    "generated": len(scored),
                    "dropped": dict(Counter(s.dropped for s in scored if s.dropped).most_common()),
                    "missed": sum(s.missed for s in kept),
                    "missed_unsafe": sum(s.missed and s.unsafe for s in kept),
                    "unsafe": sum(s.unsafe for s in kept),
                    "levels": dict(sorted(Counter(level_of(s).value for s in kept).items())),
                    "pairs": len(self.pairs(t)),
                    "accumulated": len(self.misses(t)),
                }
            )
        hazards = Counter(h for s in self.seeds for h in s.hazards)
        write_json(
            path,
            {
                "rules": self.rules.as_dict(),
                "seeds": len(self.seeds),
                "seeds_left_out": self.left_out,
                "seed_hazards": dict(hazards.most_common()),
                "rounds": rounds,
            },
        )
