"""Whether the game pays: evasion before and after two rounds, on attacks and texts that were not trained on.

    python scripts/measure_game.py --pool POOL --out RUN [--rows 16000]

    python scripts/measure_game.py --pool POOL --out RUN --base BASE --start MINI --paired [--rows 10000]

Trains the n-gram guard on a part of the pool, or goes on from a finished run of `wardgate train mini`; plays two rounds
of the laptop game with one part of the attacks, and measures the classifiers on held-back texts under all of them,
through the normaliser as the engine does. A control is trained on as many rewrites of the same kind, drawn without a
game. Takes some minutes on one core with the n-gram guard, about an hour on two with the encoder.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wardgate.engine.language import detect_language
from wardgate.guards.ngrams import NgramSettings
from wardgate.normalise.disguise import DISGUISES
from wardgate.train.duo.builtin import Mini
from wardgate.train.duo.filters import Filters
from wardgate.train.duo.game import Game, Players, Rules
from wardgate.train.duo.ledger import Ledger
from wardgate.train.duo.moves import rewritten
from wardgate.train.duo.players import EditGenerator, KeepsLabel, Ngrams
from wardgate.train.duo.policy import NONE, EditPolicy, Learning
from wardgate.train.duo.setup import going_on
from wardgate.train.mini_data import planned, split_of
from wardgate.train.nano import NanoSettings
from wardgate.train.written import requests

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from wardgate.data.example import Example
    from wardgate.train.duo.players import Classifier, Trainee

    Array = NDArray[np.float64]

PLAYED = ("char_swap", "leet", "zero_width", "padding_before", "code_switch", "casing", "role_play", "homoglyph")
"""The generator's edits. All other attacks are held out."""

UNSEEN = tuple(name for name in DISGUISES if name not in PLAYED)
FALSE_POSITIVES = 0.025
"""The share of safe calibration texts that a classifier may flag; its threshold is set there, plain texts only."""


CLEAN, SHORT = 2000, 300
"""Held-back rows that clean F1 is measured on, drawn at random, and the most letters of those that are attacked: nested
encodings make texts ten times as long."""


@dataclass(frozen=True)
class Parts:
    """Examples by part."""

    train: list[Example]
    calibrate: list[Example]
    held: list[Example]


def parts_of(pool: Path, rows: int, seed: int) -> Parts:
    """The pool under the built-in guard's plan, without repeats; `rows` training rows."""
    unique = {e.id: e for e in planned(pool, seed)}.values()
    by: dict[str, list[Example]] = {"train": [], "calibrate": [], "held-back": []}
    for example in unique:
        by[split_of(example.text)].append(example)
    rng = np.random.default_rng(seed)
    train = [by["train"][i] for i in sorted(rng.permutation(len(by["train"]))[:rows])]
    train += [e for e in requests() if split_of(e.text) == "train"]
    return Parts(train, by["calibrate"], by["held-back"])


def threshold(classifier: Classifier, parts: Parts) -> float:
    """Where the stated share of safe calibration texts is flagged."""
    safe = [e.text for e in parts.calibrate if e.unsafe is False]
    some = np.random.default_rng(2).permutation(len(safe))[:CLEAN]
    p = classifier.unsafe([safe[i] for i in some])
    return float(np.quantile(p, 1 - FALSE_POSITIVES))


def measured(classifier: Classifier, parts: Parts, most: int) -> dict[str, object]:
    """Clean F1, and per attack the share of found texts that slip through, with that of safe texts flagged."""
    at = threshold(classifier, parts)
    known = [e for e in parts.held if e.unsafe is not None]
    known = [known[i] for i in np.random.default_rng(1).permutation(len(known))[:CLEAN]]
    y = np.array([bool(e.unsafe) for e in known])
    flagged = classifier.unsafe([e.text for e in known]) >= at
    f1 = 2 * (flagged & y).sum() / (flagged.sum() + y.sum())
    short = np.array([len(e.text) <= SHORT for e in known])
    unsafe, safe = ([known[i].text for i in np.flatnonzero(short & (y == side))[:most]] for side in (True, False))
    found = flagged[short & y][:most]
    slips, safe_flagged = {}, {}
    for name, attack in DISGUISES.items():
        slips[name] = (classifier.unsafe([attack(t, seed=7) for t in unsafe]) < at)[found]
        safe_flagged[name] = float((classifier.unsafe([attack(t, seed=7) for t in safe]) >= at).mean())
    out: dict[str, object] = {"threshold": at, "clean_f1": float(f1), "found": int(found.sum())}
    out["attacks"] = {n: {"evasion": float(slips[n].mean()), "safe_flagged": safe_flagged[n]} for n in DISGUISES}
    for group, names in (("played", PLAYED), ("unseen", UNSEEN)):
        table = np.stack([slips[n] for n in names])
        boot = np.random.default_rng(0).integers(0, table.shape[1], (1000, table.shape[1]))
        low, high = np.quantile(table.mean(0)[boot].mean(1), [0.025, 0.975])
        out[group] = {
            "evasion": round(float(table.mean()), 4),
            "interval": [round(float(low), 4), round(float(high), 4)],
            "any_attack": round(float(table.any(0).mean()), 4),
            "safe_flagged": round(float(np.mean([safe_flagged[n] for n in names])), 4),
        }
    return out


