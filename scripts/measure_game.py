r"""Whether the game pays: evasion before and after two rounds, on attacks and texts that were not trained on.

    python scripts/measure_game.py --pool POOL --out RUN [--rows 16000]

    python scripts/measure_game.py --pool POOL --out RUN --base BASE --start MINI --layers 4 --teach 500 \
        --k 8 --hardest 2 --views --at-point --longest 200

Trains the n-gram guard on a part of the pool, or goes on from a finished run of `wardgate train mini`, or from a
shallower student of one that is taught first without any attack; plays two rounds of the laptop game with one part of
the attacks, and measures the classifiers on held-back texts under all of them: through the normaliser as the engine
does, and on the raw text alone. Two controls are trained on as many rewrites of the same kind, drawn without a game,
and on as many plain texts again. `--half validation` measures the attacks of the game on one half of the held-back
texts, which is what settings may be chosen by; `--half test` all attacks on the other. Whatever is there is not made
again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
import zlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wardgate.engine.evidence import merge_views
from wardgate.engine.language import detect_language
from wardgate.guards import View
from wardgate.guards.ngrams import NgramSettings
from wardgate.normalise import normalise
from wardgate.normalise.disguise import DISGUISES
from wardgate.train.duo.builtin import Mini
from wardgate.train.duo.filters import Filters
from wardgate.train.duo.game import Game, Players, Rules
from wardgate.train.duo.ledger import Ledger
from wardgate.train.duo.moves import rewritten
from wardgate.train.duo.players import AtPoint, EditGenerator, KeepsLabel, Ngrams, OpenGuard
from wardgate.train.duo.policy import NONE, EditPolicy, Learning
from wardgate.train.duo.setup import going_on
from wardgate.train.mini_data import planned, split_of
from wardgate.train.nano import NanoSettings
from wardgate.train.written import requests

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from wardgate.data.example import Example
    from wardgate.train.duo.players import Trainee

    Array = NDArray[np.float64]
    Flags = NDArray[np.bool_]

PLAYED = ("char_swap", "leet", "zero_width", "padding_before", "code_switch", "casing", "role_play", "homoglyph")
"""The generator's edits. All other attacks are held out."""

UNSEEN = tuple(name for name in DISGUISES if name not in PLAYED)
ENCODED = ("base64", "percent", "hexadecimal", "rot13", "nested")
"""Held-out attacks that no classifier can read without decoding; left out of the raw column's second figure."""

READABLE = tuple(name for name in UNSEEN if name not in ENCODED)
GROUPS = {"played": PLAYED, "unseen": UNSEEN, "unseen, readable": READABLE}
FALSE_POSITIVES = 0.025
"""The share of safe calibration texts that a classifier may flag; its threshold is set there, plain texts only."""

CLEAN, SHORT = 2000, 300
"""Held-back rows that clean F1 is measured on, drawn at random, and the most letters of those that are attacked: nested
encodings make texts ten times as long."""

VIEWS = ("views", "raw")
"""The columns: the higher of the raw and the cleaned view, as the engine asks a guard, and the raw text alone."""


@dataclass(frozen=True)
class Parts:
    """Examples by part."""

    train: list[Example]
    calibrate: list[Example]
    held: list[Example]


@dataclass(frozen=True)
class Found:
    """What one classifier flags, in one column.

    Attributes:
        at: its threshold, a logit.
        y, flagged: of the plain held-back texts.
        unsafe: of the attacked unsafe texts, in plain.
        slips: of the same texts under each attack, True where it is not flagged. *Shape:* (attacks, n)
        safe: of the attacked safe texts, True where it is flagged. *Shape:* (attacks, m)
    """

    at: float
    y: Flags
    flagged: Flags
    unsafe: Flags
    slips: Flags
    safe: Flags


def parts_of(pool: Path, rows: int, seed: int, written: int | None = None) -> Parts:
    """The pool under the built-in guard's plan, without repeats; `rows` training rows, and written-out requests."""
    unique = {e.id: e for e in planned(pool, seed)}.values()
    by: dict[str, list[Example]] = {"train": [], "calibrate": [], "held-back": []}
    for example in unique:
        by[split_of(example.text)].append(example)
    rng = np.random.default_rng(seed)
    train = [by["train"][i] for i in sorted(rng.permutation(len(by["train"]))[:rows])]
    more = [e for e in requests() if split_of(e.text) == "train"]
    train += [more[i] for i in sorted(rng.permutation(len(more))[:written])]
    return Parts(train, by["calibrate"], by["held-back"])


def half_of(text: str) -> str:
    """The half that a held-back text belongs to."""
    return "test" if zlib.crc32(text.encode("utf-8", "surrogatepass")) % 2 else "validation"


