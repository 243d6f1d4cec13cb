"""The players: what a generator, a rater and a classifier offer the game, and those that run on a laptop."""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from wardgate.calibrate.calibrator import logit
from wardgate.calibrate.methods import sigmoid
from wardgate.engine.evidence import merge_views
from wardgate.guards import View
from wardgate.guards.from_card import find_card, open_guard
from wardgate.guards.ngrams import NgramGuard, NgramSettings
from wardgate.normalise import normalise
from wardgate.train.classifier import train_classifier
from wardgate.train.duo.ledger import work_folder
from wardgate.train.duo.moves import OWN
from wardgate.train.duo.policy import EditPolicy
from wardgate.train.folder import load_calibrator
from wardgate.train.mini import Split
from wardgate.train.nano import NanoSettings, fit_nano, lessons, save_nano

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from wardgate.data.example import Example
    from wardgate.guards import Guard
    from wardgate.train.classifier import Head
    from wardgate.train.duo.moves import Pair, Proposal, Seed
    from wardgate.train.duo.policy import Learning
    from wardgate.train.fitting import Running
    from wardgate.train.recipe import Recipe

    Array = NDArray[np.float64]


class Classifier(Protocol):
    """One trained classifier."""

    def unsafe(self, texts: Sequence[str]) -> Array:
        """P(unsafe) of texts, 0 to 1; NaN for what it could not score. *Shape:* (n,)."""
        ...


class Trainee(Protocol):
    """How classifiers are trained: from scratch in each round, as DuoGuard does it."""

    def train(self, seeds: Sequence[Example], misses: Sequence[Example], folder: Path) -> None:
        """Train on seeds and what was missed so far, and write the classifier into a folder."""
        ...

    def open(self, folder: Path) -> Classifier:
        """Open a classifier that `train` wrote."""
        ...


class Generator(Protocol):
    """What proposes rewrites, and learns which of them the classifier misses."""

    def propose(self, seeds: Sequence[Seed], language: str, k: int, round_: int) -> list[Proposal]:
        """K rewrites of each seed in a language."""
        ...

    def improve(self, seeds: Sequence[Seed], pairs: Sequence[Pair], classifier: Classifier, folder: Path) -> None:
        """Learn from pairs, or against the classifier itself, and write the better generator into a folder."""
        ...

    def open(self, folder: Path) -> Generator:
        """Open a generator that `improve` wrote."""
        ...


class Rater(Protocol):
    """What says how unsafe a rewrite is, so that rewrites which lost their label are left out."""

    def rate(self, seeds: Sequence[Seed], proposals: Sequence[Proposal]) -> list[int]:
        """Ratings from 1 to 5, one per proposal; `seeds` holds the seed of each."""
        ...


class KeepsLabel:
    """The rater of edits that keep the label by what they are: it says what the label says."""

    def rate(self, seeds: Sequence[Seed], proposals: Sequence[Proposal]) -> list[int]:
        """5 for unsafe seeds, 1 for safe ones."""
        return [5 if seed.unsafe else 1 for seed, _ in zip(seeds, proposals, strict=True)]


@dataclass(frozen=True, slots=True)
class EditGenerator:
    """The edit policy as a player. See `wardgate.train.duo.policy`.

    Attributes:
        policy: the policy.
        learning: how it learns.
        chance: seed of what it draws.
        mirrored: share of the rewrites, 0 to 1, that are made as the policy would make them of the *other* label. What
            hides harm best is then seen on harmless texts as often, and `Rules.paired` finds a counterpart.
    """

    policy: EditPolicy
    learning: Learning
    chance: int = 0
    mirrored: float = 0.0

    def propose(self, seeds: Sequence[Seed], language: str, k: int, round_: int) -> list[Proposal]:
        """K rewrites of each seed; edits keep a seed's own language, so a language chooses the seeds that have it."""
        mine = [s for s in seeds if language in {OWN, s.language}]
        return self.policy.propose(mine, k, round_, self.chance, mirrored=self.mirrored)

    def improve(self, seeds: Sequence[Seed], pairs: Sequence[Pair], classifier: Classifier, folder: Path) -> None:  # noqa: ARG002 - pairs are for generators that cannot be asked again
        """REINFORCE against the classifier."""

        def reward(some: Sequence[Seed], texts: Sequence[str]) -> Array:
            p = np.nan_to_num(classifier.unsafe(texts), nan=0.5)
            right = np.where([s.unsafe for s in some], p, 1 - p)
            return np.asarray(-np.log(np.maximum(right, 1e-6)))

        better = self.policy.learnt(seeds, reward, self.learning, self.chance)
        folder.mkdir(parents=True)
        (folder / "policy.json").write_text(json.dumps(better.as_dict(), indent=1), encoding="utf-8")

    def open(self, folder: Path) -> EditGenerator:
        """Read a policy; the translation tables stay these."""
        values = json.loads((folder / "policy.json").read_text("utf-8"))
        return replace(self, policy=EditPolicy.from_dict(values, self.policy.tables))


