"""Cross-lingual transfer: a run learns to answer translations as it answers the originals: `wardgate train transfer`.

Of most harms the pool has English texts alone. A guard that has learnt from them knows other languages by what its base
knows, and answers a French insult with less certainty than the same insult in English. Its own answer to the English
text is what it should say of the translation (as Reimers & Gurevych 2020, arXiv 2004.09813, make sentence embeddings
multilingual); what it says of other training texts holds it where it is.
"""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from wardgate.train.encoder_model import EncoderGuardModel
from wardgate.train.export import export_onnx
from wardgate.train.head import mixed, open_head, read_texts, save_head
from wardgate.train.lessons import answers, together
from wardgate.train.mini import Settings, Split, build_parts, fit
from wardgate.train.mini_data import translated
from wardgate.train.pack import pack_encoder
from wardgate.train.runs import VOCABULARY_FILES, open_run
from wardgate.train.speech_acts import acts, fit_acts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from wardgate.data.example import Example
    from wardgate.train.encoder_model import LayerHead

    Report = Callable[[int, int, float], None]
    Array = NDArray[np.float32]

LONGEST = 500
"""Letters of a text that is translated."""


@dataclass(frozen=True, slots=True)
class TransferSettings:
    """The recipe.

    Attributes:
        seed: drives the choice of texts, their order and how they are changed.
        originals: English texts that are translated.
        kept: other training texts.
        written: how often a text written in another language than English is seen in an epoch.
        labels: weight of known labels against the run's own probabilities, 0 to 1.
        labels_written: the same for texts written in another language, where the run's own answer is what is to mend.
        epochs: passes over all of these.
        rate, head_rate: peak learning rates of encoder and head.
        max_tokens: longer texts are cut.
    """

    seed: int = 20261121
    originals: int = 24_000
    kept: int = 45_000
    written: int = 2
    labels: float = 0.3
    labels_written: float = 0.7
    epochs: float = 1.0
    rate: float = 4e-5
    head_rate: float = 3e-4
    max_tokens: int = 160


