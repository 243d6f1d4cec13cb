"""Texts a second of one core for each tier of a cascade: what `scripts/capacity.py --tier` asks for.

    python scripts/measure_tiers.py --data rows.jsonl.gz --guard nano --guard mini --policy fast

`--data` holds JSON lines with a `text` and is sampled evenly; repeat it for several files. All tiers take turns on the
same texts, on one thread; processor time is read, which other programs hardly touch. A policy is measured as a whole,
and the share of its texts that reached each of its guards is told.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import time
from collections import Counter
from pathlib import Path
from statistics import median

os.environ["OMP_NUM_THREADS"] = "1"

from wardgate import Engine


def sampled(paths: list[Path], count: int) -> list[str]:
    """So many texts, evenly from all rows of all files, in a fixed order."""
    texts: list[str] = []
    for path in paths:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
            texts += [json.loads(line)["text"] for line in lines]
    draw = random.Random(20261121)  # noqa: S311 - a sample, no secret
    return draw.sample(texts, min(count, len(texts)))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, action="append", required=True)
    options.add_argument("--guard", action="append", default=[])
    options.add_argument("--policy", action="append", default=[])
    options.add_argument("--texts", type=int, default=300)
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    texts = sampled(given.data, given.texts)
    engines = {name: Engine.load([name]) for name in given.guard}
    engines |= {f"policy {name}": Engine.default(policy=name) for name in given.policy}
    rates: dict[str, list[float]] = {name: [] for name in engines}
    asked: dict[str, Counter[str]] = {}
    for _ in range(given.rounds):
        for name, engine in engines.items():
            started = time.process_time()
            decisions = engine.check_many(texts)
            rates[name].append(len(texts) / (time.process_time() - started))
            asked[name] = Counter(report.name for decision in decisions for report in decision.guards)
    print(f"{len(texts)} texts, {sum(map(len, texts)) / len(texts):.0f} characters on average")
    for name, found in rates.items():
        shares = ", ".join(f"{guard} {count / len(texts):.0%}" for guard, count in asked[name].items())
        print(f"{name}: {median(found):,.0f} texts/s/core [{min(found):,.0f}, {max(found):,.0f}]  asked: {shares}")


if __name__ == "__main__":
    main()
