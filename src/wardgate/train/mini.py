"""Trains the built-in guard: `wardgate train mini --pool DIR --base DIR --out DIR`.

One command, one seed: data plan, trimmed vocabulary, fine-tuning, calibration on rows the model never saw, int8
export, and a bundle that the engine loads. Interrupted, it goes on from its last checkpoint.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from wardgate.guards.batching import plan_batches
from wardgate.hazards import WARDGATE
from wardgate.train.augment import batches
from wardgate.train.encoder_model import EncoderGuardModel, masked_multilabel_loss
from wardgate.train.mini_data import planned, split_of, targets, to_translate, translated
from wardgate.train.runs import (
    averaged,
    base_tokenizer,
    check_run,
    pieces_of,
    run_tokenizer,
    take_over,
)
from wardgate.train.steps import descend
from wardgate.train.vocabulary import choose_pieces, save_compact, trimmed
from wardgate.train.written import benign_requests, in_languages, of_groups, own_source, requests, templates, works

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from wardgate.data.example import Example


@dataclass(frozen=True, slots=True)
class Settings:
    """The recipe. The defaults train from the base; `MODELS.md` has what each shipped bundle was trained with.

    Attributes:
        seed: drives sampling, shuffling, augmentation and initialisation.
        layers: encoder layers to keep.
        vocabulary: word pieces to keep.
        epochs: passes over the training rows.
        frozen: lowest layers that are not trained: they hold what the languages share.
        batch_tokens: padded tokens per step.
        max_tokens: longer texts are cut in training, unsafe ones to their start, safe ones often to a random stretch.
        rate, head_rate: peak learning rates of encoder and head; linear warm-up over `warmup`, then linear decay.
        translated: rows per side (safe, unsafe) that are translated into each language.
        written: how often each written intent is seen per epoch.
        benign: ordinary requests made of frames and words, against over-refusal.
        requests: how often each text that was written out is seen per epoch.
        attacks: share of texts that are shown under an attack of the suite.
        rows: use only this many training rows (for trials); None uses all.
    """

    seed: int = 20261121
    layers: int = 12
    vocabulary: int = 70_000
    epochs: float = 0.75
    frozen: int = 4
    batch_tokens: int = 3072
    max_tokens: int = 160
    rate: float = 1e-4
    head_rate: float = 1e-3
    warmup: float = 0.06
    translated: int = 3000
    written: int = 3
    benign: int = 8_000
    requests: int = 4
    attacks: float = 0.12
    rows: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Texts with targets and weights, float32 of shape (n, 13); weight 0 where unknown."""

    texts: list[str]
    values: NDArray[np.float32]
    weights: NDArray[np.float32]
    sources: list[str]

    @classmethod
    def of(cls, examples: list[Example]) -> Split:
        """Gather examples into arrays."""
        values, weights = targets(examples)
        shape = (len(examples), len(WARDGATE.labels))
        return cls(
            [e.text for e in examples],
            np.array(values, dtype=np.float32).reshape(shape),
            np.array(weights, dtype=np.float32).reshape(shape),
            [e.source for e in examples],
        )


