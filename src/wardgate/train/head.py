"""Trains a head on the layers of a finished run: `wardgate train head`. The encoder itself stays as it is.

The head reads several of the last layers. It learns from the texts that the run was trained on and from changed copies
of them, each with the run's own probabilities mixed with the labels where there are some ("self-distillation",
Furlanello et al. 2018, arXiv 1805.04770): taught by labels alone it would forget what the run knows of other texts.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from wardgate.hazards import WARDGATE
from wardgate.train.encoder_model import EncoderGuardModel, LayerHead
from wardgate.train.export import export_onnx
from wardgate.train.lessons import altered, distinct_rows
from wardgate.train.mini import build_splits, predict
from wardgate.train.pack import pack_encoder
from wardgate.train.parts import in_parts
from wardgate.train.runs import RUN_FILES, open_run
from wardgate.train.speech_acts import acts, fit_acts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from wardgate.train.mini import Settings, Split

    Report = Callable[[int, int, float], None]
    Array = NDArray[np.float32]

LABELS = len(WARDGATE.labels)


@dataclass(frozen=True, slots=True)
class HeadSettings:
    """The recipe of the head.

    Attributes:
        seed: drives initialisation, order, dropout and what is changed.
        layers: after which layers it reads, the lowest being 1.
        hidden: numbers between its two products.
        dropped: share of them that is dropped in training.
        labels: weight of the labels against the run's own probabilities, 0 to 1, where a text has labels.
        altered: changed copies, as a share of the texts.
        epochs: passes over texts and copies.
        batch: texts per step.
        rate: peak learning rate of AdamW.
        max_tokens: longer texts are cut to their start.
    """

    seed: int = 20261121
    layers: tuple[int, ...] = (8, 9, 10, 11, 12)
    hidden: int = 384
    dropped: float = 0.4
    labels: float = 0.3
    altered: float = 0.6
    epochs: int = 12
    batch: int = 256
    rate: float = 2e-3
    max_tokens: int = 160


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """What an encoder made of texts, and what their answers should be.

    Attributes:
        means: mean states after each layer that is read, float16 (n, layers, width).
        wanted: probabilities to learn, float32 (n, 13).
        weights: float32 (n, 13).
    """

    means: NDArray[np.float16]
    wanted: Array
    weights: Array


def read_texts(
    model: EncoderGuardModel,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    layers: Sequence[int],
    folder: Path,
    report: Report,
    *,
    max_tokens: int = 160,
) -> tuple[NDArray[np.float16], Array]:
    """What a run's encoder makes of each text's start, and the logits of its own head.

    What is read is kept in `folder`, and a text that the same run has read in the same way is not read again.

    Args:
        model: the run.
        tokenizer: its own.
        texts: what is read.
        layers: after which layers, the lowest being 1.
        folder: where parts are written.
        report: called with texts read, their number, and 0, of those that were not read before.
        max_tokens: word pieces of a text that are read.

    Returns:
        Means float16 (n, layers, width), and logits float32 (n, 13).
    """
    width = model.head.in_features

    def ask(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        means = model.layer_means(ids, mask)
        return torch.cat([*(means[i] for i in layers), model.head(means[-1])], 1)

    def read(part: Sequence[str], before: int, total: int) -> NDArray[np.float16]:
        def onward(done: int, _part: int, loss: float) -> None:
            report(before + done, total, loss)

        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = predict(
                model,
                part,
                tokenizer,
                max_tokens=max_tokens,
                report=onward,
                ask=ask,
                columns=len(layers) * width + LABELS,
            )
        return found.astype(np.float16)

    rows = in_parts(texts, folder, _reader(model, tokenizer, layers, max_tokens), read)
    means = rows[:, :-LABELS].reshape(len(rows), len(layers), width)
    return means, rows[:, -LABELS:].astype(np.float32)


def _reader(model: EncoderGuardModel, tokenizer: Tokenizer, layers: Sequence[int], max_tokens: int) -> str:
    digest = hashlib.sha256(f"{tuple(layers)} {max_tokens} {tokenizer.to_str()}".encode())
    for weight in model.state_dict().values():
        digest.update(weight.cpu().numpy().tobytes())
    return digest.hexdigest()


def mixed(logits: Array, split: Split, share: float) -> tuple[Array, Array]:
    """What is to be learnt of texts, and its weight.

    Args:
        logits: the run's own, float32 (n, 13), of the split's texts, then of others without labels.
        split: texts with labels.
        share: weight of a known label against the run's probability.

    Returns:
        Probabilities and weights, float32 (n, 13) both: where a label is not known, the probability alone counts, and
        so much less.
    """
    own = 1 / (1 + np.exp(-logits))
    known, values = np.zeros_like(own), np.zeros_like(own)
    known[: len(split.texts)], values[: len(split.texts)] = split.weights > 0, split.values
    wanted = np.where(known > 0, (1 - share) * own + share * values, own)
    return wanted.astype(np.float32), (1 - share * (1 - known)).astype(np.float32)


def fit_head(readings: Readings, settings: HeadSettings, report: Report) -> LayerHead:
    """Train a head on what was read.

    Args:
        readings: what it learns from.
        settings: the recipe.
        report: called with step, total steps and a running loss.
    """
    torch.manual_seed(settings.seed)
    count, layers, width = readings.means.shape
    head = LayerHead(settings.layers, width, settings.hidden, LABELS, dropped=settings.dropped)
    means = torch.from_numpy(readings.means.reshape(count, layers * width))
    wanted, weights = torch.from_numpy(readings.wanted), torch.from_numpy(readings.weights)
    sample = means[torch.randperm(count)[:50_000]].float()
    head.centre.copy_(sample.mean(0))
    head.spread.copy_(sample.std(0, correction=0) + 1e-4)
    total = math.ceil(count / settings.batch) * settings.epochs
    optimizer = torch.optim.AdamW(head.parameters(), settings.rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.rate, total_steps=total)
    step, running = 0, 0.2
    head.train()
    for _ in range(settings.epochs):
        for group in torch.split(torch.randperm(count), settings.batch):
            losses = nn.functional.binary_cross_entropy_with_logits(
                head(means[group].float()), wanted[group], weight=weights[group], reduction="sum"
            )
            loss = losses / weights[group].sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            step += 1
            running = 0.99 * running + 0.01 * float(loss.detach())
            if step % 50 == 0:
                report(step, total, running)
    return head.eval()


def save_head(folder: Path, head: LayerHead) -> None:
    """Write `head.pt` into a folder."""
    torch.save({"layers": head.layers, "state": head.state_dict()}, folder / "head.pt")


def open_head(folder: Path) -> LayerHead:
    """The head of a folder.

    Raises:
        FileNotFoundError: if it has none.
    """
    if not (folder / "head.pt").exists():
        raise FileNotFoundError(f"{folder} has no head.pt: `wardgate train head` makes one")
    kept = torch.load(folder / "head.pt", weights_only=True)
    (hidden, inputs), labels = kept["state"]["inner.weight"].shape, len(kept["state"]["outer.bias"])
    head = LayerHead(kept["layers"], inputs // len(kept["layers"]), hidden, labels)
    head.load_state_dict(kept["state"])
    return head.eval()


def train_head(
    pool: Path,
    base: Path,
    run: Path,
    out: Path,
    plan: Settings,
    settings: HeadSettings,
    *,
    version: str,
    report: Report,
) -> dict[str, object]:
    """Give a finished run a head over several layers, and write the bundle.

    Args:
        pool: folder of the training pool.
        base: Hugging Face folder of the base encoder.
        run: folder of a finished run of `wardgate train mini`.
        out: where the head, the run that it is for, and the bundle go.
        plan: the data plan, which its seed drives too.
        settings: the recipe.
        version: the bundle's version.
        report: called with texts read, their number and 0; then with step, total steps and a running loss.

    Returns:
        The bundle's manifest.

    Raises:
        FileNotFoundError: if the pool, the base or the run is not there.
        ValueError: if the run does not have the layers that the head reads.
    """
    model, tokenizer = open_run(base, run)
    total = len(model.base.encoder.layer)  # type: ignore[union-attr, arg-type]
    if not set(settings.layers) <= set(range(1, total + 1)):
        raise ValueError(f"a head that reads after layers {settings.layers} does not fit a run of {total} layers")
    out.mkdir(parents=True, exist_ok=True)
    splits = build_splits(pool, plan)
    train = distinct_rows(splits["train"])
    texts = [*train.texts, *altered(train, settings.altered, settings.seed)]

    def read(texts: Sequence[str]) -> tuple[NDArray[np.float16], Array]:
        most = settings.max_tokens
        return read_texts(model, tokenizer, texts, settings.layers, out / "read", report, max_tokens=most)

    means, logits = read(texts)
    head = fit_head(Readings(means, *mixed(logits, train, settings.labels)), settings, report)
    fit_acts(head, read, acts(pool, settings.seed))
    save_head(out, head)
    (out / "settings.json").write_text(json.dumps(asdict(settings), indent=1))
    for name in RUN_FILES:  # `open_run` opens this folder too
        shutil.copy(run / name, out / name)
    export_onnx(model, out / "model.onnx", head=head)
    return pack_encoder("mini", splits, out, version=version)
