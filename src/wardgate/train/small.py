"""Trains the encoder of the built-in guard `small`: `wardgate train small`. Two narrow layers, a fiftieth of `mini`.

It learns to say what a finished run of `mini` says, on the texts that `mini` learnt from and on changed copies of them
(Hinton et al. 2015, arXiv 1503.02531; changed copies as Tang et al. 2019, arXiv 1903.12136, who teach an LSTM). The
vectors of its word pieces start from what `mini` makes of each piece by itself, reduced to the width by principal
components (Model2Vec, Tulkens and van Dongen 2024): words that the lessons lack then lie near those that they have.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn

from wardgate.guards.batching import plan_batches
from wardgate.guards.encoder import EncoderSettings
from wardgate.hazards import WARDGATE
from wardgate.train.augment import augmented
from wardgate.train.encoder_model import EncoderGuardModel
from wardgate.train.export import export_onnx
from wardgate.train.mini import (
    EMBEDDINGS,
    Split,
    build_splits,
    cut,
    open_run,
    padded,
    pieces_of,
    predict,
    take_over,
    warmed,
)
from wardgate.train.pack import pack_encoder
from wardgate.train.parts import in_parts
from wardgate.train.vocabulary import choose_pieces, save_compact, trimmed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from wardgate.train.mini import Settings

    Array = NDArray[np.float32]

WARMUP = 0.06
"""Share of the steps over which the learning rate rises."""

HAZARD_WEIGHT = 0.5
"""Weight of the mean over the hazards beside `unsafe`, as in `masked_multilabel_loss`."""

STATES = (0, 4, 8, 12)
"""Which states of the teacher a piece's vector is made of: the embedding's, then those after so many layers."""

READING = EncoderSettings(overlap=8, batch_tokens=384, threads=1)
"""How it runs. Its products are too short to be shared between threads, which only wait for each other (half as much
processor time again on two), and windows that share a fifth of a long text would cost a tenth of its pace."""

_BOS, _PAD, _EOS, _UNKNOWN = 0, 1, 2, 3  # XLM-R's ids, kept by the trimmed vocabulary


@dataclass(frozen=True, slots=True)
class SmallSettings:
    """The recipe of the small encoder.

    Attributes:
        seed: drives initialisation, order, dropout and what is changed.
        vocabulary: word pieces to keep.
        width: numbers per state, a multiple of 32; a head of attention has 32.
        layers: encoder layers.
        inner: width between the two products of a layer's second half.
        epochs: passes over all lessons.
        batch_tokens: padded tokens per step.
        max_tokens: longer texts are cut to their start.
        rate: peak learning rate of AdamW; a short linear warm-up, then linear decay.
        pieces_rate: what it is multiplied with for the pieces' vectors, which else learn the lessons by heart.
        hidden: share of the pieces shown as unknown at each step, for the same reason.
        teacher: weight of the teacher's probabilities against the labels, 0 to 1.
        altered: changed copies, as a share of the texts.
    """

    seed: int = 20261121
    vocabulary: int = 24_000
    width: int = 128
    layers: int = 2
    inner: int = 512
    epochs: int = 5
    batch_tokens: int = 4096
    max_tokens: int = 160
    rate: float = 1e-3
    pieces_rate: float = 0.3
    hidden: float = 0.15
    teacher: float = 0.8
    altered: float = 0.6


@dataclass(frozen=True, slots=True, eq=False)
class Lessons:
    """Texts as word pieces, with what the teacher says of them and what is known.

    Attributes:
        ids: the pieces of each text, special ones included.
        taught: the teacher's probabilities, float32 (n, 13).
        values: labels, float32 (n, 13).
        weights: float32 (n, 13); 0 where unknown.
    """

    ids: list[NDArray[np.int32]]
    taught: Array
    values: Array
    weights: Array


def distinct_rows(split: Split) -> Split:
    """Each text of a split once, with the labels that it has first."""
    first: dict[str, int] = {}
    for i, text in enumerate(split.texts):
        first.setdefault(text, i)
    rows = list(first.values())
    return Split(list(first), split.values[rows], split.weights[rows], [split.sources[i] for i in rows])


def altered(split: Split, share: float, seed: int) -> list[str]:
    """Changed copies of texts: mistyped or attacked as in training, a stretch of one, or two together.

    Args:
        split: distinct texts.
        share: how many copies, as a share of the texts, at most 1.
        seed: drives the draw.
    """
    rng = random.Random(seed)  # noqa: S311 - sampling, not secrets
    out = []
    for i in rng.sample(range(len(split.texts)), round(share * len(split.texts))):
        text, roll = augmented(i, split, rng, 0.1)[0], rng.random()
        words = text.split(" ")
        if roll < 0.35 and len(words) > 8:
            size = rng.randrange(4, len(words))
            start = rng.randrange(len(words) - size + 1)
            text = " ".join(words[start : start + size])
        elif roll < 0.5:
            pair = [text[:400], rng.choice(split.texts)[:400]]
            rng.shuffle(pair)
            text = rng.choice((" ", "\n", ". ")).join(pair)
        out.append(text)
    return out


def opinions(
    teacher: EncoderGuardModel,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    folder: Path,
    report: Callable[[int, int, float], None],
    *,
    most: int = 160,
) -> Array:
    """The teacher's probabilities of each text's start, part by part; parts that stand in `folder` are not asked again.

    Args:
        teacher: a finished run.
        tokenizer: its own.
        texts: what is asked about.
        folder: where the parts are written, as NumPy files.
        report: called with texts read, their number, and 0.
        most: word pieces of a text that it reads.

    Returns:
        float32 (n, 13).
    """

    def read(part: Sequence[str], before: int) -> Array:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            onward = partial(_onward, report, before, len(texts))
            logits = predict(teacher, part, tokenizer, max_tokens=most, report=onward)
        return (1 / (1 + np.exp(-logits))).astype(np.float32)

    return in_parts(texts, folder, read)


def _onward(report: Callable[[int, int, float], None], start: int, total: int, n: int, _part: int, x: float) -> None:
    report(start + n, total, x)


@torch.no_grad()
def piece_vectors(teacher: EncoderGuardModel, width: int, seed: int) -> torch.Tensor:
    """A vector for each piece of a teacher's vocabulary: the states of the piece by itself, reduced.

    Args:
        teacher: an encoder of that vocabulary.
        width: numbers per vector.
        seed: drives the rotation that spreads the components evenly, which 4-bit blocks need.

    Returns:
        float32 (pieces, width), of standard deviation 0.05.
    """
    teacher.eval()
    total, blocks = teacher.base.embeddings.word_embeddings.num_embeddings, []  # type: ignore[union-attr]
    for start in range(0, int(total), 2048):  # type: ignore[arg-type]
        pieces = torch.arange(start, min(start + 2048, int(total)))  # type: ignore[arg-type]
        ids = torch.stack([torch.full_like(pieces, _BOS), pieces, torch.full_like(pieces, _EOS)], 1)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = teacher.base(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True)
        last = len(found.hidden_states) - 1
        blocks.append(np.stack([found.hidden_states[min(s, last)].float().mean(1).numpy() for s in STATES], 1))
    states = np.concatenate(blocks)
    states -= states.mean(0)
    states /= np.sqrt((states**2).sum(2).mean(0))[None, :, None]
    flat = states.reshape(len(states), -1)
    _, axes = np.linalg.eigh(flat.T @ flat)
    turned = np.linalg.qr(np.random.default_rng(seed).normal(size=(width, width)))[0]
    vectors = flat @ axes[:, ::-1][:, :width] @ turned
    return torch.from_numpy((0.05 * vectors / vectors.std()).astype(np.float32))


def blank(vectors: torch.Tensor, settings: SmallSettings) -> EncoderGuardModel:
    """An untrained model over these vectors of pieces, which learn too."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=len(vectors),
        hidden_size=settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.width // 32,
        intermediate_size=settings.inner,
        max_position_embeddings=settings.max_tokens,
        type_vocab_size=1,
        pad_token_id=_PAD,
    )
    base = BertModel(config, add_pooling_layer=False)
    base.embeddings.word_embeddings = nn.Embedding.from_pretrained(vectors)  # type: ignore[no-untyped-call]
    model = EncoderGuardModel(base, len(WARDGATE.labels), settings.width)
    base.embeddings.word_embeddings.requires_grad_(True)
    return model


