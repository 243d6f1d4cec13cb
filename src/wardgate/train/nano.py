"""Trains the smallest built-in guard: `wardgate train nano`. Hashed n-grams, a table, a tiny head; minutes on a CPU.

It learns from the labels of the pool and, where it is given them, from the probabilities of a teacher: what a larger
guard thinks of a text is a finer lesson than whether a person called it unsafe (Hinton et al. 2015).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from wardgate.guards import View
from wardgate.guards.batching import windows
from wardgate.guards.ngrams import NgramGuard, NgramSettings, features
from wardgate.hazards import WARDGATE
from wardgate.train.encoder_model import masked_multilabel_loss
from wardgate.train.pack import finish

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from wardgate.guards import Guard
    from wardgate.train.mini import Split


@dataclass(frozen=True, slots=True)
class NanoSettings:
    """The recipe of the n-gram guard.

    Attributes:
        seed: drives initialisation, order and dropout.
        width: numbers per table row.
        hidden: units of the head's only layer.
        epochs: passes over the rows.
        batch: texts per step.
        rate: learning rate of Adam, falling linearly to zero.
        dropped: share of a text's features left out at each step, so that no single one decides.
        teacher: weight of the teacher's probabilities against the labels, 0 to 1.
    """

    seed: int = 20261121
    width: int = 16
    hidden: int = 48
    epochs: int = 4
    batch: int = 256
    rate: float = 4e-3
    dropped: float = 0.5
    teacher: float = 0.5


class NgramModel(nn.Module):
    """The trainable form of `guards.ngrams.NgramGuard`: float32 throughout."""

    def __init__(self, rows: int, labels: int, settings: NanoSettings) -> None:
        """Start the table at zero, so that what training never saw says nothing, and the first layer large."""
        super().__init__()
        self.table = nn.EmbeddingBag(rows, settings.width, mode="mean", sparse=True)
        nn.init.zeros_(self.table.weight)
        self.hidden = nn.Linear(settings.width, settings.hidden)
        nn.init.normal_(self.hidden.weight, std=1.0)
        self.head = nn.Linear(settings.hidden, labels)

    def forward(self, rows: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        """Logits (n, labels) from flat rows (m,) and each text's offset (n,)."""
        out: torch.Tensor = self.head(torch.relu(self.hidden(self.table(rows, offsets))))
        return out


@dataclass(frozen=True, slots=True, eq=False)
class Lessons:
    """Features with targets: text i has `rows[bounds[i]:bounds[i + 1]]`.

    Attributes:
        rows: int32 (m,).
        bounds: int64 (n + 1,).
        values: float32 (n, 13).
        weights: float32 (n, 13); 0 where unknown.
    """

    rows: NDArray[np.int32]
    bounds: NDArray[np.int64]
    values: NDArray[np.float32]
    weights: NDArray[np.float32]


def lessons(
    texts: Sequence[str], split: Split, settings: NgramSettings, *, teacher: NDArray[np.float32] | None, share: float
) -> Lessons:
    """Features of each text's first window, and targets.

    Args:
        texts: as many as the split has rows, as the guard would see them.
        split: labels and weights.
        settings: the guard's sizes.
        teacher: probabilities of the teacher, float32 (n, 13), or None; NaN where it gave none.
        share: weight of the teacher, 0 to 1.
    """
    values, weights = split.values, split.weights
    if teacher is not None:
        given = ~np.isnan(teacher)
        known = weights > 0
        mixed = np.where(known, (1 - share) * values + share * np.nan_to_num(teacher), np.nan_to_num(teacher))
        values = np.where(given, mixed, values).astype(np.float32)
        weights = np.where(given & ~known, share, weights).astype(np.float32)
    rows, lengths = [], []
    for start in range(0, len(texts), 256):
        part = [windows(t, settings.window, settings.overlap)[0] for t in texts[start : start + 256]]
        found, bounds = features(part, settings)
        rows.append(found.astype(np.int32))
        lengths.append(np.diff(bounds))
    bounds = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    return Lessons(np.concatenate(rows), bounds, values, weights)


