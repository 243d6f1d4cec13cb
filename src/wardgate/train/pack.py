"""From a fine-tuned encoder to a bundle: export, calibrate what was exported, choose thresholds, measure, write."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np

from wardgate.calibrate import Calibrator
from wardgate.calibrate.choose import fit_chosen
from wardgate.calibrate.fit import fit_platt
from wardgate.calibrate.languages import fit_by_language, shifts_of
from wardgate.calibrate.metrics import ece
from wardgate.engine.bundle import ENCODER, MANIFEST, NGRAMS, load_bundle, write_manifest
from wardgate.engine.canary import canary_texts
from wardgate.engine.evidence import merge_views
from wardgate.engine.language import detect_language
from wardgate.guards import Link, View
from wardgate.guards.encoder import Beside, EncoderGuard, EncoderSettings
from wardgate.hazards import HAZARDS, WARDGATE
from wardgate.normalise import normalise
from wardgate.train.export import export_onnx

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from wardgate.calibrate.methods import Method
    from wardgate.guards import Guard
    from wardgate.train.encoder_model import EncoderGuardModel
    from wardgate.train.mini import Split

    Array = NDArray[np.float64]

BUILT_IN_FALSE_POSITIVE_RATES = {"strict": 0.12, "balanced": 0.055, "permissive": 0.01}
"""What each operating point of a built-in guard aims at: the share of the safe calibration rows that it flags.

More than `calibrate.FALSE_POSITIVE_RATES`, the aim on a user's rows, since these are harder than traffic: many of them
are what their source wrongly calls unsafe. `MODELS.md` says how `balanced` was chosen.
"""

MIN_THRESHOLD = 0.3
"""No threshold lies below: where hardly any safe row scores at all, a quantile would name hazards on noise."""

SMOOTH = ("temperature", "platt", "beta", "isotonic")
"""Methods that a bundle's `unsafe` may take: without steps, so that thresholds can lie anywhere."""

MIN_POSITIVES = 25
"""A hazard with fewer held-back positives keeps the link function: there is nothing to fit on."""


def deployed_logits(guard: Guard, texts: list[str]) -> Array:
    """Logits as the engine gives them: the maximum over views and windows. *Shape:* (n, 13)."""
    views: list[View] = []
    bounds = [0]
    for text in texts:
        views += [View(v) for v in normalise(text).views()]
        bounds.append(len(views))
    return merge_views(guard.score(views).logits, bounds).astype(np.float64)


def fit_calibrator(z: Array, split: Split) -> dict[str, Method]:
    """One method per label, on rows where the label is known.

    `unsafe` takes the method with the lowest log-loss under five-fold cross-validation; hazards, which are
    thinner, take Platt scaling. A hazard's known negatives are the safe rows.
    """
    methods: dict[str, Method] = {}
    for column, label in enumerate(WARDGATE.labels):
        known = split.weights[:, column] == 1
        x, y = z[known, column], split.values[known, column].astype(np.float64)
        if label == "unsafe":
            methods[label] = fit_chosen(x, y, candidates=SMOOTH)[0]
        elif y.sum() >= MIN_POSITIVES:
            methods[label] = fit_platt(x, y)
    return methods


def fit_languages(z: Array, split: Split, methods: dict[str, Method]) -> Calibrator:
    """The methods with shifts by language for `unsafe`, whose method is fitted again with these."""
    known = split.weights[:, -1] == 1
    languages = [detect_language(text) for text in compress(split.texts, known)]
    x, y = z[known, -1], split.values[known, -1].astype(np.float64)
    unsafe, shifts = fit_by_language(methods["unsafe"].kind, x, y, languages)
    return Calibrator(WARDGATE, Link.SIGMOID, methods | {"unsafe": unsafe}, by_language=shifts)


def unsafe_probabilities(z: Array, texts: list[str], calibrator: Calibrator) -> Array:
    """P(unsafe) of texts as the engine gives it, from their deployed logits; *shape* (n,)."""
    shifts = shifts_of([detect_language(text) for text in texts], calibrator.by_language)
    return np.asarray(calibrator.methods["unsafe"](z[:, -1] + shifts))


def operating_points(z: Array, split: Split, methods: Mapping[str, Method]) -> dict[str, dict[str, float]]:
    """Thresholds per point and label: the probability that the stated share of safe rows exceeds.

    Shifts by language are left out of it, so that what they raise in one language is not paid for by the others.
    """
    points: dict[str, dict[str, float]] = {}
    safe = (split.values[:, -1] == 0) & (split.weights[:, -1] == 1)
    for point, rate in BUILT_IN_FALSE_POSITIVE_RATES.items():
        points[point] = {}
        for column, label in enumerate(WARDGATE.labels):
            if label in methods:
                p = np.asarray(methods[label](z[safe, column]))
                # A hazard only names what `unsafe` has caught, so twelve together may err as often as it alone.
                share = rate if label == "unsafe" else rate / len(HAZARDS)
                points[point][label] = round(max(float(np.quantile(p, 1 - share)), MIN_THRESHOLD), 6)
    return points


def pack(
    model: EncoderGuardModel, splits: dict[str, Split], out: Path, *, name: str, version: str
) -> dict[str, object]:
    """Export an encoder, calibrate what was exported, measure, and write the bundle into `out`.

    Args:
        model: the fine-tuned model; `out/tokenizer.json` must be there.
        splits: `calibrate` and `held-back`.
        out: the bundle's folder.
        name: the guard's name.
        version: the bundle's version.

    Returns:
        The manifest, with the held-back figures under `measured`.
    """
    export_onnx(model, out / "model.onnx")
    return pack_encoder(name, splits, out, version=version)