def fit_small(
    model: EncoderGuardModel,
    lessons: Lessons,
    settings: SmallSettings,
    folder: Path,
    report: Callable[[int, int, float], None],
) -> None:
    """Train in place on the CPU, with a checkpoint after each epoch and exact resume.

    Args:
        model: what `blank` made.
        lessons: what it learns.
        settings: the recipe.
        folder: where `checkpoint.pt` is kept.
        report: called with step, total steps and a running loss.
    """
    named = dict(model.named_parameters())
    vectors = named.pop(EMBEDDINGS)
    optimizer = torch.optim.AdamW(
        [
            {"params": list(named.values()), "lr": settings.rate, "weight_decay": 0.01},
            {"params": [vectors], "lr": settings.rate * settings.pieces_rate, "weight_decay": 0.0},
        ],
        betas=(0.9, 0.98),
        fused=True,
    )
    total = sum(len(list(_groups(lessons, settings, epoch))) for epoch in range(settings.epochs))
    schedule = warmed(optimizer, total, WARMUP)
    path, done, running, step = folder / "checkpoint.pt", 0, 0.7, 0
    if path.exists():
        state: dict[str, Any] = torch.load(path, weights_only=True)
        for part, name in ((model, "model"), (optimizer, "optimizer"), (schedule, "schedule")):
            part.load_state_dict(state[name])
        torch.set_rng_state(state["rng"])
        done, running, step = state["epochs"], state["running"], state["step"]
    model.train()
    for epoch in range(done, settings.epochs):
        for group in _groups(lessons, settings, epoch):
            ids, mask = padded(lessons.ids, group)
            unseen = (torch.rand(ids.shape) < settings.hidden) & (ids > _UNKNOWN)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = model(ids.masked_fill(unseen, _UNKNOWN), mask).float()
            loss = _loss(logits, lessons, group, settings.teacher)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            step += 1
            running = 0.99 * running + 0.01 * float(loss.detach())
            if step % 20 == 0:
                report(step, total, running)
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
        state |= {"rng": torch.get_rng_state(), "epochs": epoch + 1, "running": running, "step": step}
        torch.save(state, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)


