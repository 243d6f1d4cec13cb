"""The model behind the built-in guard: a BERT-shaped encoder, mean pooling, 12 hazard logits and `unsafe`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from pathlib import Path


class EncoderGuardModel(nn.Module):
    """Multilingual encoder with a multi-label head.

    The word embeddings stay frozen: they are most of the parameters, a fine-tuning set touches few of them,
    and frozen they can be shipped in the 4-bit blocks of ggml's Q4_0 format.
    """

    def __init__(self, base: nn.Module, labels: int, hidden: int) -> None:
        super().__init__()
        self.base = base
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(hidden, labels)
        base.embeddings.word_embeddings.weight.requires_grad_(False)  # type: ignore[union-attr]

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
            keep_layers(base, layers)
        if keep is not None:
            old = base.embeddings.word_embeddings
            base.embeddings.word_embeddings = nn.Embedding.from_pretrained(  # type: ignore[no-untyped-call]
                old.weight[keep].clone(), freeze=True
            )
            base.config.vocab_size = len(keep)
        return cls(base, labels, base.config.hidden_size)

    def freeze(self, layers: int) -> None:
        """Keep the embeddings and the lowest layers as they are."""
        if layers:
            for part in (self.base.embeddings, *self.base.encoder.layer[:layers]):  # type: ignore[union-attr, index]
                part.requires_grad_(False)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Score a padded batch.

        Args:
            ids: int64 token ids. *Shape:* (batch, length)
            mask: 1 for tokens, 0 for padding. *Shape:* (batch, length)

        Returns:
            Logits. *Shape:* (batch, labels)
        """
        states = self.base(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).to(states.dtype)
        pooled = (states * weights).sum(1) / weights.sum(1).clamp(min=1)
        logits: Tensor = self.head(self.dropout(pooled).float())
        return logits


def keep_layers(base: Any, layers: int) -> None:
    """Leave `layers` layers in an encoder, taken evenly from bottom to top, the first and the last among them."""
    total = len(base.encoder.layer)
    chosen = [round(i * (total - 1) / max(layers - 1, 1)) for i in range(layers)]
    base.encoder.layer = nn.ModuleList(base.encoder.layer[i] for i in chosen)
    base.config.num_hidden_layers = layers


def lowest_layers(base: Any, layers: int) -> None:
    """Leave the lowest `layers` layers in an encoder."""
    base.encoder.layer = base.encoder.layer[:layers]
    base.config.num_hidden_layers = layers


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
        targets: 0 or 1. *Shape:* (batch, labels)
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
