"""Quality against speed and size: the built-in encoder at several depths and vocabularies, in 8 bits and float32.

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
from typing import Any, NamedTuple

import numpy as np
import torch
from measure_sources import BENIGN, HARMFUL
from sklearn.metrics import average_precision_score
from tokenizers import Tokenizer

from wardgate.guards import View
from wardgate.guards.encoder import EncoderGuard
from wardgate.hazards import WARDGATE
from wardgate.train.encoder_model import EncoderGuardModel
from wardgate.train.export import export_onnx
from wardgate.train.mini import Settings, Split, build_splits
from wardgate.train.runs import open_run, pieces_of, take_over
from wardgate.train.shallow import shallow_settings, teach, thinned
from wardgate.train.vocabulary import choose_pieces, save_compact, trimmed

Array = np.ndarray[Any, np.dtype[Any]]


class Files(NamedTuple):
    """What a guard is opened from."""

    model: Path
    tokenizer: Path


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


def students(given: argparse.Namespace, split: Split) -> dict[str, Files]:
    """Each student's files, by name."""
    teacher, tokenizer = open_run(given.base, given.run)
    whole = given.run / "tokenizer.json"
    files: dict[str, Files] = {}

    def add(name: str, student: EncoderGuardModel, pieces: Path, *, quantised: bool = True) -> None:
        path = given.out / f"{name.replace(', ', '-').replace(' ', '-')}.onnx"
        export_onnx(student.eval(), path, quantised=quantised)
        files[name] = Files(path, pieces)

    add("12 layers", teacher, whole)
    add("12 layers, float32", teacher, whole, quantised=False)
    for size in given.vocabulary:
        folder = given.out / f"vocabulary-{size}"
        add(
            f"12 layers, {size} pieces", with_vocabulary(given, teacher, split, size, folder), folder / "tokenizer.json"
        )
    for layers in given.layers:
        state, student = given.out / f"{layers}.pt", thinned(teacher, layers)
        if state.exists():
            student.load_state_dict(torch.load(state, weights_only=True))
        else:
            settings = shallow_settings(Settings())
            teach(teacher, student, split, tokenizer, settings, steps=given.steps, report=print)
            torch.save(student.state_dict(), state)
        add(f"{layers} layers", student, whole)
    return files


def with_vocabulary(
    given: argparse.Namespace, teacher: EncoderGuardModel, split: Split, size: int, folder: Path
) -> EncoderGuardModel:
    """The teacher with fewer word pieces. Its embeddings are the base's, so none has to be learnt again."""
    folder.mkdir(exist_ok=True)
    full = Tokenizer.from_file(str(given.base / "tokenizer.json"))
    keep = choose_pieces(full, split.texts, size)
    save_compact(trimmed(full, keep), folder / "tokenizer.json")
    model = EncoderGuardModel.from_base(given.base, len(WARDGATE.labels), keep=keep)
    take_over(model, keep, teacher.state_dict(), pieces_of(given.run))
    return model


def measured(given: argparse.Namespace, files: dict[str, Files], held: Split) -> list[dict[str, Any]]:
    guards = {n: EncoderGuard(n, f.model, f.tokenizer) for n, f in files.items()}
    some = np.random.default_rng(0).permutation(np.flatnonzero(held.weights[:, -1] == 1))[: given.rows]
    y = held.values[some, -1]
    harmful, benign = (bench(given.data, names, 300) for names in (HARMFUL, BENIGN))
    speed = pace(guards, harmful[:300])
    rows = []
    for name, guard in guards.items():
        z = unsafe(guard, [held.texts[i] for i in some])
        at = float(np.quantile(z[y == 0], 0.975))
        row = {
            "model": name,
            "mb": (files[name].model.stat().st_size + files[name].tokenizer.stat().st_size) / 1e6,
            "texts_per_s": speed[name],
            "speed": speed[name] / speed["12 layers"],
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
        axes.scatter(r["speed"], r["auprc"], s=3 * r["mb"], alpha=0.7, label=f"{r['model']} ({r['mb']:.0f} MB)")
    marks = axes.legend(fontsize=8, loc="lower left").legend_handles
    for mark in marks:
        mark.set_sizes([40])
    axes.margins(0.15)
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
    parser.add_argument("--layers", type=int, nargs="+", default=[6, 4, 3])
    parser.add_argument("--vocabulary", type=int, nargs="*", default=[32_000, 16_000])
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    splits = build_splits(given.pool, Settings())
    rows = measured(given, students(given, splits["train"]), splits["held-back"])
    (given.out / "frontier.json").write_text(json.dumps(rows, indent=1))
    (given.out / "frontier.md").write_text(table(rows))
    plot(rows, given.out / "frontier.png")


if __name__ == "__main__":
    main()