def highest_of_views(guard: Guard, texts: Sequence[str]) -> NDArray[np.float32]:
    """Logits as the engine gives them: the maximum over the raw and the cleaned view. *Shape:* (n, labels)."""
    views: list[View] = []
    bounds = [0]
    for text in texts:
        views += [View(v) for v in _views(text)]
        bounds.append(len(views))
    return merge_views(guard.score(views).logits, bounds)


@functools.lru_cache(maxsize=50_000)
def _views(text: str) -> tuple[str, ...]:
    return normalise(text).views()


@dataclass(frozen=True, slots=True)
class Ngrams:
    """The n-gram guard as a trainee: seconds to a few minutes a round on one core.

    Attributes:
        settings: the recipe.
        sizes: of its table and windows.
    """

    settings: NanoSettings
    sizes: NgramSettings

    def train(self, seeds: Sequence[Example], misses: Sequence[Example], folder: Path) -> None:
        """Train on the raw texts of seeds and misses."""
        examples = [*seeds, *misses]
        split = Split.of(examples)
        folder.mkdir(parents=True)
        data = lessons(split.texts, split, self.sizes, teacher=None, share=0.0)
        model = fit_nano(data, self.sizes, self.settings, lambda *_: None)
        save_nano(model, folder / "model.safetensors")
        (folder / "settings.json").write_text(json.dumps(asdict(self.settings), indent=1), encoding="utf-8")

    def open(self, folder: Path) -> Classifier:
        """The guard, scored on raw and cleaned views as the engine does."""
        return OpenGuard(NgramGuard("duo", folder / "model.safetensors", settings=self.sizes))


@dataclass(frozen=True)
class OpenGuard:
    """A built-in guard as the game asks it: its logits, not yet calibrated, of both views."""

    guard: Guard

    def unsafe(self, texts: Sequence[str]) -> Array:
        """The sigmoid of the `unsafe` logit, the higher of both views."""
        return sigmoid(highest_of_views(self.guard, texts)[:, -1].astype(np.float64))


@dataclass(frozen=True, slots=True)
class AtPoint:
    """A trainee whose classifiers are asked at the operating point that they will be used at.

    A guard is judged at the threshold that flags a stated share of plain safe texts, and every round moves it. So each
    classifier's logits are shifted until that threshold is a probability of one half.

    Attributes:
        trainee: what is trained.
        safe: plain safe texts that it is not trained on.
        share: of them that may be flagged, 0 to 1.
    """

    trainee: Trainee
    safe: tuple[str, ...]
    share: float

    def train(self, seeds: Sequence[Example], misses: Sequence[Example], folder: Path) -> None:
        """Train what is trained."""
        self.trainee.train(seeds, misses, folder)

    def open(self, folder: Path) -> Classifier:
        """Open it, and find its threshold."""
        opened = self.trainee.open(folder)
        return Shifted(opened, float(np.quantile(logit(opened.unsafe(self.safe)), 1 - self.share)))


@dataclass(frozen=True, slots=True)
class Shifted:
    """A classifier whose logits are moved down by a constant."""

    classifier: Classifier
    by: float

    def unsafe(self, texts: Sequence[str]) -> Array:
        """P(unsafe) after the shift."""
        return sigmoid(logit(self.classifier.unsafe(texts)) - self.by)


@dataclass(frozen=True, slots=True)
class Transformer:
    """Any base model with a hazard head as a trainee, trained by a recipe as `wardgate train classifier` does.

    Attributes:
        base: a folder, or a hub id in the local cache.
        calibrate: examples that its calibration is fitted on.
        head: what it answers.
        recipe: how it is trained.
        running: how the run is shown; its folder is chosen by the game.
    """

    base: str
    calibrate: tuple[Example, ...]
    head: Head
    recipe: Recipe
    running: Running

    def train(self, seeds: Sequence[Example], misses: Sequence[Example], folder: Path) -> None:
        """Fine-tune the base afresh; a run that was cut short goes on from its last whole checkpoint."""
        work = work_folder(folder)
        parts: dict[str, list[Example]] = {"train": [*seeds, *misses], "calibrate": list(self.calibrate)}
        train_classifier(self.base, parts, self.head, self.recipe, replace(self.running, out=work), name="duo")
        (work / "guard").rename(folder)

    def open(self, folder: Path) -> Classifier:
        """The guard with its calibration."""
        return OpenTransformer(folder)


@dataclass(frozen=True)
class OpenTransformer:
    """A guard folder as the game asks it."""

    folder: Path

    @functools.cached_property
    def _guard(self) -> Guard:
        return open_guard(find_card(self.folder))

    def unsafe(self, texts: Sequence[str]) -> Array:
        """Calibrated P(unsafe) of the raw texts."""
        calibrator, _ = load_calibrator(self.folder, self._guard)
        return calibrator.apply(self._guard.score([View(t) for t in texts])).unsafe