def fit_nano(
    data: Lessons, sizes: NgramSettings, settings: NanoSettings, report: Callable[[int, int, float], None]
) -> NgramModel:
    """Train a model on the CPU.

    Args:
        data: features and targets.
        sizes: the guard's sizes.
        settings: the recipe.
        report: called with step, total steps and a running loss.
    """
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    model = NgramModel(1 << sizes.bits, len(WARDGATE.labels), settings)
    n = len(data.values)
    total = settings.epochs * -(-n // settings.batch)
    sparse = torch.optim.SparseAdam(list(model.table.parameters()), lr=settings.rate)
    dense = torch.optim.AdamW([*model.hidden.parameters(), *model.head.parameters()], lr=settings.rate)
    optimizers: tuple[torch.optim.Optimizer, ...] = (sparse, dense)
    falling = [torch.optim.lr_scheduler.LambdaLR(o, lambda s: max(0.02, 1 - s / total)) for o in optimizers]
    step, running = 0, 0.7
    for _ in range(settings.epochs):
        order = rng.permutation(n)
        for start in range(0, n, settings.batch):
            chosen = order[start : start + settings.batch]
            rows, offsets = _drawn(data, chosen, settings.dropped, rng)
            loss = masked_multilabel_loss(
                model(rows, offsets), torch.from_numpy(data.values[chosen]), torch.from_numpy(data.weights[chosen])
            )
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            for optimizer, schedule in zip(optimizers, falling, strict=True):
                optimizer.step()
                schedule.step()
            step += 1
            running = 0.99 * running + 0.01 * float(loss.detach())
            if step % 100 == 0:
                report(step, total, running)
    return model


def _drawn(
    data: Lessons, chosen: NDArray[np.int64], dropped: float, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """The features of some texts, a part of each left out, never all."""
    parts = []
    for i in chosen:
        rows = data.rows[data.bounds[i] : data.bounds[i + 1]]
        kept = rows[rng.random(len(rows)) >= dropped]
        parts.append(kept if len(kept) else rows)
    offsets = np.concatenate([[0], np.cumsum([len(p) for p in parts])[:-1]])
    return torch.from_numpy(np.concatenate(parts).astype(np.int64)), torch.from_numpy(offsets)


def save_nano(model: NgramModel, path: Path) -> None:
    """Write the weights as `NgramGuard` reads them: the table in 8 bits with one scale a column."""
    from safetensors.numpy import save_file

    table = model.table.weight.detach().numpy()
    scale = np.maximum(np.abs(table).max(axis=0), 1e-8) / 127
    save_file(
        {
            "table": np.rint(table / scale).astype(np.int8),
            "scale": scale.astype(np.float32),
            "hidden": model.hidden.weight.detach().numpy().T.copy(),
            "hidden_bias": model.hidden.bias.detach().numpy(),
            "head": model.head.weight.detach().numpy().T.copy(),
            "head_bias": model.head.bias.detach().numpy(),
        },
        path,
    )


def train_nano(
    splits: dict[str, Split],
    out: Path,
    settings: NanoSettings,
    *,
    teacher: Guard | None = None,
    version: str = "0",
    report: Callable[[int, int, float], None],
) -> dict[str, object]:
    """Train on the splits of `mini.build_splits`, and write a bundle into `out`.

    Args:
        splits: `train`, `calibrate` and `held-back`.
        out: the bundle's folder.
        settings: the recipe.
        teacher: a guard with the 13 labels of wardgate whose opinion of the training texts is learnt too.
        version: the bundle's version.
        report: called with step, total steps and a running loss.

    Returns:
        The bundle's manifest.
    """
    out.mkdir(parents=True, exist_ok=True)
    sizes, train = NgramSettings(), splits["train"]
    opinion = None if teacher is None else _opinion(teacher, train.texts)
    data = lessons(train.texts, train, sizes, teacher=opinion, share=settings.teacher)
    save_nano(fit_nano(data, sizes, settings, report), out / "weights.safetensors")
    guard = NgramGuard("nano", out / "weights.safetensors", settings=sizes)
    card: dict[str, object] = {
        "kind": "ngrams",
        "licence": "Apache-2.0",
        "settings": asdict(sizes),
        "recipe": asdict(settings) | {"taught_by": None if teacher is None else teacher.name},
    }
    return finish(guard, splits, out, version=version, card=card)


def _opinion(teacher: Guard, texts: Sequence[str]) -> NDArray[np.float32]:
    distinct, places = np.unique(np.array(texts, dtype=object), return_inverse=True)
    logits = teacher.score([View(t) for t in distinct]).logits
    probabilities: NDArray[np.float32] = (1 / (1 + np.exp(-logits))).astype(np.float32)[places]
    return probabilities
