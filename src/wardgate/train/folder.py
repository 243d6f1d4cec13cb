"""The end of a run: weights, tokenizer, guard card, calibration and figures in one folder that the engine opens."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from wardgate.calibrate import FALSE_POSITIVE_RATES, Calibrator
from wardgate.calibrate.fit import fit_platt
from wardgate.calibrate.methods import Platt
from wardgate.data.audit import audit, text_of
from wardgate.data.rows import DataError, written
from wardgate.engine.catalogue import CALIBRATION
from wardgate.guards import Link, View
from wardgate.guards.from_card import CARD_FILE, find_card, open_guard
from wardgate.hazards import HAZARD_INDEX, HAZARDS
from wardgate.train.pack import MIN_POSITIVES, MIN_THRESHOLD, figures
from wardgate.train.recipe import as_dict
from wardgate.train.targets import targets_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from wardgate.calibrate.methods import Method
    from wardgate.calibrate.probabilities import Probabilities
    from wardgate.data.example import Example
    from wardgate.guards import Guard
    from wardgate.train.classifier import Head
    from wardgate.train.recipe import Recipe

    Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Making:
    """What a folder's card and figures say of how it was made."""

    name: str
    base: str
    head: Head
    recipe: Recipe
    warnings: tuple[str, ...] = ()


def finish(
    model: Any, tokenizer: Any, parts: Mapping[str, Sequence[Example]], making: Making, out: Path
) -> dict[str, Any]:
    """Write `out/guard`: the model, its card, its calibration; then measure it as the engine would run it.

    Returns:
        The figures, which also stand in `guard/training.json`.
    """
    folder, fresh, head = out / "guard", out / "guard.new", making.head
    shutil.rmtree(fresh, ignore_errors=True)
    model.save_pretrained(fresh)
    tokenizer.save_pretrained(fresh)
    write_card(fresh, making)
    swap(fresh, folder)
    guard = open_guard(find_card(folder))
    z = logits_of(guard, parts["calibrate"])
    methods = fit_methods(z, parts["calibrate"], head)
    points = operating_points(guard, methods, parts["calibrate"])
    calibrator = Calibrator(head.labels, head.link, methods)
    save_calibration(folder, calibrator, points)
    held = parts.get("held-back") or parts["calibrate"]
    told = described(making, folder) | {
        "rows": {part: len(rows) for part, rows in parts.items()},
        "measured_on": "held-back" if parts.get("held-back") else "calibrate (no held-back rows)",
        "seen_in_training": seen_in_training(held, parts["train"]),
        "measured": measure(calibrated(guard, calibrator, held), held, points),
    }
    write_json(folder / "training.json", told)
    return told


def seen_in_training(held: Sequence[Example], train: Sequence[Example]) -> dict[str, int]:
    """How many measured rows the training rows hold too, exactly, nearly or in part, by the look that found them.

    Splits by group leave few. A figure over many such rows is too good to be true, so they stand beside it.
    """
    return dict(audit([text_of(e) for e in held], [text_of(e) for e in train]).counts)


def described(making: Making, folder: Path) -> dict[str, Any]:
    """How a guard was made, as plain JSON values."""
    return {
        "name": making.name,
        "base": making.base,
        "labels": making.head.labels.name,
        "recipe": as_dict(making.recipe),
        "warnings": list(making.warnings),
        "weights_sha256": weights_sha256(folder),
    }


def save_calibration(folder: Path, calibrator: Calibrator, points: Mapping[str, Mapping[str, float]]) -> None:
    """Write `calibration.json`."""
    write_json(folder / CALIBRATION, {"calibrator": calibrator.to_dict(), "points": points})


