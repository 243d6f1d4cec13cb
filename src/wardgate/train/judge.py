"""`wardgate train judge`: LoRA or QLoRA supervised fine-tuning of a chat model to the judge's JSON.

It stays supervised on purpose: preference tuning breaks the calibration of label tokens, and the guard reads
its confidence from exactly those. Prompts are encoded by the very code that the guard serves with, so what is
trained is what is asked.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from wardgate.calibrate import Calibrator
from wardgate.calibrate.calibrator import log_odds
from wardgate.calibrate.methods import Platt, sigmoid
from wardgate.calibrate.metrics import confidence_auroc, ece
from wardgate.data.rows import DataError
from wardgate.guards import Link, View
from wardgate.guards.chat import ChatFormat
from wardgate.guards.checkpoint import CheckpointError, check_weights, load_tokenizer, locate
from wardgate.guards.from_card import CARD_FILE, find_card, open_guard
from wardgate.guards.rubric import load_rubric, user_turn
from wardgate.guards.windows import Refusal
from wardgate.hazards import LABEL_MAPS
from wardgate.train.classifier import adapters, first_process, merged
from wardgate.train.fitting import FixedOrder, Whole, arguments, bf16_here, run
from wardgate.train.folder import save_calibration, swap, weights_sha256, write_json
from wardgate.train.judge_rows import check_rows
from wardgate.train.recipe import as_dict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from wardgate.calibrate.methods import Method
    from wardgate.train.fitting import Running
    from wardgate.train.judge_rows import JudgeRow
    from wardgate.train.recipe import Recipe

    Array = NDArray[np.float64]

LABELS = LABEL_MAPS["moddog"]


@dataclass(frozen=True, slots=True)
class JudgeOptions:
    """What is not part of the recipe.

    Attributes:
        name: the guard's name.
        rubric: a rubric file; None for wardgate's own.
        four_bit: load the base in 4 bits (QLoRA), which needs CUDA and bitsandbytes.
    """

    name: str = "judge"
    rubric: Path | None = None
    four_bit: bool = False


def train_judge(
    base: str | Path, parts: Mapping[str, list[JudgeRow]], recipe: Recipe, running: Running, options: JudgeOptions
) -> dict[str, Any]:
    """Fine-tune a chat model, merge, calibrate, and write a guard folder.

    Args:
        base: a folder, or a hub id in the local cache.
        parts: rows of `train`, `calibrate` and, where there are any, `held-back`.
        recipe: the recipe.
        running: where; the guard goes to `guard/` inside.
        options: name, rubric, 4-bit loading.

    Returns:
        What was measured and written.

    Raises:
        DataError: if there is nothing to learn.
        CheckpointError: if the base cannot be loaded, or has no chat template.
    """
    warnings = check_rows(parts["train"])
    check_rows(parts["calibrate"])
    tokenizer = load_tokenizer(str(base), revision=None, gated=False)
    rubric = load_rubric(None if options.rubric is None else str(options.rubric))
    rows = encoded(tokenizer, parts["train"], rubric, recipe.max_length)
    model = fit_judge(base, tokenizer, rows, recipe, running, four_bit=options.four_bit)
    if not first_process():
        return {}
    folder = running.out / "guard"
    _save(model, tokenizer, folder, rubric, recipe, options.name, str(base))
    figures = calibrate_judge(folder, parts)
    figures |= {"name": options.name, "base": str(base), "recipe": as_dict(recipe), "warnings": warnings}
    figures |= {"rows": {k: len(v) for k, v in parts.items()}, "weights_sha256": weights_sha256(folder)}
    write_json(folder / "training.json", figures)
    return figures


def encoded(tokenizer: Any, rows: Sequence[JudgeRow], rubric: str, max_length: int) -> list[dict[str, list[int]]]:
    """Token ids and labels: the answer and its end-of-turn token are learnt, the prompt is not (-100).

    A message that does not fit beside rubric and answer is taught by its first part.

    Raises:
        DataError: if the rubric leaves no room for any message.
    """
    chat = ChatFormat.of(tokenizer, rubric)
    end = [*(chat.tail[:1] or (tokenizer.eos_token_id,))]
    out = []
    for row in rows:
        answer = [*tokenizer(row.answer(), add_special_tokens=False)["input_ids"], *end]
        view = View(row.text[: max_length * 40], row.response and row.response[: max_length * 40])
        if len(chat.wrap(user_turn(view))) + len(answer) > max_length:
            found = chat.encode(view, max_length - len(answer))
            if isinstance(found, Refusal):
                raise DataError(f"max_length {max_length} leaves no room for a message beside the rubric")
            prompt = list(found[0])
        else:
            prompt = list(chat.wrap(user_turn(view)))
        out.append({"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer})
    return out


def fit_judge(
    base: str | Path,
    tokenizer: Any,
    rows: Sequence[dict[str, list[int]]],
    recipe: Recipe,
    running: Running,
    *,
    four_bit: bool,
) -> Any:
    """The fine-tuned model, adapters merged. A run that was cut short goes on from its last whole checkpoint."""
    from datasets import Dataset
    from transformers import set_seed
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    class Trainer(FixedOrder, SFTTrainer):
        """TRL's trainer with an order of rows that the seed fixes."""

    set_seed(recipe.seed)
    model = open_chat_model(base, four_bit=four_bit)
    bf16 = bf16_here(model.config.model_type, recipe.precision)
    given = arguments(recipe, running, bf16=bf16, evaluate=False)
    trainer = Trainer(
        model=model,
        args=SFTConfig(**given, max_length=None, packing=False),
        train_dataset=Dataset.from_list(list(rows)),
        processing_class=tokenizer,
        peft_config=adapters(recipe, "CAUSAL_LM") if recipe.lora else None,
        callbacks=[Whole(), *running.callbacks],
    )
    run(trainer, running.out)
    return merged(trainer.accelerator.unwrap_model(trainer.model))


