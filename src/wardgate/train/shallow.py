"""Shallower students of a fine-tuned encoder: fewer layers, the same vocabulary, taught by the whole one.

The lowest layers are kept, since what they hand up is what they were trained to (a linear head on the ninth of twelve
ranks as well as the whole, `docs/log.md`); or layers taken evenly, as DistilBERT starts (Sanh et al. 2019). What is
lost is learnt back from the teacher's probabilities beside the labels.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from wardgate.train.augment import batches
from wardgate.train.encoder_model import EncoderGuardModel, evenly, keep_layers, masked_multilabel_loss
from wardgate.train.steps import take_step, warmed

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenizers import Tokenizer

    from wardgate.train.mini import Settings, Split

TEACHER_WEIGHT = 0.7
"""Weight of the teacher's probabilities; the rest goes to the labels."""


def thinned(teacher: EncoderGuardModel, layers: int, *, spread: bool = False) -> EncoderGuardModel:
    """A copy with some of the teacher's layers, and its head.

    Args:
        teacher: what is copied.
        layers: how many it keeps.
        spread: keep the first, the last, and others evenly between them, instead of the lowest.

    Raises:
        ValueError: if the teacher has fewer.
    """
    encoder = teacher.base.encoder.layer  # type: ignore[union-attr]
    total = len(encoder)  # type: ignore[arg-type]
    if not 1 <= layers <= total:
        raise ValueError(f"a student of a {total}-layer teacher has 1 to {total} layers, not {layers}")
    student = copy.deepcopy(teacher)
    keep_layers(student.base, evenly(total, layers) if spread else range(layers))
    return student


def teach(
    teacher: EncoderGuardModel,
    student: EncoderGuardModel,
    split: Split,
    tokenizer: Tokenizer,
    settings: Settings,
    *,
    steps: int,
    report: Callable[[int, int, float], None],
) -> None:
    """Train the student in place on the CPU, for `steps` batches.

    Args:
        teacher: gives probabilities; it is not changed.
        student: what `thinned` made.
        split: training rows.
        tokenizer: the trimmed tokenizer.
        settings: batch size, rates, seed and augmentation.
        steps: batches in all.
        report: called with step, total steps and a running loss.
    """
    teacher.eval()
    student.base.encoder.requires_grad_(True)
    student.train()
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in student.base.parameters() if p.requires_grad], "lr": settings.rate},
            {"params": student.head.parameters(), "lr": settings.head_rate},
        ],
        weight_decay=0.01,
        fused=True,
    )
    schedule = warmed(optimizer, steps, settings.warmup)
    running = 0.7
    stream = (batch for epoch in range(steps) for batch in batches(split, tokenizer, settings, epoch))
    for step, (ids, mask, values, weights) in zip(range(1, steps + 1), stream, strict=False):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            with torch.no_grad():
                opinion = torch.sigmoid(teacher(ids, mask).float())
            logits = student(ids, mask).float()
        taught = nn.functional.binary_cross_entropy_with_logits(logits, opinion)
        loss = TEACHER_WEIGHT * taught + (1 - TEACHER_WEIGHT) * masked_multilabel_loss(logits, values, weights)
        running = 0.98 * running + 0.02 * take_step(student, optimizer, schedule, loss)
        if step % 20 == 0:
            report(step, steps, running)


def shallow_settings(settings: Settings) -> Settings:
    """The recipe for students: every layer learns, at a higher rate, since layers were taken out."""
    return replace(settings, frozen=0, rate=1.5e-4)
