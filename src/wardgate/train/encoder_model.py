"""The model behind the built-in guard: a BERT-shaped encoder, mean pooling, 12 hazard logits and `unsafe`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from wardgate.guards.encoder import ACTS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class ByteDropout(nn.Module):
    """Dropout in steps of 1/256: one random byte an element where `torch.nn.Dropout` draws a whole number.

    On CPUs drawing is most of what dropout costs: a quarter of a training step, and 2 % this way.

    Args:
        rate: share of elements that are dropped, in steps of 1/256; the rest is scaled up to keep the mean.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.edge = round(rate * 256)

    def forward(self, states: Tensor) -> Tensor:
        """Drop some elements in training; give all back in evaluation."""
        if not self.training or not self.edge:
            return states
        words = torch.empty((states.numel() + 7) // 8, dtype=torch.int64, device=states.device)
        drawn = words.random_(-(2**63), None).view(torch.uint8)[: states.numel()].view(states.shape)
        return states * ((drawn >= self.edge).to(states.dtype) * (256 / (256 - self.edge)))


class EncoderGuardModel(nn.Module):
    """Multilingual encoder with a multi-label head.

    The word embeddings stay frozen: they are most of the parameters, a fine-tuning set touches few of them,
    and frozen they can be shipped in the 4-bit blocks of ggml's Q4_0 format. Attention has no dropout, which is
    slow to draw on CPUs.
    """

    def __init__(self, base: nn.Module, labels: int, hidden: int) -> None:
        super().__init__()
        self.base = base
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(hidden, labels)
        base.embeddings.word_embeddings.weight.requires_grad_(False)  # type: ignore[union-attr]
        for layer in base.encoder.layer:  # type: ignore[union-attr]
            layer.attention.self.dropout.p = 0.0
            for part in (layer.attention.output, layer.output):
                part.dropout = ByteDropout(part.dropout.p)

    @classmethod
    def from_base(
        cls, folder: Path, labels: int, *, layers: int | None = None, keep: list[int] | None = None
    ) -> EncoderGuardModel:
        """Load a multilingual-e5-small-shaped folder, optionally with fewer layers and a trimmed vocabulary.

        Args:
            folder: a Hugging Face folder of a BERT encoder.
            labels: number of output logits.
            layers: how many layers to keep, taken evenly from bottom to top; None keeps all.
            keep: old token ids to keep, in the order of the new ids; None keeps all.
        """
        from transformers import BertModel

        base = BertModel.from_pretrained(folder, add_pooling_layer=False)
        if layers is not None:
            keep_layers(base, evenly(len(base.encoder.layer), layers))
        if keep is not None:
            old = base.embeddings.word_embeddings
            base.embeddings.word_embeddings = nn.Embedding.from_pretrained(  # type: ignore[no-untyped-call]
                old.weight[keep].clone(), freeze=True
            )
            base.config.vocab_size = len(keep)
        return cls(base, labels, base.config.hidden_size)

    def freeze(self, layers: int) -> None:
        """Keep the embeddings and the lowest layers as they are; `train` then leaves out their dropout."""
        if layers:
            for part in (self.base.embeddings, *self.base.encoder.layer[:layers]):  # type: ignore[union-attr, index]
                part.requires_grad_(False)

    def train(self, mode: bool = True) -> EncoderGuardModel:
        """Set the mode; what is frozen stays in evaluation.

        On a CPU attention is trained in plain products: PyTorch 2.13's fused one takes five times as long backwards.
        """
        super().train(mode)
        for part in (self.base.embeddings, *self.base.encoder.layer):  # type: ignore[union-attr, misc]
            if not any(p.requires_grad for p in part.parameters()):
                part.eval()
        plain = mode and next(self.head.parameters()).device.type == "cpu"
        self.base.set_attn_implementation("eager" if plain else "sdpa")  # type: ignore[operator]
        return self

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Score a padded batch.

        Args:
            ids: int64 token ids. *Shape:* (batch, length)
            mask: 1 for tokens, 0 for padding. *Shape:* (batch, length)

        Returns:
            Logits. *Shape:* (batch, labels)
        """
        return self.answer(self.mean_states(ids, mask))

    def mean_states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The mean state of each text after the last layer. *Shape:* (batch, width)."""
        return pooled(self.base(input_ids=ids, attention_mask=mask).last_hidden_state, mask)

    def answer(self, states: Tensor) -> Tensor:
        """Logits of mean states, with dropout in training. *Shape:* (batch, labels)."""
        logits: Tensor = self.head(self.dropout(states).float())
        return logits

    def layer_means(self, ids: Tensor, mask: Tensor) -> list[Tensor]:
        """The mean state of each text after the embeddings (index 0) and after each layer. *Shape:* (batch, width)."""
        found = self.base(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        return [pooled(states.float(), mask) for states in found.hidden_states]


def pooled(states: Tensor, mask: Tensor) -> Tensor:
    """The mean of each text's states over its tokens.

    Args:
        states: *Shape:* (batch, length, width)
        mask: 1 for tokens, 0 for padding. *Shape:* (batch, length)

    Returns:
        *Shape:* (batch, width)
    """
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1)


class LayerHead(nn.Module):
    """Logits from the mean states after several layers: two products with a Gelu between.

    Layers below the last rank unseen texts nearly as well as it does, and together they do better (`docs/log.md`).
    By one product it also says what a text does (`train.speech_acts`).

    Attributes:
        layers: after which layers it reads, the lowest being 1.
        centre: subtracted from what is read. *Shape:* (len(layers) x width)
        spread: what is read is then divided by it. *Shape:* (len(layers) x width)
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, layers: Sequence[int], width: int, hidden: int, labels: int, *, dropped: float = 0.0) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.register_buffer("centre", torch.zeros(len(self.layers) * width))
        self.register_buffer("spread", torch.ones(len(self.layers) * width))
        self.inner = nn.Linear(len(self.layers) * width, hidden)
        self.outer = nn.Linear(hidden, labels)
        self.acts = nn.Linear(len(self.layers) * width, len(ACTS))
        self.drop_read, self.drop_hidden = nn.Dropout(min(0.1, dropped)), nn.Dropout(dropped)

    def forward(self, read: Tensor) -> Tensor:
        """Score what was read after `layers`, in a row.

        Args:
            read: *Shape:* (batch, len(layers) x width)

        Returns:
            Logits. *Shape:* (batch, labels)
        """
        hidden = nn.functional.gelu(self.inner(self.drop_read(self.standardised(read))))
        logits: Tensor = self.outer(self.drop_hidden(hidden))
        return logits

    def speech_acts(self, read: Tensor) -> Tensor:
        """The logit of each of `ACTS`. *Shape:* (batch, len(layers) x width) to (batch, acts)."""
        logits: Tensor = self.acts(self.standardised(read))
        return logits

    def standardised(self, read: Tensor) -> Tensor:
        """What was read, less `centre` and over `spread`. *Shape:* (batch, len(layers) x width)."""
        return (read - self.centre) / self.spread

    @torch.no_grad()
    def folded(self, product: nn.Linear) -> tuple[Tensor, Tensor]:
        """Weight (outputs, inputs) and bias of `inner` or `acts` on what is read, with centre and spread folded in."""
        weight = product.weight / self.spread
        return weight, product.bias - weight @ self.centre


def keep_layers(base: Any, numbers: Sequence[int]) -> None:
    """Leave the layers of these numbers, the lowest being 0, in an encoder."""
    base.encoder.layer = nn.ModuleList(base.encoder.layer[i] for i in numbers)
    base.config.num_hidden_layers = len(numbers)


def evenly(total: int, layers: int) -> list[int]:
    """The numbers of `layers` layers of `total`, taken evenly from bottom to top, the first and the last among them."""
    return [round(i * (total - 1) / max(layers - 1, 1)) for i in range(layers)]


def masked_multilabel_loss(
    logits: Tensor, targets: Tensor, weights: Tensor, *, hazard_weight: float = 0.5, rank_weight: float = 0.2
) -> Tensor:
    """Masked binary cross-entropy, plus a term that ranks present hazards above unlabelled ones.

    An unknown label has weight 0 and adds nothing to the cross-entropy: unknown is not negative. `unsafe` and the
    hazards are averaged apart, since safe rows know all twelve hazards and would else drown the rest. The ranking
    term, log(1 + sum over present p and unknown u of exp(s_u - s_p)), is the pairwise part of ZLPR
    (arXiv 2208.02955) between present and unknown hazards: it tells hazards apart without calling any absent.

    Args:
        logits: *Shape:* (batch, labels); the last label is `unsafe`.
        targets: 0 to 1. *Shape:* (batch, labels)
        weights: 0 where unknown. *Shape:* (batch, labels)
        hazard_weight: weight of the hazards' cross-entropy beside that of `unsafe`.
        rank_weight: weight of the ranking term.
    """
    bce = nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    weighted = bce * weights
    unsafe = weighted[:, -1].sum() / weights[:, -1].sum().clamp(min=1)
    named = weighted[:, :-1].sum() / weights[:, :-1].sum().clamp(min=1)
    hazards, known, present = logits[:, :-1], weights[:, :-1] > 0, (targets * weights)[:, :-1] > 0
    unknown = ~known & present.any(1, keepdim=True)
    floor = torch.finfo(logits.dtype).min / 2
    up = torch.where(unknown, hazards, floor).logsumexp(1)
    down = torch.where(present, -hazards, floor).logsumexp(1)
    active = unknown.any(1)
    rank = nn.functional.softplus(up + down)[active].mean() if bool(active.any()) else logits.sum() * 0
    return unsafe + hazard_weight * named + rank_weight * rank
