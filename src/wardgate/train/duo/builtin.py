"""The built-in encoder as a trainee of the game: fine-tuned on, round by round, from a finished run."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from wardgate.guards.encoder import EncoderGuard
from wardgate.train.duo.ledger import work_folder
from wardgate.train.duo.players import OpenGuard
from wardgate.train.export import export_onnx
from wardgate.train.mini import Settings, Split, fit, open_run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

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
    """

    base: Path
    start: Path
    settings: Settings
    report: Callable[[int, int, float], None] = lambda *_: None

    def train(self, seeds: Sequence[Example], misses: Sequence[Example], folder: Path) -> None:
        """Train on the raw texts of seeds and misses; a run that was cut short goes on from its checkpoint."""
        model, tokenizer = open_run(self.base, self.start)
        work = work_folder(folder)
        work.mkdir(parents=True, exist_ok=True)
        if misses:
            torch.manual_seed(self.settings.seed)
            fit(model, Split.of([*seeds, *misses]), tokenizer, self.settings, work, report=self.report)
        for name in ("keep.json", "tokenizer.json"):
            shutil.copy(self.start / name, work / name)
        torch.save(model.state_dict(), work / "model.pt")
        export_onnx(model, work / "model.onnx")
        work.rename(folder)

    def open(self, folder: Path) -> Classifier:
        """The guard as it ships, scored on raw and cleaned views as the engine does."""
        return OpenGuard(EncoderGuard("duo", folder / "model.onnx", folder / "tokenizer.json"))