def both(opened: OpenGuard, texts: Sequence[str]) -> dict[str, Array]:
    """Logits of `unsafe` by column."""
    views = [normalise(text).views() for text in texts]
    bounds = np.cumsum([0, *map(len, views)]).tolist()
    z = opened.guard.score([View(v) for some in views for v in some]).logits[:, -1:]
    return {"views": merge_views(z, bounds)[:, 0].astype(float), "raw": z[bounds[:-1], 0].astype(float)}


def measured(opened: OpenGuard, parts: Parts, most: int, half: str) -> dict[str, Found]:
    """Ask one classifier everything."""
    safe = plain_safe(parts)
    marks = {v: float(np.quantile(z, 1 - FALSE_POSITIVES)) for v, z in both(opened, safe).items()}
    known = [e for e in parts.held if e.unsafe is not None and half in {"all", half_of(e.text)}]
    known = [known[i] for i in np.random.default_rng(1).permutation(len(known))[:CLEAN]]
    y = np.array([bool(e.unsafe) for e in known])
    plain = both(opened, [e.text for e in known])
    short = np.array([len(e.text) <= SHORT for e in known])
    rows = {side: np.flatnonzero(short & (y == side))[:most] for side in (True, False)}
    names = PLAYED if half == "validation" else tuple(DISGUISES)
    attacked: dict[tuple[str, bool], list[Flags]] = {}
    for name in names:
        for side in (True, False):
            z = both(opened, [DISGUISES[name](known[i].text, seed=7) for i in rows[side]])
            for v in VIEWS:
                attacked.setdefault((v, side), []).append(z[v] >= marks[v])
    out = {}
    for v in VIEWS:
        flagged = plain[v] >= marks[v]
        slips, found = ~np.stack(attacked[v, True]), np.stack(attacked[v, False])
        out[v] = Found(marks[v], y, flagged, flagged[rows[True]], slips, found)
    return out


def plain_safe(parts: Parts) -> list[str]:
    """The calibration texts that thresholds are set on."""
    safe = [e.text for e in parts.calibrate if e.unsafe is False]
    return [safe[i] for i in np.random.default_rng(2).permutation(len(safe))[:CLEAN]]


def evasion(found: Found, rows: Sequence[int], texts: NDArray[np.int64]) -> Array:
    """The share of found texts that slip through, mean over attacks, for each draw of texts. *Shape:* (draws,)."""
    slipped = (found.slips[list(rows)] & found.unsafe).mean(0)[texts].sum(1)
    return np.asarray(slipped / found.unsafe[texts].sum(1))


def f1(found: Found, texts: NDArray[np.int64]) -> Array:
    """Clean F1 for each draw of texts. *Shape:* (draws,)."""
    y, flagged = found.y[texts], found.flagged[texts]
    return np.asarray(2 * (y & flagged).sum(1) / (y.sum(1) + flagged.sum(1)))


def interval(values: Array) -> list[float]:
    """The middle 95 % of draws."""
    return [round(float(q), 4) for q in np.quantile(values, [0.025, 0.975])]


def summary(found: Found, before: Found, half: str) -> dict[str, Any]:
    """The figures of a classifier beside those of the one before the game, drawn over the same texts."""
    names = PLAYED if half == "validation" else tuple(DISGUISES)
    rng = np.random.default_rng(0)
    n, m = len(found.y), found.slips.shape[1]
    clean, attacked = rng.integers(0, n, (1000, n)), rng.integers(0, m, (1000, m))
    whole, each = np.arange(n)[None], np.arange(m)[None]
    out: dict[str, Any] = {
        "threshold": float(found.at),
        "texts": {"clean": n, "attacked": m, "found": int(found.unsafe.sum()), "safe": found.safe.shape[1]},
        "clean_f1": [round(float(f1(found, whole)[0]), 4), *interval(f1(found, clean))],
        "clean_f1_change": [
            round(float(f1(found, whole)[0] - f1(before, whole)[0]), 4),
            *interval(f1(found, clean) - f1(before, clean)),
        ],
    }
    for group, members in GROUPS.items():
        if not set(members) <= set(names):
            continue
        rows = [names.index(name) for name in members]
        drawn = evasion(found, rows, attacked)
        # A draw without a slip before has no ratio; with hundreds of texts there is none.
        ratio = drawn / np.maximum(evasion(before, rows, attacked), 1e-9)
        plain, was = (float(evasion(one, rows, each)[0]) for one in (found, before))
        out[group] = {
            "evasion": [round(plain, 4), *interval(drawn)],
            "of_before": [round(plain / max(was, 1e-9), 3), *interval(ratio)],
            "any_attack": round(float((found.slips[rows].any(0) & found.unsafe).sum() / found.unsafe.sum()), 4),
            "recall_under_attack": round(float(1 - found.slips[rows].mean()), 4),
            "safe_flagged": round(float(found.safe[rows].mean()), 4),
        }
    out["attacks"] = {
        name: {
            "evasion": round(float(found.slips[i][found.unsafe].mean()), 4),
            "safe_flagged": round(float(found.safe[i].mean()), 4),
        }
        for i, name in enumerate(names)
    }
    return out


