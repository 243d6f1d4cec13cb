"""Measures a cascade of guards against its last tier alone: F1 and texts a second, through the engine.

    python scripts/measure_cascade.py --cheap nano small --dear mini --choose labelled.jsonl --data DIR [--rows 150]

The bands in which the next tier is asked are chosen on the first half of `--choose` (what `wardgate certify` takes),
tier by tier on the rows that reach it: the narrowest outside which it decides otherwise than the dear one for at most
its even share of `--disagree` of all rows. `--bands LOW HIGH ...` takes given ones, two numbers a tier. DIR holds
`*.jsonl.gz` in the pool's form; the first `--rows` of each set, language and kind in a fixed shuffle are used, and only
where both classes are there. Time is processor time, of both in turns of 256 texts, since machines change their pace.
The cascade is then measured and certified on `--choose`'s second half, which the bands have not seen.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import f1_score

from wardgate.engine import Engine, Submission
from wardgate.engine.catalogue import load_guard
from wardgate.evaluate.certify import Labelled, certify, read_labelled
from wardgate.evaluate.figures import Figure
from wardgate.policy import parse_policy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wardgate.engine.catalogue import Loaded
    from wardgate.policy import Decision

TURN = 256
"""Texts that are decided alone, then by the cascade, before the next."""

ALONE = """
policy: alone
version: 1
tiers: [{guards: [%(name)s]}]
rules: [{name: alone, when: {%(name)s.unsafe: %(at)r}, action: block}]
"""


def cascade_of(cheap: Sequence[str], bands: Sequence[tuple[float, float]], at: float) -> str:
    """A policy's text: each cheap guard decides outside its band, `dear` what is left."""
    tiers = [f"  - {{guards: [{n}], unsure: [{low!r}, {high!r}]}}" for n, (low, high) in zip(cheap, bands, strict=True)]
    rules = [(n, high) for n, (_, high) in zip(cheap, bands, strict=True)] + [("dear", at)]
    lines = [f"  - {{name: {n}, when: {{{n}.unsafe: {p!r}}}, action: block}}" for n, p in rules]
    head = ["policy: cascade", "version: 1", "tiers:", *tiers, "  - {guards: [dear]}", "counts: last", "rules:"]
    return "\n".join(head + lines)


def engine(text: str, guards: dict[str, Loaded]) -> Engine:
    """An engine for a policy's text."""
    policy = parse_policy(text.encode(), "cascade")
    return Engine({name: guards[name] for name in policy.guards}, policy)


def decided(made: Engine, texts: list[Submission]) -> tuple[list[Decision], float]:
    """Decisions, and the processor seconds they took."""
    started = time.process_time()
    decisions = made.check_many(texts)
    return decisions, time.process_time() - started


def compared(
    alone: Engine, cascade: Engine, texts: list[Submission], truth: np.ndarray
) -> tuple[list[float], float, np.ndarray, list[Decision]]:
    """F1 of both, the share that reached the dear tier, processor seconds of both, and what the cascade decided.

    Seconds are given turn by turn. *Shape:* (turns, 2)
    """
    dear: list[Decision] = []
    both: list[Decision] = []
    seconds = []
    for start in range(0, len(texts), TURN):
        turn = texts[start : start + TURN]
        (one, slow), (other, fast) = decided(alone, turn), decided(cascade, turn)
        dear += one
        both += other
        seconds.append((slow, fast))
    f1 = [float(f1_score(truth, [not d.allowed for d in made])) for made in (dear, both)]
    tiers = len(cascade.policy.tiers)
    return f1, float(np.mean([len(d.guards) == tiers for d in both])), np.array(seconds), both


def times_as_fast(seconds: np.ndarray) -> Figure:
    """How many times as fast the cascade was, with its 95 % interval over the turns."""
    slow, fast = seconds.sum(0)
    turns = np.random.default_rng(0).integers(len(seconds), size=(2000, len(seconds)))
    drawn = seconds[turns].sum(1)
    return Figure.from_draws(slow / fast, drawn[:, 0] / drawn[:, 1], len(seconds))


def unsafe(made: Engine, texts: list[Submission]) -> np.ndarray:
    return np.array([d.unsafe for d in made.check_many(texts)], float)


def narrowest(cheap: np.ndarray, flagged: np.ndarray, wrong: float) -> tuple[float, float]:
    """The band with the fewest texts in it outside which the tiers disagree on at most so many texts.

    Args:
        cheap: the cheap tier's P(unsafe).
        flagged: what the dear tier decides.
        wrong: how many texts.
    """
    ends = np.unique([0.0, 1.0, *np.quantile(cheap, np.linspace(0, 1, 161)).round(4)])
    found = []
    for low in ends:
        for high in ends[ends > low]:
            apart = np.where(cheap >= high, ~flagged, np.where(cheap <= low, flagged, False)).sum()
            if apart <= wrong:
                found.append((int(((cheap > low) & (cheap < high)).sum()), float(low), float(high)))
    return min(found)[1:]