class LayeredModel(EncoderGuardModel):
    """An encoder and a head over several of its layers, trained as one.

    Args:
        encoder: the encoder of a run, which it shares.
        head: a head that reads it.
    """

    head: LayerHead  # type: ignore[assignment]

    def __init__(self, encoder: EncoderGuardModel, head: LayerHead) -> None:
        nn.Module.__init__(self)  # the run has made its encoder ready for training
        self.base, self.dropout, self.head = encoder.base, encoder.dropout, head

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Score a padded batch; shapes as in `EncoderGuardModel`."""
        means = self.layer_means(ids, mask)
        logits: Tensor = self.head(torch.cat([means[i] for i in self.head.layers], 1).float())
        return logits


def chosen(rows: Sequence[Example], settings: TransferSettings) -> tuple[list[Example], list[Example], list[Example]]:
    """What is learnt from: originals to translate, other texts, and what was written in another language than English.

    Args:
        rows: training rows, repeats among them.
        settings: the recipe.
    """
    rng = random.Random(settings.seed)  # noqa: S311 - sampling, not secrets
    distinct = list({e.text: e for e in rows}.values())
    abroad = [e for e in distinct if e.source == "written" and e.language != "en"]
    english = [e for e in distinct if e.language == "en" and len(e.text) < LONGEST]
    originals = rng.sample(english, min(settings.originals, len(english)))
    taken = {e.text for e in (*abroad, *originals)}
    others = [e for e in distinct if e.text not in taken]
    return originals, rng.sample(others, min(settings.kept, len(others))), abroad


def taught(split: Split, own: Array, share: float) -> Split:
    """A split with the answers to learn instead of labels.

    Args:
        split: texts with labels.
        own: what the run says of them, probabilities, float32 (n, 13).
        share: weight of a known label against that.
    """
    values, weights = mixed(np.log(own) - np.log1p(-own), split, share)
    return Split(split.texts, values, weights, split.sources)


def foreign_lessons(originals: Sequence[Example], learnt: Split, seed: int) -> Split:
    """The translations of texts, each with what is learnt of its original.

    Args:
        originals: English texts.
        learnt: the same, with what is learnt of them.
        seed: drives what is drawn in translating.

    Raises:
        OSError: if Apertium or one of its pairs is not installed.
    """
    numbered = [replace(e, id=str(i)) for i, e in enumerate(originals)]
    foreign = translated(numbered, seed)
    rows = [int(e.id.rsplit(":", 1)[0]) for e in foreign]
    sources = [e.source for e in foreign]
    return Split([e.text for e in foreign], learnt.values[rows], learnt.weights[rows], sources)


def transfer(
    model: EncoderGuardModel,
    head: LayerHead,
    tokenizer: Tokenizer,
    rows: Sequence[Example],
    out: Path,
    settings: TransferSettings,
    report: Report,
) -> None:
    """Train a run's encoder and head in place. Interrupted, it goes on from its last checkpoint in `out`.

    Args:
        model: the run.
        head: its head over several layers.
        tokenizer: its own.
        rows: training rows, repeats among them.
        out: where the run's state goes.
        settings: the recipe.
        report: called with texts read, their number and 0; then with step, total steps and a running loss.
    """
    originals, others, abroad = chosen(rows, settings)
    splits = [Split.of(part) for part in (originals, others, abroad)]
    texts = [t for split in splits for t in split.texts]
    most = settings.max_tokens
    means, _ = read_texts(model, tokenizer, texts, head.layers, out / "read", report, max_tokens=most)
    own, start, lessons = np.clip(answers(means, head), 1e-6, 1 - 1e-6), 0, []
    for split, share in zip(splits, (settings.labels, settings.labels, settings.labels_written), strict=True):
        lessons.append(taught(split, own[start : start + len(split.texts)], share))
        start += len(split.texts)
    foreign = foreign_lessons(originals, lessons[0], settings.seed)
    plan = Settings(
        seed=settings.seed, epochs=settings.epochs, rate=settings.rate, head_rate=settings.head_rate, max_tokens=most
    )
    everything = together(*lessons[:2], foreign, *[lessons[2]] * settings.written)
    fit(LayeredModel(model, head), everything, tokenizer, plan, out, report=report)
    model.eval()
    head.eval()


def train_transfer(
    pool: Path,
    base: Path,
    run: Path,
    out: Path,
    plan: Settings,
    settings: TransferSettings,
    *,
    version: str,
    report: Report,
) -> dict[str, object]:
    """Carry what a run knows in English into other languages, and write the bundle.

    Args:
        pool: folder of the training pool.
        base: Hugging Face folder of the base encoder.
        run: folder of a finished run of `wardgate train head`.
        out: where the run and the bundle go.
        plan: the data plan, which its seed drives too.
        settings: the recipe.
        version: the bundle's version.
        report: as for `transfer`.

    Returns:
        The bundle's manifest.

    Raises:
        FileNotFoundError: if the pool, the base or the run is not there.
        OSError: if Apertium or one of its pairs is not installed.
    """
    model, tokenizer = open_run(base, run)
    head = open_head(run)
    out.mkdir(parents=True, exist_ok=True)
    parts = build_parts(pool, plan)
    transfer(model, head, tokenizer, parts["train"], out, settings, report)

    def read(texts: Sequence[str]) -> tuple[NDArray[np.float16], Array]:
        most = settings.max_tokens
        return read_texts(model, tokenizer, texts, head.layers, out / "read", report, max_tokens=most)

    fit_acts(head, read, acts(pool, settings.seed))
    for name in VOCABULARY_FILES:
        shutil.copy(run / name, out / name)
    torch.save(model.state_dict(), out / "model.pt")
    save_head(out, head)
    (out / "settings.json").write_text(json.dumps(asdict(settings), indent=1))
    export_onnx(model, out / "model.onnx", head=head)
    return pack_encoder("mini", {name: Split.of(part) for name, part in parts.items()}, out, version=version)
