"""The built-in encoder as a trainee of the game: fine-tuned on, round by round, from a finished run."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from wardgate.guards.encoder import EncoderGuard
from wardgate.normalise import normalise
from wardgate.train.duo.ledger import work_folder
from wardgate.train.duo.players import OpenGuard
from wardgate.train.export import export_onnx
from wardgate.train.mini import Settings, Split, fit
from wardgate.train.runs import open_run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tokenizers import Tokenizer

    from wardgate.data.example import Example
    from wardgate.train.duo.players import Classifier


@dataclass(frozen=True, slots=True)
class Mini:
    """A finished run of `wardgate train mini` that is trained on.

    Every round starts from that run's weights, so that a round's classifier depends on what was missed and not on how
    often it was trained. While nothing has been missed, the classifier is that run itself.

    Attributes:
        base: Hugging Face folder of the base encoder.
        start: the run's folder.
        settings: the recipe of each round.
        report: called with step, total steps and a running loss.
        layers: how many the run's encoder has, if they are fewer than the base's.
        views: train on both views of what was missed, raw and cleaned, since the guard is asked both; those that
            outgrow the training window are left out on either side, since what makes one unsafe may lie beyond it.
    """

    base: Path
    start: Path
    settings: Settings
    report: Callable[[int, int, float], None] = lambda *_: None
    layers: int | None = None
    views: bool = False

    def train(self, seeds: Sequence[Example], misses: Sequence[Example], folder: Path) -> None:
        """Train on seeds and misses; a run that was cut short goes on from its checkpoint."""
        model, tokenizer = open_run(self.base, self.start, self.layers)
        work = work_folder(folder)
        work.mkdir(parents=True, exist_ok=True)
        if misses:
            torch.manual_seed(self.settings.seed)
            lessons = seen(misses, tokenizer, self.settings.max_tokens) if self.views else misses
            fit(model, Split.of([*seeds, *lessons]), tokenizer, self.settings, work, report=self.report)
        for name in ("keep.json", "tokenizer.json"):
            shutil.copy(self.start / name, work / name)
        torch.save(model.state_dict(), work / "model.pt")
        export_onnx(model, work / "model.onnx")
        work.rename(folder)

    def open(self, folder: Path) -> Classifier:
        """The guard as it ships, scored on raw and cleaned views as the engine does."""
        return OpenGuard(EncoderGuard("duo", folder / "model.onnx", folder / "tokenizer.json"))


def seen(examples: Sequence[Example], tokenizer: Tokenizer, most: int) -> list[Example]:
    """Examples as the guard is asked them: each distinct view, raw and cleaned, of at most so many tokens."""
    views = [replace(e, text=view) for e in examples for view in normalise(e.text).views()]
    lengths = [len(found.ids) for found in tokenizer.encode_batch([e.text for e in views])]
    return [e for e, n in zip(views, lengths, strict=True) if n <= most]
