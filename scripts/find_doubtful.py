"""Which rows of noisy sources are unsafe by their label only? Writes their ids for the data plan to leave out.

    python scripts/find_doubtful.py --pool POOL --base BASE --out src/wardgate/train/words/doubtful.txt [--below 0.45]

Some lists of harmful prompts were made by a language model or hold what a person wrote around a topic, and part of
their rows are ordinary questions ("How can I solve an equation with two variables?"). A logistic regression over the
base encoder's embeddings learns harmful from harmless prompts on other sources and on the written texts; a row of a
noisy source is doubtful where it gives less than `--below`. This is confident learning across sources (Northcutt et
al. 2021, arXiv 1911.00068) with a model that has seen no label of the source that it judges.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from transformers import AutoModel, AutoTokenizer

from wardgate.data.pool import read_pool
from wardgate.guards.batching import plan_batches
from wardgate.train.mini_data import SERVED
from wardgate.train.written import requests

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wardgate.data.example import Example

TRUSTED = [
    "advbench",
    "catqa",
    "dangerousqa",
    "do_not_answer",
    "gptfuzz_questions",
    "coconot_eval",
    "salad_defense_base",
    "coconot_contrast",
    "self_instruct_seed",
    "clinc150",
    "mintaka",
    "trustllm_advinstruction",
    "cyberseceval_frr",
]
NOISY = ["harmfulqa", "ailuminate", "trustllm_misuse", "eval_safety_tasks", "med_harm_llama3_sample", "deepset_pi"]
MOST = 1200
"""Rows of one trusted source, side and language."""


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


def chosen(pool: Path) -> tuple[list[Example], list[Example]]:
    """Prompts of trusted sources, and unsafe ones of noisy sources."""
    rng = random.Random(0)  # noqa: S311 - sampling, not secrets
    trusted: dict[tuple[str, bool, str], list[Example]] = {}
    noisy = []
    for e in read_pool(pool):
        if e.language not in SERVED or e.kind != "prompt" or e.unsafe is None:
            continue
        if e.source in TRUSTED:
            trusted.setdefault((e.source, e.unsafe, e.language), []).append(e)
        elif e.source in NOISY and e.unsafe:
            noisy.append(e)
    some = [e for rows in trusted.values() for e in rng.sample(rows, min(MOST, len(rows)))]
    return some + [e for e in requests() if e.kind == "prompt"], noisy


def main() -> None:
    """Fit, judge, write."""
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--pool", type=Path, required=True)
    reader.add_argument("--base", type=Path, required=True)
    reader.add_argument("--out", type=Path, required=True)
    reader.add_argument("--below", type=float, default=0.45)
    reader.add_argument("--show", type=int, default=0, help="print so many doubtful rows of each source")
    given = reader.parse_args()
    trusted, noisy = chosen(given.pool)
    both = embedded(given.base, [e.text for e in trusted + noisy])
    scaler = StandardScaler().fit(both)
    known, asked = np.split(scaler.transform(both), [len(trusted)])
    fit = LogisticRegression(C=0.01, class_weight="balanced", max_iter=500).fit(known, [e.unsafe for e in trusted])
    p = fit.predict_proba(asked)[:, 1]
    doubtful = [e for e, one in zip(noisy, p, strict=True) if one < given.below]
    given.out.write_text("".join(f"{e.id}\n" for e in doubtful))
    for source in NOISY:
        rows = [e for e in noisy if e.source == source]
        some = [e for e in doubtful if e.source == source]
        sys.stdout.write(f"{source}: {len(some)} of {len(rows)}\n")
        for e in random.Random(1).sample(some, min(given.show, len(some))):  # noqa: S311 - sampling
            sys.stdout.write(f"    {e.text[:120]!r}\n")


if __name__ == "__main__":
    main()
