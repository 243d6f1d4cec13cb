"""Cross-lingual transfer: a run learns to see in a translation what it sees in the original: `wardgate train transfer`.

Of most harms the pool has English texts alone. A guard that has learnt from them knows other languages by what its base
knows, and answers a French insult with less certainty than the same insult in English. So the states that its head
reads of a translation are drawn to those of the English text (as Reimers & Gurevych 2020, arXiv 2004.09813, make
sentence embeddings multilingual), and those of other training texts are held where they are; the head stays as it is.
Apertium translates, but for German: there a list exchanges words (as Qin et al. 2020, arXiv 2006.06402). What people
have translated is learnt from, too: the written texts' translations, and the questions of a parallel source.
"""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from wardgate.guards.batching import plan_batches
from wardgate.train.encoder_model import masked_multilabel_loss
from wardgate.train.export import export_onnx
from wardgate.train.head import mixed, open_head, read_texts, save_head
from wardgate.train.lessons import altered, answers
from wardgate.train.mini import Split, build_parts, cut, padded
from wardgate.train.mini_data import translated
from wardgate.train.pack import pack_encoder
from wardgate.train.runs import VOCABULARY_FILES, open_run
from wardgate.train.speech_acts import acts, fit_acts
from wardgate.train.steps import descend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from wardgate.data.example import Example
    from wardgate.train.encoder_model import EncoderGuardModel, LayerHead
    from wardgate.train.mini import Settings

    Report = Callable[[int, int, float], None]
    Array = NDArray[np.float32]

LONGEST = 600
"""Letters of a text that are translated."""

PARALLEL = "xquad"
"""The source whose texts stand in the pool in several languages, without a word on which is which one's translation."""

ANSWER_ALONE = -1
"""In `Aims.like`, of a text whose states are free."""


@dataclass(frozen=True, slots=True)
class TransferSettings:
    """The recipe.

    Attributes:
        seed: drives the choice of texts and their order.
        originals: English texts that are translated: as many prompts as comments as answers, half of each unsafe, as
            far as there are so many.
        kept: other training texts.
        altered: changed copies of these, as a share of them: the run is asked for stretches of texts and for attacked
            ones too, and what it sees in them would drift.
        labels: weight of known labels against the run's own probabilities, 0 to 1, of texts written in another language
            than English, where the run's own answer is what is to mend. Of all others its answers alone count.
        epochs: passes over all of these.
        frozen: lowest layers that are not trained.
        rate: peak learning rate of the encoder; it rises over `warmup` of the steps.
        batch_tokens: padded tokens per step.
        max_tokens: longer texts are cut.
    """

    seed: int = 20261121
    originals: int = 9_000
    kept: int = 16_000
    altered: float = 0.6
    labels: float = 0.7
    epochs: int = 1
    frozen: int = 4
    rate: float = 4e-5
    warmup: float = 0.06
    batch_tokens: int = 3072
    max_tokens: int = 160


@dataclass(frozen=True, slots=True, eq=False)
class Aims:
    """Texts, and what the run is to see in them and to answer.

    Attributes:
        texts: n of them, in any language.
        like: for each the row of `states` that its states are to be like; `ANSWER_ALONE` where they are free.
        states: what a head reads of other texts, float16 (m, layers x width).
        values: answers, float32 (n, 13).
        weights: float32 (n, 13).
    """

    texts: list[str]
    like: NDArray[np.int64]
    states: NDArray[np.float16]
    values: Array
    weights: Array


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


def told(rows: Iterable[Example]) -> list[tuple[Example, Example]]:
    """English written texts, each with its translation by hand, whose id names it: `N:xx` is one of `N`."""
    by_id = {e.id: e for e in rows if e.source == "written"}
    return [(by_id[of], e) for name, e in by_id.items() if (of := name.rpartition(":")[0]) in by_id]


def matched(rows: Iterable[Example], see: Callable[[list[str]], Array]) -> list[tuple[Example, Example]]:
    """English texts of the parallel source, each with a translation: where each is the other's nearest.

    Args:
        rows: of any source, repeats among them.
        see: what a run sees in n texts, (n, width).
    """
    sides: dict[str, dict[str, Example]] = {}
    for e in rows:
        if e.source == PARALLEL:
            sides.setdefault(e.language, {})[e.text] = e
    english = sides.pop("en", {})
    if not english or not sides:
        return []
    there = _directions(see(list(english)))
    pairs: list[tuple[Example, Example]] = []
    for side in sides.values():
        alike = there @ _directions(see(list(side))).T
        back, found = alike.argmax(0), list(side.values())
        pairs += [
            (e, found[j])
            for i, (e, j) in enumerate(zip(english.values(), alike.argmax(1), strict=True))
            if back[j] == i
        ]
    return pairs


