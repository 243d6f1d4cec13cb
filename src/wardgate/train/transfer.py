"""Cross-lingual transfer: a run learns to answer translations as it answers the originals: `wardgate train transfer`.

Of most harms the pool has English texts alone. A guard that has learnt from them knows other languages by what its base
knows, and answers a French insult with less certainty than the same insult in English. Its own answer to the English
text is what it should say of the translation (as Reimers & Gurevych 2020, arXiv 2004.09813, make sentence embeddings
multilingual); what it says of other training texts holds it where it is. Apertium translates, but for German: there a
dictionary exchanges words (as Qin et al. 2020, arXiv 2006.06402), and its example sentences are learnt from, too.
"""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from wardgate.train.dictionary import read_dictionary
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
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from wardgate.data.example import Example
    from wardgate.train.encoder_model import LayerHead

    Report = Callable[[int, int, float], None]
    Array = NDArray[np.float32]

LONGEST = 600
"""Letters of a text that are translated."""

SHORTEST = 4
"""Words of a dictionary's English sentence."""


@dataclass(frozen=True, slots=True)
class TransferSettings:
    """The recipe.

    Attributes:
        seed: drives the choice of texts, their order and how they are changed.
        originals: English texts that are translated: as many prompts as comments as answers, half of each unsafe, as
            far as there are so many.
        kept: other training texts.
        sentences: German sentences of the dictionary: half of them those whose English the run finds most unsafe.
        written: how often a text written in another language than English is seen in an epoch.
        labels: weight of known labels against the run's own probabilities, 0 to 1.
        labels_written: the same for texts written in another language, where the run's own answer is what is to mend.
        epochs: passes over all of these.
        rate, head_rate: peak learning rates of encoder and head.
        max_tokens: longer texts are cut.
        teacher: folder of a run of the same vocabulary, whose answers are learnt in place of the run's own.
        share: weight of what is trained in the mean with the teacher's weights, or the run's own, 0 to 1.
    """

    seed: int = 20261121
    originals: int = 24_000
    kept: int = 45_000
    sentences: int = 6_000
    written: int = 2
    labels: float = 0.3
    labels_written: float = 0.7
    epochs: float = 1.0
    rate: float = 4e-5
    head_rate: float = 3e-4
    max_tokens: int = 160
    teacher: str | None = None
    share: float = 0.5


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
    sides: dict[tuple[str, bool], list[Example]] = {}
    for e in distinct:
        if e.language == "en":
            kind = "response" if e.kind == "dialogue" else e.kind
            sides.setdefault((kind, e.unsafe is True), []).append(e)
    share = -(-settings.originals // len(sides)) if sides else 0
    originals = [e for side in sides.values() for e in rng.sample(side, min(share, len(side)))]
    taken = {e.text for e in (*abroad, *originals)}
    others = [e for e in distinct if e.text not in taken]
    begun = [replace(e, text=beginning(e.text)) for e in originals]
    return begun, rng.sample(others, min(settings.kept, len(others))), abroad


def beginning(text: str) -> str:
    """As many whole words of a text as are translated."""
    return text if len(text) <= LONGEST else text[:LONGEST].rpartition(" ")[0] or text[:LONGEST]


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
        OSError: if Apertium, one of its pairs or the dictionary is not installed.
    """
    numbered = [replace(e, id=str(i)) for i, e in enumerate(originals)]
    foreign = translated(numbered, seed)
    rows = [int(e.id.rsplit(":", 1)[0]) for e in foreign]
    sources = [e.source for e in foreign]
    return Split([e.text for e in foreign], learnt.values[rows], learnt.weights[rows], sources)


def whole_sentences(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs that are one phrase or sentence of some length: no choice of wordings, no single term."""
    return [(e, g) for e, g in pairs if len(e.split()) >= SHORTEST and "/" not in e + g]


def sentence_lessons(pairs: Sequence[tuple[str, str]], own: Array, count: int, seed: int) -> Split:
    """German sentences, each with what the run says of its English: half of them the most unsafe, the rest drawn.

    Args:
        pairs: English and German.
        own: what the run says of the English, probabilities, float32 (n, 13).
        count: how many are wanted.
        seed: drives the draw.
    """
    order = np.argsort(-own[:, -1], kind="stable").tolist()
    first, rest = order[: count // 2], order[count // 2 :]
    rows = first + random.Random(seed).sample(rest, min(count - len(first), len(rest)))  # noqa: S311 - not secrets
    weights = np.ones((len(rows), own.shape[1]), np.float32)
    return Split([pairs[i][1] for i in rows], own[rows], weights, ["dictionary"] * len(rows))


def transfer(
    model: EncoderGuardModel,
    head: LayerHead,
    tokenizer: Tokenizer,
    rows: Sequence[Example],
    out: Path,
    settings: TransferSettings,
    report: Report,
    *,
    teacher: tuple[EncoderGuardModel, LayerHead] | None = None,
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
        teacher: a run of the same vocabulary whose answers are learnt, and its head; the run itself if left out.

    Raises:
        OSError: if Apertium, one of its pairs or the dictionary is not installed.
    """
    guide, guide_head = teacher or (model, head)
    originals, others, abroad = chosen(rows, settings)
    splits = [Split.of(part) for part in (originals, others, abroad)]
    pairs = whole_sentences(read_dictionary().sentences) if settings.sentences else []
    texts = [t for split in splits for t in split.texts] + [english for english, _ in pairs]
    most = settings.max_tokens
    means, _ = read_texts(guide, tokenizer, texts, guide_head.layers, out / "read", report, max_tokens=most)
    own, start, lessons = np.clip(answers(means, guide_head), 1e-6, 1 - 1e-6), 0, []
    for split, share in zip(splits, (settings.labels, settings.labels, settings.labels_written), strict=True):
        lessons.append(taught(split, own[start : start + len(split.texts)], share))
        start += len(split.texts)
    foreign = foreign_lessons(originals, lessons[0], settings.seed)
    sentences = sentence_lessons(pairs, own[start:], settings.sentences, settings.seed)
    plan = Settings(
        seed=settings.seed, epochs=settings.epochs, rate=settings.rate, head_rate=settings.head_rate, max_tokens=most
    )
    everything = together(*lessons[:2], foreign, sentences, *[lessons[2]] * settings.written)
    fit(LayeredModel(model, head), everything, tokenizer, plan, out, report=report)
    model.eval()
    head.eval()


def drawn_back(trained: nn.Module, start: nn.Module, share: float) -> None:
    """Put weights between those before training and those after it (WiSE-FT, Wortsman et al. 2021, arXiv 2109.01903).

    Args:
        trained: what was trained, changed in place.
        start: the same module before.
        share: how far from the start, 0 to 1.
    """
    with torch.no_grad():
        for new, old in zip(trained.parameters(), start.parameters(), strict=True):
            new.lerp_(old, 1 - share)


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
        FileNotFoundError: if the pool, the base or a run is not there.
        OSError: if Apertium, one of its pairs or the dictionary is not installed.
        ValueError: if the teacher has another vocabulary.
    """
    model, tokenizer = open_run(base, run)
    head = open_head(run)
    before = run if settings.teacher is None else Path(settings.teacher)
    if (before / "keep.json").read_bytes() != (run / "keep.json").read_bytes():
        raise ValueError(f"{before} has another vocabulary than {run}")
    guide = open_run(base, before)[0], open_head(before)
    out.mkdir(parents=True, exist_ok=True)
    parts = build_parts(pool, plan)
    transfer(model, head, tokenizer, parts["train"], out, settings, report, teacher=guide)
    drawn_back(model, guide[0], settings.share)
    drawn_back(head, guide[1], settings.share)

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