def open_chat_model(base: str | Path, *, four_bit: bool = False) -> Any:
    """Load a causal language model: float32 on a CPU, bfloat16 on a GPU, or in 4 bits.

    Raises:
        CheckpointError: if it is not here, or 4 bits are asked for where they cannot be had.
    """
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    found = locate(str(base))
    check_weights(found)
    cuda = torch.cuda.is_available()
    dtype = torch.bfloat16 if cuda else torch.float32
    more: dict[str, Any] = {}
    if four_bit:
        if not cuda or find_spec("bitsandbytes") is None:
            raise CheckpointError("4-bit training needs a CUDA device and bitsandbytes; leave --four-bit off for LoRA")
        more["quantization_config"] = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype, bnb_4bit_use_double_quant=True
        )
    try:
        return AutoModelForCausalLM.from_pretrained(
            found.folder, dtype=dtype, trust_remote_code=False, local_files_only=True, use_safetensors=True, **more
        )
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{base}: no chat model can be made of it ({type(error).__name__})") from None


def _save(model: Any, tokenizer: Any, folder: Path, rubric: str, recipe: Recipe, name: str, base: str) -> None:
    fresh = folder.with_name("guard.new")
    shutil.rmtree(fresh, ignore_errors=True)
    model.save_pretrained(fresh)
    tokenizer.save_pretrained(fresh)
    (fresh / "rubric.txt").write_text(rubric + "\n", encoding="utf-8")
    card = {
        "name": name,
        "family": "judge",
        "source": f"fine-tuned from {base} by wardgate train judge",
        "checkpoint": ".",
        "labels": LABELS.name,
        "rubric": "./rubric.txt",
        "max_length": max(64, recipe.max_length),
    }
    (fresh / CARD_FILE).write_text(yaml.safe_dump(card, sort_keys=False), encoding="utf-8")
    swap(fresh, folder)


def calibrate_judge(folder: Path, parts: Mapping[str, Sequence[JudgeRow]]) -> dict[str, Any]:
    """Fit the flag's calibration on `calibrate`, write it, and measure on `held-back` where there is one."""
    guard = open_guard(find_card(folder))
    calibrator = Calibrator(LABELS, Link.SOFTMAX, {})
    z, y = _scored(guard, parts["calibrate"])
    method = fit_flag(z, y)
    unsafe = [label for label, m in LABELS.meanings.items() if m.unsafe]
    methods: dict[str, Method] = dict.fromkeys(unsafe, method)
    save_calibration(folder, Calibrator(LABELS, Link.SOFTMAX, methods), {})
    held = parts.get("held-back") or parts["calibrate"]
    z, y = _scored(guard, held)
    out: dict[str, Any] = {"measured_on": "held-back" if parts.get("held-back") else "calibrate (no held-back rows)"}
    plain = flag_probability(z, Platt(1.0, 0.0))
    out["measured"] = _figures(flag_probability(z, method), y) | {"ece_before": round(ece(plain, y), 4)}
    return out | {"labels": calibrator.label_map.name}


def _scored(guard: Any, rows: Sequence[JudgeRow]) -> tuple[Array, Array]:
    """Log-odds of the unsafe labels, float64 of shape (n, 5), and flags; rows that were not scored are left out."""
    z = guard.score([View(r.text, r.response) for r in rows]).logits.astype(np.float64)
    scored = np.isfinite(z).all(1)
    unsafe = [bool(m.unsafe) for m in LABELS.meanings.values()]
    return log_odds(z[scored])[:, unsafe], np.array([float(r.flag) for r in rows])[scored]


def flag_probability(z: Array, method: Platt) -> Array:
    """P(flag) as `Calibrator` gives it: the sum over unsafe labels of the mapped log-odds, at most 1.

    Args:
        z: log-odds of each unsafe label against all others. *Shape:* (n, labels)
        method: the same map for each.
    """
    return np.asarray(np.minimum(sigmoid(method.slope * z + method.intercept).sum(1), 1.0))


def fit_flag(z: Array, y: Array) -> Platt:
    """The one slope and intercept for all unsafe labels under which the flag's log-loss is least.

    The maps are fitted together because what is used is their sum. Slope 1 and intercept 0 change nothing.
    """
    from scipy.optimize import minimize

    def loss(x: Array) -> float:
        p = np.clip(flag_probability(z, Platt(float(np.exp(x[0])), float(x[1]))), 1e-6, 1 - 1e-6)
        return float(-np.mean(y * np.log(p) + (1 - y) * np.log1p(-p)))

    found = minimize(partial(loss), np.zeros(2), method="Nelder-Mead", bounds=[(-5, 3), (-20, 20)])
    return Platt(float(np.exp(found.x[0])), float(found.x[1]))


def _figures(p: Array, y: Array) -> dict[str, Any]:
    from sklearn.metrics import average_precision_score, roc_auc_score

    if len(set(y.tolist())) < 2:
        return {"rows": len(y), "note": "one class only: nothing can be measured"}
    correct = (p >= 0.5) == (y == 1)
    known = 0 < correct.sum() < len(correct)
    return {
        "rows": len(y),
        "flagged_share": round(float(y.mean()), 4),
        "accuracy": round(float(correct.mean()), 4),
        "auroc": round(float(roc_auc_score(y, p)), 4),
        "auprc": round(float(average_precision_score(y, p)), 4),
        "ece": round(ece(p, y), 4),
        "confidence_auroc": round(confidence_auroc(np.maximum(p, 1 - p), correct), 4) if known else None,
    }
