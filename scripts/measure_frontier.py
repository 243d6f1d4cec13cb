"""Quality against speed and size: the built-in encoder at several depths, with 8-bit and float32 products.

    python scripts/measure_frontier.py --pool POOL --data BENCH --base BASE --run RUN --out DIR [--steps 300]

RUN is a finished run of `wardgate train mini`. Each student takes some of its layers and learns back from it for
`--steps` batches. All are measured on the same rows in one process: AUPRC of `unsafe` on held-back pool rows, recall
on sets of harmful prompts at a held-back false-positive rate of 2.5 %, and texts/s on 300 of them relative to the
whole teacher. Writes `frontier.json`, `frontier.md` and `frontier.png`; students that are there are not trained again.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import average_precision_score

from wardgate.guards import View
from wardgate.guards.encoder import EncoderGuard
from wardgate.train.export import export_onnx
from wardgate.train.mini import Settings, Split, build_splits, open_run
from wardgate.train.shallow import shallow_settings, teach, thinned

Array = np.ndarray[Any, np.dtype[Any]]
HARMFUL = ("harmbench", "strongreject", "jailbreakbench", "simplesafetytests", "tdc2023")
BENIGN = ("arena_hard", "pubmedqa")


def unsafe(guard: EncoderGuard, texts: list[str]) -> Array:
    return guard.score([View(t) for t in texts]).logits[:, -1]


def bench(folder: Path, names: tuple[str, ...], most: int) -> list[str]:
    texts: list[str] = []
    for name in names:
        with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            texts += [json.loads(line)["text"] for line in lines][:most]
    return texts


def pace(guards: dict[str, EncoderGuard], texts: list[str], rounds: int = 3) -> dict[str, float]:
    """Texts a second of processor time, the best of the rounds, guards in turn."""
    found = dict.fromkeys(guards, 0.0)
    for _ in range(rounds):
        for name, guard in guards.items():
            started = time.process_time()
            unsafe(guard, texts)
            found[name] = max(found[name], len(texts) / (time.process_time() - started))
    return found


def students(given: argparse.Namespace, split: Split) -> dict[str, Path]:
    """ONNX files by name."""
    teacher, tokenizer = open_run(given.base, given.run)
    files: dict[str, Path] = {}
    for layers in given.layers:
        state = given.out / f"{layers}.pt"
        student = teacher if layers == 12 else thinned(teacher, layers)
        if layers < 12 and state.exists():
            student.load_state_dict(torch.load(state, weights_only=True))
        elif layers < 12:
            settings = shallow_settings(Settings())
            teach(teacher, student, split, tokenizer, settings, steps=given.steps, report=print)
            torch.save(student.state_dict(), state)
        student.eval()
        for name, quantised in ((f"{layers} layers", True), (f"{layers} layers, float32", False)):
            if quantised or layers == 12:
                files[name] = given.out / f"{name.replace(', ', '-').replace(' ', '-')}.onnx"
                export_onnx(student, files[name], quantised=quantised)
    return files


def measured(given: argparse.Namespace, files: dict[str, Path], held: Split) -> list[dict[str, Any]]:
    guards = {n: EncoderGuard(n, f, given.run / "tokenizer.json") for n, f in files.items()}
    some = np.random.default_rng(0).permutation(len(held.texts))[: given.rows]
    y = held.values[some, -1]
    harmful, benign = (bench(given.data, names, 300) for names in (HARMFUL, BENIGN))
    speed = pace(guards, harmful[:300])
    rows = []
    for name, guard in guards.items():
        z = unsafe(guard, [held.texts[i] for i in some])
        at = float(np.quantile(z[y == 0], 0.975))
        row = {
            "model": name,
            "mb": files[name].stat().st_size / 1e6,
            "texts_per_s": speed[name],
            "speed": speed[name] / speed[f"{given.layers[0]} layers"],
            "auprc": float(average_precision_score(y, z)),
            "recall": float((unsafe(guard, harmful) >= at).mean()),
            "flagged": float((unsafe(guard, benign) >= at).mean()),
        }
        print(row, flush=True)
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    names = ("model", "MB", "speed", "AUPRC, held back", "harmful prompts flagged", "benign prompts flagged")
    forms = ("", ".1f", ".2f", ".4f", ".3f", ".3f")
    keys = ("model", "mb", "speed", "auprc", "recall", "flagged")
    head = f"| {' | '.join(names)} |\n|{'---|' * len(names)}"
    lines = [f"| {' | '.join(format(r[k], f) for k, f in zip(keys, forms, strict=True))} |" for r in rows]
    return "\n".join([head, *lines]) + "\n"


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4))
    for r in rows:
        axes.scatter(r["speed"], r["auprc"], s=8 * r["mb"], alpha=0.7)
        axes.annotate(r["model"], (r["speed"], r["auprc"]), textcoords="offset points", xytext=(8, 4), fontsize=8)
    axes.set_xlabel("speed, whole 8-bit model = 1 (area: size of the file)")
    axes.set_ylabel("AUPRC of unsafe, held-back rows")
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=140)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("pool", "data", "base", "run", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--layers", type=int, nargs="+", default=[12, 6, 4, 3])
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    splits = build_splits(given.pool, Settings())
    rows = measured(given, students(given, splits["train"]), splits["held-back"])
    (given.out / "frontier.json").write_text(json.dumps(rows, indent=1))
    (given.out / "frontier.md").write_text(table(rows))
    plot(rows, given.out / "frontier.png")


if __name__ == "__main__":
    main()