def _directions(states: Array) -> Array:
    """Of length 1, from the mean of all: one language's texts lie apart from another's as a whole."""
    apart = states - states.mean(0)
    return np.asarray(apart / np.linalg.norm(apart, axis=1, keepdims=True))


def abroad_of(originals: Sequence[Example], seed: int) -> tuple[list[str], list[int]]:
    """The translations of texts, and of which text each is one.

    Args:
        originals: English texts.
        seed: drives what is drawn in translating.

    Raises:
        OSError: if Apertium or one of its pairs is not installed.
    """
    foreign = translated([replace(e, id=str(i)) for i, e in enumerate(originals)], seed)
    return [e.text for e in foreign], [int(e.id.rsplit(":", 1)[0]) for e in foreign]


def aims(
    model: EncoderGuardModel,
    head: LayerHead,
    tokenizer: Tokenizer,
    rows: Sequence[Example],
    folder: Path,
    settings: TransferSettings,
    report: Report,
) -> Aims:
    """Choose texts, read them with the run as it is, and translate: arguments as for `transfer`.

    Raises:
        OSError: if Apertium or one of its pairs is not installed.
    """

    def see(texts: list[str]) -> NDArray[np.float16]:
        return read_texts(model, tokenizer, texts, head.layers, folder, report, max_tokens=settings.max_tokens)[0]

    pairs = [*told(rows), *matched(rows, lambda texts: see(texts)[:, 0].astype(np.float32))]
    paired = {e.text for pair in pairs for e in pair}
    originals, others, written = chosen([e for e in rows if e.text not in paired], settings)
    foreign, of = abroad_of(originals, settings.seed)
    copies = altered(Split.of(others), settings.altered, settings.seed)
    own = [*(e.text for e in (*originals, *others)), *copies, *dict.fromkeys(e.text for e, _ in pairs)]
    place = {text: i for i, text in enumerate(own)}
    free = Split.of(written)
    means = see([*own, *free.texts])
    said = np.clip(answers(means, head), 1e-6, 1 - 1e-6)
    like = np.array([*range(len(own)), *of, *(place[e.text] for e, _ in pairs)], dtype=np.int64)
    values, weights = mixed(np.log(said[len(own) :]) - np.log1p(-said[len(own) :]), free, settings.labels)
    return Aims(
        [*own, *foreign, *(e.text for _, e in pairs), *free.texts],
        np.concatenate([like, np.full(len(free.texts), ANSWER_ALONE)]),
        means.reshape(len(means), -1),
        np.concatenate([said[like], values]),
        np.concatenate([np.ones_like(said[like]), weights]),
    )


def transfer(
    model: EncoderGuardModel,
    head: LayerHead,
    tokenizer: Tokenizer,
    rows: Sequence[Example],
    out: Path,
    settings: TransferSettings,
    report: Report,
) -> None:
    """Train a run's encoder in place. Interrupted, it goes on from its last checkpoint in `out`.

    Args:
        model: the run.
        head: its head over several layers, which stays as it is.
        tokenizer: its own.
        rows: training rows, repeats among them.
        out: where the run's state goes.
        settings: the recipe.
        report: called with texts read, their number and 0; then with step, total steps and a running loss.

    Raises:
        OSError: if Apertium or one of its pairs is not installed.
    """
    wanted = aims(model, head, tokenizer, rows, out / "read", settings, report)
    ids = cut(tokenizer, wanted.texts, settings.max_tokens)
    groups = plan_batches([len(i) for i in ids], settings.batch_tokens)

    def order() -> Iterator[list[int]]:
        for epoch in range(settings.epochs):
            for i in np.random.default_rng([settings.seed, epoch]).permutation(len(groups)):
                yield groups[i]

    def loss(group: list[int]) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            means = model.layer_means(*padded(ids, group))
        read = torch.cat([means[i] for i in head.layers], 1).float()
        values, weights = (torch.from_numpy(part[group]) for part in (wanted.values, wanted.weights))
        answered = masked_multilabel_loss(head(read), values, weights)
        bound = wanted.like[group] != ANSWER_ALONE
        if not bound.any():
            return answered
        seen = torch.from_numpy(wanted.states[wanted.like[group][bound]]).float()
        apart = head.standardised(read[torch.from_numpy(bound)]) - head.standardised(seen)
        return answered + apart.square().mean()

    model.freeze(settings.frozen)
    model.eval()  # without dropout, which would move the states that are to be met
    head.eval().requires_grad_(False)
    trained = [p for p in model.base.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings.rate, weight_decay=0.01, betas=(0.9, 0.98), fused=True)
    total = len(groups) * settings.epochs
    descend(model, optimizer, order(), loss, out, total=total, warmup=settings.warmup, report=report)


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
