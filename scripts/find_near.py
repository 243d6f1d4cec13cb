"""Which texts written for training lie near a development benchmark's text?

    python scripts/find_near.py --base BASE --data BENCH [--above 0.5] [--foreign 0.6] [--drop]

Texts are near where the base encoder's mean-pooled embeddings, less the benchmarks' mean, have a cosine over `--above`
(English) or `--foreign` (other languages, which lie together whatever they say). Words in common find copies only; this
finds a benchmark's wish said in other words as well. Prints each near text with the name of the set, nearest first;
with `--drop` they are taken out of `requests.jsonl`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from find_doubtful import embedded

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROMPTS = ("harmbench", "strongreject", "jailbreakbench", "simplesafetytests", "tdc2023", "arena_hard", "pubmedqa")
WRITTEN = Path(__file__).parent.parent / "src/wardgate/train/words/requests.jsonl"


def bench_prompts(data: Path) -> tuple[list[str], list[str]]:
    """Prompts of the development benchmarks, and the set of each."""
    texts, sets = [], []
    for name in PROMPTS:
        with gzip.open(data / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows = [json.loads(line)["text"] for line in lines]
        texts += rows
        sets += [name] * len(rows)
    return texts, sets


def directions(points: NDArray[np.float32], origin: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit vectors from an origin. *Shape:* (n, width)."""
    away = points - origin
    return np.asarray(away / np.linalg.norm(away, axis=1, keepdims=True), dtype=np.float32)


def main() -> None:
    """Embed, compare, tell, and drop if asked to."""
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--base", type=Path, required=True)
    reader.add_argument("--data", type=Path, required=True)
    reader.add_argument("--above", type=float, default=0.5)
    reader.add_argument("--foreign", type=float, default=0.6)
    reader.add_argument("--drop", action="store_true")
    given = reader.parse_args()
    lines = WRITTEN.read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    prompts, sets = bench_prompts(given.data)
    known = embedded(given.base, prompts)
    origin = known.mean(0)
    cosines = directions(embedded(given.base, [r["text"] for r in rows]), origin) @ directions(known, origin).T
    nearest, highest = cosines.argmax(1), cosines.max(1)
    bounds = np.array([given.above if r["language"] == "en" else given.foreign for r in rows])
    near = highest > bounds
    for i in np.flatnonzero(near)[np.argsort(-highest[near])]:
        found = {"cosine": round(float(highest[i]), 3), "set": sets[nearest[i]], "text": rows[i]["text"]}
        sys.stdout.write(json.dumps(found, ensure_ascii=False) + "\n")
    sys.stderr.write(f"{near.sum()} of {len(rows)} written texts are near\n")
    if given.drop:
        kept = [line for line, out in zip(lines, near, strict=True) if not out]
        WRITTEN.write_text("".join(f"{line}\n" for line in kept), "utf-8")


if __name__ == "__main__":
    main()
