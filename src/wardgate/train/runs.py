"""Folders of training runs and of the base they start from: what is in them, opening them, taking weights over."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch
from tokenizers import Tokenizer

from wardgate.hazards import WARDGATE
from wardgate.train.encoder_model import EncoderGuardModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

EMBEDDINGS = "base.embeddings.word_embeddings.weight"

VOCABULARY_FILES = ("keep.json", "tokenizer.json")
RUN_FILES = (*VOCABULARY_FILES, "model.pt")


def check_base(base: Path) -> None:
    """See that a folder may be an encoder's, before anything long begins.

    Raises:
        FileNotFoundError: if it has no configuration or no tokenizer.
    """
    _must_have(base, ("config.json", "tokenizer.json"), "a Hugging Face folder of an encoder")


def check_run(run: Path) -> None:
    """See that a folder is a finished run's, before anything long begins.

    Raises:
        FileNotFoundError: if one of its files is not there.
    """
    _must_have(run, RUN_FILES, "a finished run of `wardgate train`")


def _must_have(folder: Path, names: Iterable[str], what: str) -> None:
    for name in names:
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is not {what}: it has no {name}")


def open_run(base: Path, run: Path, layers: int | None = None) -> tuple[EncoderGuardModel, Tokenizer]:
    """The model and the tokenizer of a finished run.

    Args:
        base: Hugging Face folder of the base encoder.
        run: the run's folder.
        layers: how many it has, if they are fewer than the base's.

    Raises:
        FileNotFoundError: if one of its files, or of the base's, is not there.
    """
    check_base(base)
    check_run(run)
    keep = pieces_of(run)
    model = EncoderGuardModel.from_base(base, len(WARDGATE.labels), layers=layers, keep=keep)
    model.load_state_dict(torch.load(run / "model.pt", weights_only=True))
    return model.eval(), run_tokenizer(run)


def averaged(runs: Sequence[Path]) -> dict[str, torch.Tensor]:
    """The mean of finished runs' weights: a model soup (Wortsman et al. 2022, arXiv 2203.05482).

    Raises:
        ValueError: if their vocabularies differ.
    """
    if len({(run / "keep.json").read_text() for run in runs}) != 1:
        raise ValueError("runs of different vocabularies have no mean")
    states = [torch.load(run / "model.pt", weights_only=True) for run in runs]
    return {name: torch.stack([s[name].float() for s in states]).mean(0) for name in states[0]}


def take_over(model: EncoderGuardModel, keep: list[int], state: Mapping[str, torch.Tensor], had: list[int]) -> None:
    """Load a run's weights into a fresh model of the same base, whose vocabulary may be another.

    Word embeddings that training left frozen are the base's, so that a fresh model has those of any piece.

    Args:
        model: as `EncoderGuardModel.from_base` made it.
        keep: the base's id of each of its pieces.
        state: the run's weights.
        had: the base's id of each of the run's pieces.

    Raises:
        ValueError: if the vocabularies differ and the run trained its embeddings: new pieces would not fit among them.
    """
    if keep != had:
        own, place = model.state_dict()[EMBEDDINGS], {piece: i for i, piece in enumerate(had)}
        shared = [i for i, piece in enumerate(keep) if piece in place]
        if not torch.allclose(state[EMBEDDINGS][[place[keep[i]] for i in shared]], own[shared], atol=1e-6):
            raise ValueError(f"runs that trained their word embeddings keep their vocabulary: {len(had)} pieces")
        state = {**state, EMBEDDINGS: own}
    model.load_state_dict(state)


def base_tokenizer(base: Path) -> Tokenizer:
    """The whole tokenizer of a base encoder.

    Raises:
        FileNotFoundError: if the folder is no encoder's.
    """
    check_base(base)
    return Tokenizer.from_file(str(base / "tokenizer.json"))


def pieces_of(run: Path) -> list[int]:
    """The base's id of each piece of a run's vocabulary."""
    return list(json.loads((run / "keep.json").read_text()))


def run_tokenizer(run: Path) -> Tokenizer:
    """The tokenizer of a run, which reads what looks like its marks as plain text."""
    tokenizer = Tokenizer.from_file(str(run / "tokenizer.json"))
    tokenizer.encode_special_tokens = True  # a user may type "</s>": it is text, not structure
    return tokenizer