def chosen(scores: Sequence[np.ndarray], flagged: np.ndarray, disagree: float) -> list[tuple[float, float]]:
    """A band for each cheap tier, in order, each chosen on the texts that reach it."""
    bands: list[tuple[float, float]] = []
    unsure = np.ones(len(flagged), bool)
    for p in scores:
        if not unsure.any():
            bands.append((0.0, 1.0))  # nothing comes this far
            continue
        low, high = narrowest(p[unsure], flagged[unsure], disagree * len(flagged) / len(scores))
        bands.append((low, high))
        unsure &= (p > low) & (p < high)
    return bands


def sets(folder: Path, rows: int) -> dict[str, tuple[list[Submission], np.ndarray]]:
    """The labelled rows of every set, language and kind that has both classes."""
    out: dict[str, list[dict[str, object]]] = defaultdict(list)
    for path in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                out[f"{row['source']} {row['lang']} {row['kind']}"].append(row)
    made = {}
    for name, found in out.items():
        random.Random(0).shuffle(found)  # noqa: S311 - a fixed sample
        y = np.array([bool(r["unsafe"]) for r in found[:rows]])
        if y.any() and not y.all():
            made[name] = ([Submission(str(r["text"])) for r in found[:rows]], y)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cheap", required=True, nargs="+", help="guards, the cheapest first")
    parser.add_argument("--dear", default="mini")
    parser.add_argument("--choose", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--disagree", type=float, default=0.01)
    parser.add_argument("--bands", type=float, nargs="+", help="instead of choosing: low and high of each cheap guard")
    parser.add_argument("--rows", type=int, default=150)
    options = parser.parse_args()
    if options.bands and len(options.bands) != 2 * len(options.cheap):
        parser.error("--bands takes two numbers for each guard of --cheap")
    guards = {name: load_guard(name) for name in options.cheap} | {"dear": load_guard(options.dear)}
    at = guards["dear"].points["balanced"]["unsafe"]
    labelled = read_labelled(options.choose)
    half = len(labelled.unsafe) // 2
    dear_alone = engine(ALONE % {"name": "dear", "at": at}, guards)
    if options.bands:
        bands = list(zip(options.bands[::2], options.bands[1::2], strict=True))
    else:
        first = list(labelled.submissions[:half])
        scores = [unsafe(engine(ALONE % {"name": n, "at": at}, guards), first) for n in options.cheap]
        bands = chosen(scores, unsafe(dear_alone, first) >= at, options.disagree)
    cascade = engine(cascade_of(options.cheap, bands, at), guards)
    told = ", ".join(f"{n} ({low:.4f}, {high:.4f})" for n, (low, high) in zip(options.cheap, bands, strict=True))
    print(f"unsure: {told}; dear threshold {at:.4f}\n")
    print("| set | n | F1 dear | F1 cascade | asked | speed |\n|---|---|---|---|---|---|")
    totals = np.zeros(2)
    found = []
    for name, (texts, truth) in sets(options.data, options.rows).items():
        f1, asked, seconds, _ = compared(dear_alone, cascade, texts, truth)
        totals += seconds.sum(0)
        found.append(f1)
        times = times_as_fast(seconds).value
        print(f"| {name} | {len(texts)} | {f1[0]:.3f} | {f1[1]:.3f} | {asked:.0%} | {times:.1f}x |", flush=True)
    mean = np.mean(found, axis=0)
    print(f"| mean; all texts | | {mean[0]:.3f} | {mean[1]:.3f} | | {totals[0] / totals[1]:.1f}x |")
    rest = Labelled(labelled.submissions[half:], labelled.unsafe[half:], labelled.sha256)
    texts = list(rest.submissions)
    f1, asked, seconds, decisions = compared(dear_alone, cascade, texts, np.array(rest.unsafe))
    times = times_as_fast(seconds)
    for alpha in (0.01, 0.02, 0.05):
        print(f"certified at {alpha:.0%}: {certify(cascade, rest, decisions, alpha=alpha, delta=0.05)}")
    print(
        f"on the {len(texts)} rows certified on: F1 {f1[0]:.4f} and {f1[1]:.4f}, asked {asked:.0%}, "
        f"{len(texts) / seconds.sum(0)[1]:.0f} texts a second, {times.value:.2f} [{times.low:.2f}, {times.high:.2f}] "
        "times as many as alone"
    )


if __name__ == "__main__":
    main()
