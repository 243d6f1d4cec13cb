"""Trains the encoder of the built-in guard `small`: `wardgate train small`. Three narrow layers, a twentieth of `mini`.

It learns to say what a finished run of `mini` says (Hinton et al. 2015, arXiv 1503.02531), and to see what it sees: its
states give, by one product, those of the run's layers (FitNets, Romero et al. 2014, arXiv 1412.6550; the answer alone
carries little of what the run took over from its base, see `docs/log.md`). The vectors of its word pieces start from
what `mini` makes of each piece by itself, reduced to the width by principal components (Model2Vec, Tulkens and van
Dongen 2024): words that the lessons lack then lie near those that they have.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from wardgate.guards.batching import plan_batches
from wardgate.guards.encoder import EncoderSettings
from wardgate.hazards import WARDGATE
from wardgate.train.encoder_model import EncoderGuardModel
from wardgate.train.export import export_onnx
from wardgate.train.head import open_head, read_texts
from wardgate.train.lessons import Lessons, altered, answers, distinct_rows, reduced, together, unlabelled
from wardgate.train.mini import build_splits, cut, padded
from wardgate.train.pack import pack_encoder
from wardgate.train.runs import EMBEDDINGS, base_tokenizer, open_run, pieces_of, run_tokenizer, take_over
from wardgate.train.steps import take_step, warmed
from wardgate.train.vocabulary import choose_pieces, save_compact, trimmed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from wardgate.train.mini import Settings

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
        states: weight of the teacher's states beside its answers.
        components: numbers that its states are reduced to.
        unlabelled: texts of each source of the pool that the data plan leaves out, at most.
        altered: changed copies, as a share of the texts.
    """

    seed: int = 20261121
    vocabulary: int = 24_000
    width: int = 160
    layers: int = 3
    inner: int = 640
    epochs: int = 5
    batch_tokens: int = 4096
    max_tokens: int = 160
    rate: float = 1e-3
    pieces_rate: float = 0.3
    hidden: float = 0.15
    teacher: float = 0.8
    states: float = 2.0
    components: int = 256
    unlabelled: int = 6_000
    altered: float = 0.6


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
    shown = nn.Linear(settings.width, lessons.states.shape[1])
    learner = nn.ModuleDict({"model": model, "shown": shown})
    named = dict(learner.named_parameters())
    vectors = named.pop(f"model.{EMBEDDINGS}")
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
        for part, name in ((learner, "learner"), (optimizer, "optimizer"), (schedule, "schedule")):
            part.load_state_dict(state[name])
        torch.set_rng_state(state["rng"])
        done, running, step = state["epochs"], state["running"], state["step"]
    model.train()
    for epoch in range(done, settings.epochs):
        for group in _groups(lessons, settings, epoch):
            ids, mask = padded(lessons.ids, group)
            unseen = (torch.rand(ids.shape) < settings.hidden) & (ids > _UNKNOWN)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                seen = model.mean_states(ids.masked_fill(unseen, _UNKNOWN), mask)
                logits, states = model.answer(seen).float(), shown(seen).float()
            loss = _loss(logits, lessons, group, settings.teacher)
            wanted = torch.from_numpy(lessons.states[group]).float()
            loss = loss + settings.states * nn.functional.mse_loss(states, wanted)
            running = 0.99 * running + 0.01 * take_step(learner, optimizer, schedule, loss)
            step += 1
            if step % 20 == 0:
                report(step, total, running)
        state = {"learner": learner.state_dict(), "optimizer": optimizer.state_dict()}
        state |= {"schedule": schedule.state_dict(), "rng": torch.get_rng_state()}
        state |= {"epochs": epoch + 1, "running": running, "step": step}
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
        run: folder of a finished run of `wardgate train head`, the teacher; what it reads is kept there.
        out: where the run's state and the bundle go.
        plan: the data plan, which its seed drives too.
        settings: the recipe.
        version: the bundle's version.
        report: called with step, total steps and a running loss; of the teacher's reading with texts and 0.

    Returns:
        The bundle's manifest.

    Raises:
        FileNotFoundError: if the pool, the base, the run or its head is not there.
    """
    (teacher, reads), head = open_run(base, run), open_head(run)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.seed)
    splits = build_splits(pool, plan)
    train = distinct_rows(splits["train"])
    more = unlabelled(pool, train, settings.unlabelled, settings.seed)
    rows = together(train, more)
    texts = [*rows.texts, *(c for part in (train, more) for c in altered(part, settings.altered, settings.seed))]
    full = base_tokenizer(base)
    keep = choose_pieces(full, train.texts, settings.vocabulary)
    save_compact(trimmed(full, keep), out / "tokenizer.json")
    tokenizer = run_tokenizer(out)
    (out / "keep.json").write_text(json.dumps(keep))
    means, _ = read_texts(teacher, reads, texts, head.layers, run / "read", report, max_tokens=settings.max_tokens)
    unknown = np.zeros((len(texts) - len(rows.texts), len(WARDGATE.labels)), dtype=np.float32)
    lessons = Lessons(
        cut(tokenizer, texts, settings.max_tokens),
        answers(means, head),
        reduced(means, head, settings.components),
        np.concatenate([rows.values, unknown]),
        np.concatenate([rows.weights, unknown]),
    )
    own = EncoderGuardModel.from_base(base, len(WARDGATE.labels), keep=keep)
    take_over(own, keep, teacher.state_dict(), pieces_of(run))
    model = blank(piece_vectors(own, settings.width, settings.seed), settings)
    fit_small(model, lessons, settings, out, report)
    torch.save(model.state_dict(), out / "model.pt")
    (out / "settings.json").write_text(json.dumps(asdict(settings), indent=1))
    export_onnx(model.eval(), out / "model.onnx")
    return pack_encoder("small", splits, out, version=version, settings=READING)