def _loss(logits: torch.Tensor, lessons: Lessons, group: Sequence[int], teacher: float) -> torch.Tensor:
    taught, values, weights = (torch.from_numpy(a[group]) for a in (lessons.taught, lessons.values, lessons.weights))
    cross = nn.functional.binary_cross_entropy_with_logits
    each = teacher * cross(logits, taught, reduction="none")
    each = each + (1 - teacher) * weights * cross(logits, values, reduction="none")
    return each[:, -1].mean() + HAZARD_WEIGHT * each[:, :-1].mean()


def _groups(lessons: Lessons, settings: SmallSettings, epoch: int) -> Iterator[list[int]]:
    """The batches of one epoch: texts of like length together, in an order that the seed fixes."""
    rng = np.random.default_rng([settings.seed, epoch])
    order = rng.permutation(len(lessons.ids))
    for start in range(0, len(order), 16_384):
        chosen = order[start : start + 16_384]
        groups = plan_batches([len(lessons.ids[i]) for i in chosen], settings.batch_tokens)
        for g in rng.permutation(len(groups)):
            yield chosen[groups[g]].tolist()


def train_small(
    pool: Path,
    base: Path,
    run: Path,
    out: Path,
    plan: Settings,
    settings: SmallSettings,
    *,
    version: str,
    report: Callable[[int, int, float], None],
) -> dict[str, object]:
    """Teach a small encoder what a finished run knows, and write its bundle into `out`; finished stages are kept.

    Args:
        pool: folder of the training pool.
        base: Hugging Face folder of the base encoder.
        run: folder of a finished run of `wardgate train mini`, the teacher.
        out: where the run's state and the bundle go.
        plan: the data plan, which its seed drives too.
        settings: the recipe.
        version: the bundle's version.
        report: called with step, total steps and a running loss; of the teacher's reading with texts and 0.

    Returns:
        The bundle's manifest.

    Raises:
        FileNotFoundError: if the pool, the base or the run is not there.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.seed)
    splits = build_splits(pool, plan)
    train = distinct_rows(splits["train"])
    copies = altered(train, settings.altered, settings.seed)
    teacher, reads = open_run(base, run)
    full = Tokenizer.from_file(str(base / "tokenizer.json"))
    keep = choose_pieces(full, train.texts, settings.vocabulary)
    tokenizer = trimmed(full, keep)
    save_compact(tokenizer, out / "tokenizer.json")
    (out / "keep.json").write_text(json.dumps(keep))
    tokenizer.encode_special_tokens = True  # a user may type "</s>": it is text, not structure
    unknown = np.zeros((len(copies), len(WARDGATE.labels)), dtype=np.float32)
    lessons = Lessons(
        cut(tokenizer, [*train.texts, *copies], settings.max_tokens),
        opinions(teacher, reads, [*train.texts, *copies], out / "opinions", report, most=settings.max_tokens),
        np.concatenate([train.values, unknown]),
        np.concatenate([train.weights, unknown]),
    )
    own = EncoderGuardModel.from_base(base, len(WARDGATE.labels), keep=keep)
    take_over(own, keep, teacher.state_dict(), pieces_of(run))
    model = blank(piece_vectors(own, settings.width, settings.seed), settings)
    fit_small(model, lessons, settings, out, report)
    torch.save(model.state_dict(), out / "model.pt")
    (out / "settings.json").write_text(json.dumps(asdict(settings), indent=1))
    export_onnx(model.eval(), out / "model.onnx")
    return pack_encoder("small", splits, out, version=version, settings=READING)