def build_parts(pool: Path, settings: Settings) -> dict[str, list[Example]]:
    """Read the pool under the data plan, add written and translated text, and part it by `split_of`."""
    rows = planned(pool, settings.seed)
    benign = benign_requests(settings.benign, settings.seed)
    parents = {e.id: split_of(e.text) for e in rows} | {e.id: "train" for e in benign}
    parts: dict[str, list[Example]] = {"train": [], "calibrate": [], "held-back": []}
    for e in rows:
        parts[split_of(e.text)].append(e)
    if settings.translated:
        chosen = to_translate(rows, settings.seed, settings.translated) + benign[: settings.translated // 2]
        for e in translated(chosen, settings.seed):  # a translation stays with the text it came from
            parts[parents[e.id.rsplit(":", 1)[0]]].append(e)
    parts["train"] += benign + of_groups() + (templates() + works()) * settings.written
    parts["train"] += in_languages(settings.seed) * 2 + own_source(settings.benign // 8, settings.seed)
    for e in requests():  # they have no source that could tell the model apart from users: all parts have some
        part = split_of(e.text)
        parts[part] += [e] * (settings.requests if part == "train" else 1)
    random.Random(settings.seed).shuffle(parts["train"])  # noqa: S311 - sampling, not secrets
    if settings.rows is not None:
        parts["train"] = parts["train"][: settings.rows]
    return parts


def build_splits(pool: Path, settings: Settings, also: Sequence[Example] = ()) -> dict[str, Split]:
    """The parts as arrays.

    Args:
        pool: folder of the training pool.
        settings: the recipe.
        also: more rows to train on, such as a game's misses.
    """
    parts = build_parts(pool, settings)
    parts["train"] += also
    random.Random(settings.seed + 1).shuffle(parts["train"])  # noqa: S311 - sampling, not secrets
    return {name: Split.of(part) for name, part in parts.items()}


def fit(
    model: EncoderGuardModel,
    split: Split,
    tokenizer: Tokenizer,
    settings: Settings,
    folder: Path,
    *,
    report: Callable[[int, int, float], None],
    device: str = "cpu",
) -> None:
    """Fine-tune in place, with checkpoints and exact resume.

    Args:
        model: the model to train.
        split: training rows.
        tokenizer: the trimmed tokenizer.
        settings: the recipe.
        folder: where `checkpoint.pt` is kept.
        report: called with step, total steps and a running loss.
        device: where to compute; on CPUs with bfloat16 instructions autocast halves the time.
    """
    model.freeze(settings.frozen)
    epochs = int(np.ceil(settings.epochs))
    per_epoch = sum(1 for _ in batches(split, tokenizer, settings, 0))
    total = int(per_epoch * settings.epochs)
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in model.base.parameters() if p.requires_grad], "lr": settings.rate},
            {"params": model.head.parameters(), "lr": settings.head_rate},
        ],
        weight_decay=0.01,
        betas=(0.9, 0.98),
        fused=True,
    )
    model.to(device).train()

    def loss(batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        ids, mask, values, weights = (part.to(device) for part in batch)
        with torch.autocast(device, dtype=torch.bfloat16):
            logits = model(ids, mask).float()
        return masked_multilabel_loss(logits, values, weights)

    every = (batch for epoch in range(epochs) for batch in batches(split, tokenizer, settings, epoch))
    descend(model, optimizer, every, loss, folder, total=total, warmup=settings.warmup, report=report)


def cut(tokenizer: Tokenizer, texts: Sequence[str], most: int) -> list[NDArray[np.int32]]:
    """At most so many pieces from the start of each text, special ones included."""
    found: list[NDArray[np.int32]] = []
    for start in range(0, len(texts), 4096):
        for e in tokenizer.encode_batch(texts[start : start + 4096]):
            ids = e.ids if len(e.ids) <= most else [*e.ids[: most - 1], 2]
            found.append(np.array(ids, dtype=np.int32))
    return found


def padded(ids: Sequence[NDArray[np.int32]], chosen: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Some texts as one batch: ids and mask, int64 (batch, length)."""
    width = max(len(ids[i]) for i in chosen)
    tokens = np.full((len(chosen), width), 1, dtype=np.int64)
    for row, i in enumerate(chosen):
        tokens[row, : len(ids[i])] = ids[i]
    found = torch.from_numpy(tokens)
    return found, (found != 1).long()


@torch.no_grad()
def predict(
    model: EncoderGuardModel,
    texts: Sequence[str],
    tokenizer: Tokenizer,
    *,
    max_tokens: int = 160,
    report: Callable[[int, int, float], None] = lambda *_: None,
    ask: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
    columns: int = len(WARDGATE.labels),
) -> NDArray[np.float32]:
    """Logits of each text's first window, float32 of shape (n, 13), in the order given.

    Args:
        model: what reads them, on the CPU; under autocast in its type.
        texts: any.
        tokenizer: the model's own.
        max_tokens: word pieces of a text that are read.
        report: called with texts read, their number, and 0.
        ask: what is asked of ids and mask instead of the model's logits.
        columns: how many numbers that gives for a text.
    """
    model.cpu().eval()
    ask = ask or model
    ids, done = cut(tokenizer, texts, max_tokens), 0
    out = np.zeros((len(texts), columns), dtype=np.float32)
    for group in plan_batches([len(i) for i in ids], 4096):
        out[group] = ask(*padded(ids, group)).float().numpy()
        done += len(group)
        report(done, len(texts), 0.0)
    return out


def train_mini(
    pool: Path,
    base: Path,
    out: Path,
    settings: Settings,
    report: Callable[[int, int, float], None],
    *,
    starts: Sequence[Path] = (),
    also: Sequence[Example] = (),
) -> tuple[EncoderGuardModel, Tokenizer, dict[str, Split]]:
    """Run the recipe up to a fine-tuned model in `out/model.pt`; finished stages are not repeated.

    Args:
        pool: folder of the training pool.
        base: Hugging Face folder of the base encoder.
        out: where the run's state and its results go.
        settings: the recipe.
        report: called with step, total steps and a running loss.
        starts: folders of finished runs of one vocabulary to go on from: the mean of their weights is taken over, and
            their vocabulary unless it is of another size than the recipe's.
        also: more rows to train on.

    Raises:
        FileNotFoundError: if the pool, the base or a start is not there.
        ValueError: if the starts' vocabularies differ, or are not the recipe's size and their embeddings were trained.
    """
    for start in starts:
        check_run(start)
    full = base_tokenizer(base)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.seed)
    splits = build_splits(pool, settings, also)
    keep_path = out / "keep.json"
    if keep_path.exists():
        keep = pieces_of(out)
    else:
        keep = pieces_of(starts[0]) if starts else []
        if len(keep) != settings.vocabulary:
            keep = choose_pieces(full, splits["train"].texts, settings.vocabulary)
        keep_path.write_text(json.dumps(keep))
    save_compact(trimmed(full, keep), out / "tokenizer.json")
    tokenizer = run_tokenizer(out)
    model = EncoderGuardModel.from_base(base, len(WARDGATE.labels), layers=settings.layers, keep=keep)
    weights = out / "model.pt"
    if weights.exists():
        model.load_state_dict(torch.load(weights, weights_only=True))
    else:
        if starts:
            take_over(model, keep, averaged(starts), pieces_of(starts[0]))
        fit(model, splits["train"], tokenizer, settings, out, report=report)
        torch.save(model.state_dict(), weights)
        (out / "settings.json").write_text(json.dumps(asdict(settings), indent=1))
    return model, tokenizer, splits