def load_calibrator(folder: Path, guard: Guard) -> tuple[Calibrator, dict[str, dict[str, float]]]:
    """Read `calibration.json` back: the calibrator and the operating points.

    Raises:
        DataError: if it is not there or damaged.
    """
    path = folder / CALIBRATION
    try:
        saved = json.loads(path.read_text("utf-8"))
        return Calibrator.from_dict(saved["calibrator"], guard.labels, guard.link), saved["points"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a calibration ({type(error).__name__})") from None


def write_json(path: Path, value: object) -> None:
    """Write a JSON file, whole or not at all.

    Raises:
        DataError: if the disk is full.
    """
    with written(path) as stream:
        stream.write(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def swap(fresh: Path, folder: Path) -> None:
    """Put a whole new folder in the place of an old one."""
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    os.replace(fresh, folder)  # noqa: PTH105 - the atomic call by its name
    shutil.rmtree(old, ignore_errors=True)


def write_card(folder: Path, making: Making) -> None:
    """Write the guard card that makes the checkpoint in `folder` a guard, wherever that folder goes."""
    card = {
        "name": making.name,
        "family": "classifier",
        "source": f"fine-tuned from {making.base} by wardgate train",
        "checkpoint": ".",
        "head": making.head.link.value,
        "labels": making.head.labels.name,
        "input": making.head.reads,
        "max_length": making.recipe.max_length,
    }
    (folder / CARD_FILE).write_text(yaml.safe_dump(card, sort_keys=False), encoding="utf-8")


def views(examples: Sequence[Example]) -> list[View]:
    """Examples as a guard sees them."""
    return [View(e.text, e.response) for e in examples]


def logits_of(guard: Guard, examples: Sequence[Example]) -> Array:
    """A guard's logits, NaN rows for what it could not score. *Shape:* (n, labels)."""
    return guard.score(views(examples)).logits.astype(np.float64)


def calibrated(guard: Guard, calibrator: Calibrator, examples: Sequence[Example]) -> Probabilities:
    """A guard's probabilities."""
    return calibrator.apply(guard.score(views(examples)))


def fit_methods(z: Array, examples: Sequence[Example], head: Head) -> dict[str, Method]:
    """Platt scaling for every label with rows enough on both sides; under softmax, on the log-odds."""
    from wardgate.calibrate.calibrator import log_odds

    targets = targets_for(examples, head.labels, head.link)
    scores = log_odds(z) if head.link is Link.SOFTMAX else z
    methods: dict[str, Method] = {}
    for column, label in enumerate(head.labels.labels):
        known = (targets.weights[:, column] > 0) & np.isfinite(scores[:, column])
        x, y = scores[known, column], targets.values[known, column].astype(np.float64)
        if min(y.sum(), len(y) - y.sum()) >= MIN_POSITIVES:
            fitted = fit_platt(x, y)
            # A negative slope would call the surest finds safe: such a label is better left alone.
            if isinstance(fitted, Platt) and fitted.slope > 0:
                methods[label] = fitted
    return methods


def operating_points(
    guard: Guard, methods: Mapping[str, Method], examples: Sequence[Example]
) -> dict[str, dict[str, float]]:
    """Thresholds per point for `unsafe` and each hazard: what the stated share of safe rows exceeds.

    A hazard only names what `unsafe` has caught, so the hazards together may err as often as it alone.
    """
    p = calibrated(guard, Calibrator(guard.labels, guard.link, methods), examples)
    safe = np.array([e.unsafe is False for e in examples]) & np.isfinite(p.unsafe)
    seen = [h for h in HAZARDS if h in guard.labels.seen()]
    points: dict[str, dict[str, float]] = {}
    for point, rate in FALSE_POSITIVE_RATES.items():
        points[point] = {"unsafe": _quantile(p.unsafe[safe], rate)}
        for hazard in seen:
            points[point][hazard.value] = _quantile(p.hazards[safe, HAZARD_INDEX[hazard]], rate / len(seen))
    return points


def _quantile(p: Array, rate: float) -> float:
    return round(max(float(np.quantile(p, 1 - rate)), MIN_THRESHOLD), 6) if len(p) else 0.5


def measure(p: Probabilities, examples: Sequence[Example], points: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Figures of `unsafe`, on the rows that say whether they are."""
    known = np.array([e.unsafe is not None for e in examples]) & np.isfinite(p.unsafe)
    y = np.array([float(e.unsafe is True) for e in examples])[known]
    if len(set(y)) < 2:
        return {"rows": len(y), "note": "one class only: nothing can be measured"}
    return figures(p.unsafe[known], y, points["balanced"]["unsafe"])


def weights_sha256(folder: Path) -> str:
    """One hash over the weight files of a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
