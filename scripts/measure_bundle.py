"""Figures of a built-in guard on a folder of benchmarks, as a Markdown table with 95 % intervals.

    python scripts/measure_bundle.py --data DIR [--guard mini] [--rows 1000] [--language en de es fr]

DIR holds `*.jsonl.gz` in the pool's form. Texts go through the engine as a user's would. "Flagged" is P(unsafe) at or
over the bundle's `balanced` threshold. Rates have Clopper-Pearson intervals, AUPRC and F1 bootstrap ones (1,000 draws).
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import beta
from sklearn.metrics import average_precision_score, f1_score

from wardgate import Engine

if TYPE_CHECKING:
    from collections.abc import Callable

Array = np.ndarray[Any, np.dtype[Any]]


def rate(hits: int, n: int) -> str:
    low = beta.ppf(0.025, hits, n - hits + 1) if hits else 0.0
    high = beta.ppf(0.975, hits + 1, n - hits) if hits < n else 1.0
    return f"{hits / n:.3f} [{low:.3f}, {high:.3f}]"


def bootstrap(metric: Callable[[Array, Array], float], y: Array, p: Array, draws: int = 1000) -> str:
    rng = np.random.default_rng(0)
    values = []
    for _ in range(draws):
        rows = rng.integers(0, len(y), len(y))
        if 0 < y[rows].sum() < len(rows):
            values.append(metric(y[rows], p[rows]))
    low, high = np.quantile(values, [0.025, 0.975])
    return f"{metric(y, p):.3f} [{low:.3f}, {high:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--guard", default="mini")
    parser.add_argument("--rows", type=int, help="draw at most so many of a set and language")
    parser.add_argument("--language", nargs="*", help="these alone")
    given = parser.parse_args()
    engine = Engine.load([given.guard])
    (loaded,) = engine.guards.values()
    at = loaded.points["balanced"]["unsafe"]
    print("| set | n | unsafe | AUPRC | F1 | macro-F1 | recall | FPR |\n|---|---|---|---|---|---|---|---|")
    seen, started = 0, time.perf_counter()
    for path in sorted(given.data.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            rows = sorted(map(json.loads, lines), key=lambda r: r["lang"])
        for language, part in itertools.groupby(rows, key=lambda r: r["lang"]):
            some = list(part)
            if given.language and language not in given.language:
                continue
            some = [some[i] for i in np.random.default_rng(0).permutation(len(some))[: given.rows]]
            kinds = " and ".join(sorted({r["kind"] for r in some}))
            y = np.array([r["unsafe"] for r in some])
            p = np.array(
                [d.unsafe if d.unsafe is not None else 1.0 for d in engine.check_iter(r["text"] for r in some)]
            )
            seen += len(some)
            flagged, both = p >= at, 0 < y.sum() < len(y)
            cells = [
                f"{path.name.removesuffix('.jsonl.gz')} {language} {kinds}",
                str(len(y)),
                str(int(y.sum())),
                bootstrap(average_precision_score, y, p) if both else "one class",
                bootstrap(lambda a, b: f1_score(a, b >= at), y, p) if both else "one class",
                f"{f1_score(y, flagged, average='macro'):.3f}" if both else "one class",
                rate(int(flagged[y == 1].sum()), int(y.sum())) if y.any() else "no positives",
                rate(int(flagged[y == 0].sum()), int((1 - y).sum())) if not y.all() else "no negatives",
            ]
            print(f"| {' | '.join(cells)} |", flush=True)
    print(f"\n{seen} texts in {time.perf_counter() - started:.0f} s, threshold {at}")


if __name__ == "__main__":
    main()
