"""Which texts written for training lie near a development benchmark's text?

    python scripts/find_near.py --base BASE --data BENCH [--above 0.5] [--foreign 0.6] [--drop]

Texts are near where the base encoder's mean-pooled embeddings, less the benchmarks' mean, have a cosine over `--above`
(English) or `--foreign` (other languages, which lie together whatever they say). Words in common find copies only; this
finds a benchmark's wish said in other words as well. Prints each near text with the name of the set, nearest first;
with `--drop` they are taken out of `requests.jsonl.gz`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from measure_sources import BENIGN, HARMFUL
from transformers import AutoModel, AutoTokenizer

from wardgate.data.pool import read_pool_file
from wardgate.guards.batching import plan_batches
from wardgate.train.written import request_lines, requests

if TYPE_CHECKING:
    from numpy.typing import NDArray

WRITTEN = Path(__file__).parent.parent / "src/wardgate/train/words/requests.jsonl.gz"


def embedded(base: Path, texts: list[str]) -> NDArray[np.float32]:
    """Mean-pooled embeddings as E5's card makes them, of at most 64 tokens a text. *Shape:* (n, width)."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModel.from_pretrained(base).eval()
    ids = tokenizer([f"query: {t}" for t in texts], truncation=True, max_length=64)["input_ids"]
    out = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        for group in plan_batches([len(i) for i in ids], 4096):
            batch = tokenizer.pad({"input_ids": [ids[i] for i in group]}, return_tensors="pt")
            mask = batch["attention_mask"].unsqueeze(-1)
            hidden = model(**batch).last_hidden_state.float()
            out[group] = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
    return out


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
    rows = requests()
    prompts = [e for name in (*HARMFUL, *BENIGN) for e in read_pool_file(given.data / f"{name}.jsonl.gz")]
    known = embedded(given.base, [e.text for e in prompts])
    origin = known.mean(0)
    cosines = directions(embedded(given.base, [e.text for e in rows]), origin) @ directions(known, origin).T
    nearest, highest = cosines.argmax(1), cosines.max(1)
    bounds = np.array([given.above if e.language == "en" else given.foreign for e in rows])
    near = highest > bounds
    for i in np.flatnonzero(near)[np.argsort(-highest[near])]:
        found = {"cosine": round(float(highest[i]), 3), "set": prompts[nearest[i]].source, "text": rows[i].text}
        sys.stdout.write(json.dumps(found, ensure_ascii=False) + "\n")
    sys.stderr.write(f"{near.sum()} of {len(rows)} written texts are near\n")
    if given.drop:
        kept = "".join(f"{line}\n" for line, out in zip(request_lines(), near, strict=True) if not out)
        WRITTEN.write_bytes(gzip.compress(kept.encode(), mtime=0))


if __name__ == "__main__":
    main()