def pack_encoder(
    name: str, splits: dict[str, Split], out: Path, *, version: str, settings: EncoderSettings | None = None
) -> dict[str, object]:
    """The same for an encoder that is exported already: `model.onnx` and `tokenizer.json` are in `out`.

    Args:
        name: the guard's name.
        splits: `calibrate` and `held-back`.
        out: the bundle's folder.
        version: the bundle's version.
        settings: how it cuts and batches; what is not the default is written into the manifest.
    """
    usual = EncoderSettings()
    settings = settings or usual
    guard = EncoderGuard(name, out / "model.onnx", out / "tokenizer.json", settings=settings)
    own = {key: value for key, value in asdict(settings).items() if value != getattr(usual, key)}
    card: dict[str, object] = {
        "kind": "encoder",
        "licence": "Apache-2.0; fine-tuned from multilingual-e5-small (MIT)",
        "settings": {"window": settings.window, "overlap": settings.overlap} | own,
    }
    return finish(guard, splits, out, version=version, card=card)


def joined(name: str, deep: Path, wide: Path, out: Path, *, share: float) -> tuple[EncoderGuard, dict[str, object]]:
    """The bundles of an encoder and of n-grams as one guard, its files in `out`; `finish` calibrates it as a whole.

    Args:
        name: the guard's name.
        deep: folder of a bundle of kind `encoder`.
        wide: folder of a bundle of kind `ngrams`.
        out: the new bundle's folder.
        share: what the logits of the n-grams are multiplied with. See `guards.encoder`.

    Returns:
        The guard, and the card that `finish` takes.

    Raises:
        BundleError: if a folder holds no whole bundle.
        ValueError: if a bundle is of another kind.
    """
    encoder: Any = load_bundle(deep).guard
    ngrams: Any = load_bundle(wide).guard
    cards = [json.loads((folder / MANIFEST).read_text("utf-8")) for folder in (deep, wide)]
    kinds = [card["kind"] for card in cards]
    if kinds != ["encoder", "ngrams"]:
        raise ValueError(
            f"{deep} and {wide} are bundles of kind {kinds[0]!r} and {kinds[1]!r}, not 'encoder' and 'ngrams'"
        )
    out.mkdir(parents=True, exist_ok=True)
    for folder, files in ((deep, ENCODER), (wide, NGRAMS)):
        for file in files:
            shutil.copy(folder / file, out / file)
    model, tokenizer = (out / file for file in ENCODER)
    beside = Beside(ngrams, share)
    guard = EncoderGuard(name, model, tokenizer, settings=encoder.settings, beside=beside)
    card: dict[str, object] = {
        "kind": "blend",
        "licence": cards[0]["licence"],
        "settings": {
            "encoder": cards[0]["settings"],
            "ngrams": cards[1]["settings"],
            "share": share,
            "floor": beside.floor,
        },
        "of": [{key: card[key] for key in ("name", "version", "kind")} for card in cards],
    }
    return guard, card


def finish(
    guard: Guard, splits: dict[str, Split], out: Path, *, version: str, card: dict[str, object]
) -> dict[str, object]:
    """Calibrate a guard, choose its operating points, measure it, and write the manifest of its bundle.

    Args:
        guard: the guard as it will run.
        splits: `calibrate` and `held-back`.
        out: the bundle's folder, its weights in place.
        version: the bundle's version.
        card: kind, licence, settings and what else the manifest is to hold.

    Returns:
        The manifest, with the held-back figures under `measured`.
    """
    z = deployed_logits(guard, splits["calibrate"].texts)
    calibrator = fit_languages(z, splits["calibrate"], fit_calibrator(z, splits["calibrate"]))
    points = operating_points(z, splits["calibrate"], calibrator.methods)
    sung = canary_texts()
    manifest: dict[str, object] = {
        "format": 1,
        "name": guard.name,
        "version": version,
        "labels": "wardgate",
        **card,
        "calibrator": calibrator.to_dict(),
        "points": points,
        "canary": unsafe_probabilities(deployed_logits(guard, sung), sung, calibrator).round(4).tolist(),
        "measured": measure(guard, splits["held-back"], calibrator, points),
    }
    write_manifest(out, manifest)
    return manifest


def measure(
    guard: Guard, split: Split, calibrator: Calibrator, points: dict[str, dict[str, float]]
) -> dict[str, object]:
    """Figures of `unsafe` on rows that neither training nor calibration has seen."""
    p = unsafe_probabilities(deployed_logits(guard, split.texts), split.texts, calibrator)
    known = split.weights[:, -1] == 1
    return figures(p[known], split.values[known, -1].astype(np.float64), points["balanced"]["unsafe"])


def figures(p: Array, y: Array, at: float) -> dict[str, object]:
    """What a card says of P(unsafe): ranking, calibration, and rates at a threshold.

    Args:
        p: probabilities, float64 (n,).
        y: 1 for unsafe, 0 for safe, float64 (n,); both occur.
        at: the threshold.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    return {
        "rows": len(y),
        "unsafe_share": round(float(y.mean()), 4),
        "auprc": round(float(average_precision_score(y, p)), 4),
        "auroc": round(float(roc_auc_score(y, p)), 4),
        "ece": round(ece(p, y), 4),
        "recall_balanced": round(float((p[y == 1] >= at).mean()), 4),
        "fpr_balanced": round(float((p[y == 0] >= at).mean()), 4),
    }