def trainee_of(given: argparse.Namespace, say: Callable[[str], None]) -> Trainee:
    """The n-gram guard from scratch, or the encoder from a run."""
    if given.start is None:
        return Ngrams(NanoSettings(seed=given.seed, epochs=4), NgramSettings())

    def report(step: int, total: int, loss: float) -> None:
        say(f"step {step} of {total}, loss {loss:.3f}")

    return Mini(given.base, given.start, going_on(given.seed), report)


def control(game: Game, parts: Parts, trainee: Trainee, folder: Path, rewrites: int) -> None:
    """A classifier trained on as many rewrites by the same edits, drawn alike and without looking at any classifier."""
    if folder.exists():
        return
    policy = EditPolicy.uniform((NONE, *PLAYED))
    by_id = {e.id: e for e in parts.train}
    drawn = policy.propose(game.seeds, -(-rewrites // len(game.seeds)), 9, 99)[:rewrites]
    trainee.train(parts.train, [rewritten(by_id[p.seed], p) for p in drawn], folder)


def main() -> None:
    """Play and measure."""
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--pool", type=Path, required=True)
    reader.add_argument("--out", type=Path, required=True)
    reader.add_argument("--rows", type=int, default=16_000)
    reader.add_argument("--rewrite", type=int, default=2000)
    reader.add_argument("--k", type=int, default=4)
    reader.add_argument("--rounds", type=int, default=2)
    reader.add_argument("--texts", type=int, default=400)
    reader.add_argument("--seed", type=int, default=0)
    reader.add_argument("--threshold", type=float, default=0.5)
    reader.add_argument("--base", type=Path, help="the encoder's base, with --start")
    reader.add_argument(
        "--start", type=Path, help="a finished run of `wardgate train mini`, in place of the n-gram guard"
    )
    reader.add_argument("--no-control", action="store_true")
    reader.add_argument("--paired", action="store_true", help="see Rules.paired")
    given = reader.parse_args()
    started = time.monotonic()
    parts = parts_of(given.pool, given.rows, given.seed)

    def say(text: str) -> None:
        sys.stderr.write(f"{time.monotonic() - started:6.0f} s  {text}\n")

    trainee = trainee_of(given, say)
    generator = EditGenerator(EditPolicy.uniform((NONE, *PLAYED)), Learning(beta=0.1), given.seed)
    filters = Filters(length=4000, refusals=False, language=False, near=None)
    rules = Rules(
        rounds=given.rounds,
        k=given.k,
        threshold=given.threshold,
        filters=filters,
        rewrite=given.rewrite,
        chance=given.seed,
        paired=given.paired,
    )
    ledger = Ledger(given.out / "game", rules.as_dict() | {"rows": given.rows, "played": PLAYED})
    game = Game(parts.train, rules, Players(generator, KeepsLabel(), trainee), ledger, detect_language, say)
    game.play()
    if not given.no_control:
        control(game, parts, trainee, given.out / "control", len(game.misses(given.rounds)))
    results: dict[str, object] = {"rows": {"train": len(parts.train), "held": len(parts.held)}}
    folders = {f"round {t}": given.out / "game" / f"classifier-{t}" for t in range(given.rounds + 1)}
    if not given.no_control:
        folders["control"] = given.out / "control"
    for name, folder in folders.items():
        results[name] = measured(trainee.open(folder), parts, given.texts)
        say(f"{name}: measured")
    (given.out / "results.json").write_text(json.dumps(results, indent=1))
    for name in folders:
        r = results[name]
        for group in ("played", "unseen"):
            sys.stdout.write(f"{name:8s} {group:6s} {json.dumps(r[group])} clean F1 {r['clean_f1']:.4f}\n")  # type: ignore[index]


if __name__ == "__main__":
    main()
