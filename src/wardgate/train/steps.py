"""The steps of training: a rate that rises and falls, clipped gradients, checkpoints from which it goes on exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from torch import Tensor, nn

    Batch = TypeVar("Batch")

CHECKPOINT_EVERY, REPORT_EVERY = 500, 20
"""In steps."""


def warmed(optimizer: torch.optim.Optimizer, steps: int, share: float) -> torch.optim.lr_scheduler.LambdaLR:
    """A learning rate that rises linearly over a share of the steps, then falls linearly to zero."""
    warm = max(1, int(steps * share))
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / warm, max(0.0, (steps - s) / max(1, steps - warm)))
    )


def take_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LRScheduler, loss: Tensor
) -> float:
    """One step down a loss, its gradients clipped to a norm of 1. Gives what the loss was.

    Args:
        model: what is trained.
        optimizer: of its parameters.
        schedule: of the optimizer's rates.
        loss: of one batch.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()
    return float(loss.detach())


def descend(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Batch],
    loss: Callable[[Batch], Tensor],
    folder: Path,
    *,
    total: int,
    warmup: float,
    report: Callable[[int, int, float], None],
) -> None:
    """Train in place, with a checkpoint every `CHECKPOINT_EVERY` steps and at the end.

    Args:
        model: what is trained, where it is to be trained.
        optimizer: of its parameters.
        batches: at least `total` of them, the same in each call.
        loss: what is to become small, of one batch.
        folder: where `checkpoint.pt` is kept.
        total: steps.
        warmup: share of the steps in which the rate rises.
        report: called with step, total steps and a running loss.
    """
    schedule = warmed(optimizer, total, warmup)
    path, done, running = folder / "checkpoint.pt", 0, 0.7
    if path.exists():
        state = torch.load(path, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["rng"])
        done, running = state["step"], state["running"]
    for step, batch in enumerate(batches, 1):
        if step <= done:
            continue
        if step > total:
            break
        running = 0.99 * running + 0.01 * take_step(model, optimizer, schedule, loss(batch))
        if step % REPORT_EVERY == 0:
            report(step, total, running)
        if step % CHECKPOINT_EVERY == 0 or step == total:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
            state |= {"schedule": schedule.state_dict(), "rng": torch.get_rng_state(), "running": running}
            torch.save(state, path.with_suffix(".new"))
            path.with_suffix(".new").replace(path)