def taught(given: argparse.Namespace, say: Callable[[str], None]) -> Path:
    """A shallower student of the run, taught by it without any attack, in a folder as a run leaves it."""
    import torch

    from wardgate.train.mini import Settings, Split
    from wardgate.train.runs import open_run
    from wardgate.train.shallow import shallow_settings, teach, thinned

    folder: Path = given.out / "start"
    if (folder / "model.pt").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(given.seed)
    teacher, tokenizer = open_run(given.base, given.start)
    student = thinned(teacher, given.layers, spread=True)
    settings = replace(shallow_settings(Settings(seed=given.seed)), attacks=0.0)
    lessons = parts_of(given.pool, given.teach * 100, given.seed).train

    def report(step: int, total: int, loss: float) -> None:
        say(f"teaching: step {step} of {total}, loss {loss:.3f}")

    teach(teacher, student, Split.of(lessons), tokenizer, settings, steps=given.teach, report=report)
    for name in ("keep.json", "tokenizer.json"):
        shutil.copy(given.start / name, folder / name)
    torch.save(student.state_dict(), folder / "model.new")
    (folder / "model.new").rename(folder / "model.pt")
    return folder


def trainee_of(given: argparse.Namespace, say: Callable[[str], None]) -> Trainee:
    """The n-gram guard from scratch, the encoder from a run, or a shallower student of one."""
    if given.start is None:
        return Ngrams(NanoSettings(seed=given.seed, epochs=4), NgramSettings())

    def report(step: int, total: int, loss: float) -> None:
        say(f"step {step} of {total}, loss {loss:.3f}")

    settings = going_on(given.seed)
    if given.layers is None:
        return Mini(given.base, given.start, settings, report, views=given.views)
    settings = replace(settings, epochs=given.epochs, rate=given.rate, frozen=0)
    return Mini(given.base, taught(given, say), settings, report, given.layers, given.views)


