"""What each source of the training pool gives: a probe trained on all sources but one, on the development benchmarks.

    python scripts/measure_sources.py --pool POOL --data BENCH --base BASE --out DIR [--rows 300]

The probe is logistic regression on frozen features: the mean of the base encoder's last layer. It is no guard, but it
learns in a second, so that every source can be left out. Writes `sources.json` and `sources.md`: for each source the
change, in points, of what the probe with all sources reaches; a negative number means that the source is needed. Rows
that say only "not hate" keep the recipe's weight. Features are kept in `features.npz`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from tokenizers import Tokenizer
from transformers import BertModel

from wardgate.guards.batching import plan_batches
from wardgate.train.mini_data import WEAK_SAFE, planned, split_of
from wardgate.train.written import requests

if TYPE_CHECKING:
    from wardgate.data.example import Example

Array = np.ndarray[Any, np.dtype[Any]]
HARMFUL = ("harmbench", "strongreject", "jailbreakbench", "simplesafetytests", "tdc2023")
BENIGN = ("arena_hard", "pubmedqa")
RANKED = ("harmbench_cls_val", "hatecheck_en", "edos", "germeval2018", "med_safety_bench")
LANGUAGES = ("de", "es", "fr")
WRITTEN = 10
"""How many times as many rows of a side the written texts may have: they stand for many sources."""


def pool_rows(pool: Path, most: int) -> list[Example]:
    """At most so many rows of a source and side, of the training part, `WRITTEN` times as many written for training."""
    rows = [*planned(pool, 0), *requests()]
    unique = list({e.id: e for e in rows if split_of(e.text) == "train"}.values())
    random.Random(0).shuffle(unique)  # noqa: S311 - sampling, not secrets
    taken: dict[tuple[str, bool | None], int] = {}
    kept = []
    for e in unique:
        place = (e.source, e.unsafe)
        taken[place] = taken.get(place, 0) + 1
        if taken[place] <= most * (WRITTEN if e.source == "written" else 1):
            kept.append(e)
    return kept


def bench_rows(data: Path, most: int) -> list[dict[str, Any]]:
    """Rows of the development benchmarks, a sample of the long ones."""
    out: list[dict[str, Any]] = []
    for name in (*HARMFUL, *BENIGN, *RANKED, "mhc"):
        with gzip.open(data / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) | {"set": name} for line in lines]
        if name == "mhc":
            rows = [r | {"set": f"mhc {r['lang']}"} for r in rows if r["lang"] in LANGUAGES]
        random.Random(0).shuffle(rows)  # noqa: S311 - sampling, not secrets
        out += rows[: most * (3 if name == "mhc" else 1)]
    return out


@torch.no_grad()
def features(base: Path, texts: list[str]) -> Array:
    """Means of the last layer's states, float32 of shape (n, 384)."""
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    model = BertModel.from_pretrained(base, add_pooling_layer=False).eval()
    ids = [e.ids[:128] for e in tokenizer.encode_batch(texts)]
    out = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
    for group in plan_batches([len(i) for i in ids], 4096):
        width = max(len(ids[i]) for i in group)
        tokens = torch.tensor([ids[i] + [1] * (width - len(ids[i])) for i in group])
        mask = (tokens != 1).long()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            states = model(tokens, mask).last_hidden_state.float()
        out[group] = ((states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)).numpy()
    return out


def reached(probe: LogisticRegression, x: Array, rows: list[dict[str, Any]]) -> dict[str, float]:
    """Ranking figures of a probe on the benchmarks."""
    p = probe.predict_proba(x)[:, 1]
    sets = np.array([r["set"] for r in rows])
    y = np.array([r["unsafe"] for r in rows])
    out = {}
    for benign in BENIGN:
        some = np.isin(sets, [*HARMFUL, benign])
        out[f"harmful against {benign}, AUROC"] = float(roc_auc_score(y[some], p[some]))
    for name in (*RANKED, *(f"mhc {language}" for language in LANGUAGES)):
        some = sets == name
        out[f"{name}, AUPRC"] = float(average_precision_score(y[some], p[some]))
    return out


def fitted(x: Array, y: Array, w: Array) -> LogisticRegression:
    return LogisticRegression(C=1.0, max_iter=300).fit(x, y, sample_weight=w)


def table(all_of_them: dict[str, float], changes: dict[str, dict[str, float]], rows: dict[str, int]) -> str:
    names = list(all_of_them)
    lines = [f"| left out | rows | {' | '.join(names)} |", f"|{'---|' * (len(names) + 2)}"]
    lines.append(f"| nothing | {sum(rows.values())} | {' | '.join(f'{all_of_them[n]:.3f}' for n in names)} |")
    for source, change in sorted(changes.items(), key=lambda item: sum(item[1].values())):
        lines.append(f"| {source} | {rows[source]} | {' | '.join(f'{100 * change[n]:+.1f}' for n in names)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("pool", "data", "base", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=300, help="most rows of a source and side")
    parser.add_argument("--bench", type=int, default=500, help="most rows of a benchmark")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    train, bench = pool_rows(given.pool, given.rows), bench_rows(given.data, given.bench)
    kept = given.out / "features.npz"
    if not kept.exists():
        made = features(given.base, [e.text for e in train] + [r["text"] for r in bench])
        np.savez(kept, train=made[: len(train)], bench=made[len(train) :])
    found = np.load(kept)
    middle, scale = found["train"].mean(0), found["train"].std(0)
    x, z = (found["train"] - middle) / scale, (found["bench"] - middle) / scale
    y = np.array([e.unsafe is True for e in train])
    w = np.array([WEAK_SAFE if e.unsafe is None else 1.0 for e in train])
    sources = np.array([e.source for e in train])
    whole = reached(fitted(x, y, w), z, bench)
    changes = {}
    for source in sorted(set(sources)):
        rest = sources != source
        got = reached(fitted(x[rest], y[rest], w[rest]), z, bench)
        changes[source] = {name: got[name] - whole[name] for name in whole}
        print(source, {n: round(100 * v, 1) for n, v in changes[source].items()}, flush=True)
    counts = {s: int((sources == s).sum()) for s in changes}
    (given.out / "sources.json").write_text(json.dumps({"all": whole, "changes": changes, "rows": counts}, indent=1))
    (given.out / "sources.md").write_text(table(whole, changes, counts))


if __name__ == "__main__":
    main()