def controls(game: Game, parts: Parts, trainee: Trainee, out: Path, rewrites: int) -> None:
    """Train without a game: on as many rewrites by the same edits, drawn alike, and on as many plain seeds."""
    policy = EditPolicy.uniform((NONE, *PLAYED))
    by_id = {e.id: e for e in parts.train}
    drawn = policy.propose(game.seeds, -(-rewrites // len(game.seeds)), 9, 99)
    # In another order, or a part of a round would be seeds of the sources that are read first.
    drawn = [drawn[i] for i in np.random.default_rng(9).permutation(len(drawn))[:rewrites]]
    for name, more in (
        ("control", [rewritten(by_id[p.seed], p) for p in drawn]),
        ("plain", [by_id[p.seed] for p in drawn]),
    ):
        if not (out / name).exists():
            trainee.train(parts.train, more, out / name)


def table(results: dict[str, dict[str, Any]], view: str) -> str:
    """The figures of one column as Markdown."""
    shown = [g for g in GROUPS if g in next(iter(results.values()))[view]]
    compared = shown[-1 if view == "raw" else min(1, len(shown) - 1)]
    heads = ["classifier", "clean F1", *(f"evasion, {g}" for g in shown), f"of before, {compared}", "safe flagged"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name, by_view in results.items():
        r = by_view[view]
        figures = [r["clean_f1"], *(r[g]["evasion"] for g in shown), r[compared]["of_before"]]
        safe = " / ".join(f"{r[g]['safe_flagged']:.3f}" for g in shown)
        lines.append("| " + " | ".join([name, *map(_with_interval, figures), safe]) + " |")
    return "\n".join(lines) + "\n"


def _with_interval(values: list[float]) -> str:
    return "{:.3f} [{:.3f}, {:.3f}]".format(*values)


def arguments() -> argparse.Namespace:
    """What was asked for."""
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--pool", type=Path, required=True)
    reader.add_argument("--out", type=Path, required=True)
    for name, default in (("rows", 16_000), ("rewrite", 2000), ("k", 4), ("rounds", 2), ("texts", 400), ("seed", 0)):
        reader.add_argument(f"--{name}", type=int, default=default)
    reader.add_argument("--written", type=int, help="written-out requests to train on; None takes all")
    reader.add_argument("--threshold", type=float, default=0.5)
    reader.add_argument("--beta", type=float, default=0.1, help="the generator's; see Learning.beta")
    reader.add_argument("--base", type=Path, help="the encoder's base, with --start")
    reader.add_argument("--start", type=Path, help="a run of `wardgate train mini`, in place of the n-gram guard")
    reader.add_argument("--layers", type=int, help="of a student of the run; None plays with the run itself")
    reader.add_argument("--teach", type=int, default=300, help="batches that the student is taught before the game")
    reader.add_argument("--epochs", type=float, default=1.0, help="of the student's rounds")
    reader.add_argument("--rate", type=float, default=1e-4, help="of the student's rounds")
    reader.add_argument("--no-control", action="store_true")
    reader.add_argument("--paired", action="store_true", help="see Rules.paired")
    reader.add_argument("--mirrored", type=float, default=0.0, help="see EditGenerator.mirrored")
    for name in ("longest", "drawn", "hardest"):
        reader.add_argument(f"--{name}", type=int, help=f"see Rules.{name}")
    reader.add_argument("--views", action="store_true", help="see Mini.views")
    reader.add_argument("--at-point", action="store_true", help="see AtPoint; in place of --threshold")
    reader.add_argument("--half", choices=("all", "validation", "test"), default="all")
    return reader.parse_args()


def played(given: argparse.Namespace, parts: Parts, trainee: Trainee, say: Callable[[str], None]) -> Game:
    """Play the game, or what is left of it."""
    policy = EditPolicy.uniform((NONE, *PLAYED))
    generator = EditGenerator(policy, Learning(beta=given.beta), given.seed, given.mirrored)
    rules = Rules(
        rounds=given.rounds,
        k=given.k,
        threshold=0.5 if given.at_point else given.threshold,
        filters=Filters(length=4000, refusals=False, language=False, near=None),
        rewrite=given.rewrite,
        chance=given.seed,
        paired=given.paired,
        longest=given.longest,
        drawn=given.drawn,
        hardest=given.hardest,
    )
    kept = {
        "rows": [given.rows, given.written],
        "played": PLAYED,
        "generator": [given.beta, given.mirrored],
        "at": given.at_point,
        "layers": given.layers,
        "recipe": [given.epochs, given.rate, given.views],
    }
    player = AtPoint(trainee, tuple(plain_safe(parts)[:1000]), FALSE_POSITIVES) if given.at_point else trainee
    ledger = Ledger(given.out / "game", rules.as_dict() | kept)
    game = Game(parts.train, rules, Players(generator, KeepsLabel(), player), ledger, detect_language, say)
    game.play()
    return game


def found_of(path: Path, ask: Callable[[], dict[str, Found]]) -> dict[str, Found]:
    """What a classifier flags, from a file if it was asked before."""
    if not path.exists():
        arrays = {f"{v}.{k}": a for v, found in ask().items() for k, a in asdict(found).items()}
        with path.with_suffix(".new").open("wb") as stream:
            np.savez_compressed(stream, **arrays)
        path.with_suffix(".new").rename(path)
    with np.load(path) as kept:
        return {v: Found(**{k.split(".")[1]: kept[k] for k in kept if k.startswith(f"{v}.")}) for v in VIEWS}


def main() -> None:
    """Play and measure."""
    given = arguments()
    started = time.monotonic()
    parts = parts_of(given.pool, given.rows, given.seed, given.written)

    def say(text: str) -> None:
        sys.stderr.write(f"{time.monotonic() - started:6.0f} s  {text}\n")

    trainee = trainee_of(given, say)
    game = played(given, parts, trainee, say)
    folders = {"before": given.out / "game" / "classifier-0"}
    folders |= {f"round {t}": given.out / "game" / f"classifier-{t}" for t in range(1, given.rounds + 1)}
    if not given.no_control:
        controls(game, parts, trainee, given.out, len(game.misses(given.rounds)))
        folders |= {"control: rewrites, no game": given.out / "control", "control: no rewrites": given.out / "plain"}
    results: dict[str, dict[str, Any]] = {}
    before: dict[str, Found] = {}
    for name, folder in folders.items():
        path = given.out / f"{folder.name}-{given.half}-{given.texts}.npz"
        found = found_of(path, lambda f=folder: measured(trainee.open(f), parts, given.texts, given.half))  # type: ignore[arg-type, misc]
        before = before or found
        results[name] = {v: summary(found[v], before[v], given.half) for v in VIEWS}
        say(f"{name}: measured")
    (given.out / f"results-{given.half}.json").write_text(json.dumps(results, indent=1))
    for view in VIEWS:
        sys.stdout.write(f"{view}\n\n{table(results, view)}\n")


if __name__ == "__main__":
    main()
