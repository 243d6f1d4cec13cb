"""From the options of `wardgate train duo` to a game with its players."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wardgate.data.rows import DataError
from wardgate.engine.language import detect_language
from wardgate.guards import Link
from wardgate.guards.from_card import CARD_FILE
from wardgate.guards.ngrams import NgramGuard, NgramSettings
from wardgate.hazards import LABEL_MAPS
from wardgate.train.classifier import Head
from wardgate.train.duo.builtin import Mini
from wardgate.train.duo.chat import ChatGenerator, ChatRater, LocalSampler, Preferences, Sampling, ServerSampler
from wardgate.train.duo.filters import Filters
from wardgate.train.duo.game import Game, Players, Rules
from wardgate.train.duo.ledger import Ledger
from wardgate.train.duo.moves import OWN, seeds_of
from wardgate.train.duo.players import AtPoint, EditGenerator, KeepsLabel, Ngrams, Transformer
from wardgate.train.duo.policy import EditPolicy, Learning, translations
from wardgate.train.fitting import Running
from wardgate.train.folder import swap
from wardgate.train.mini import Settings, Split
from wardgate.train.nano import NanoSettings
from wardgate.train.pack import MIN_POSITIVES, finish, pack_encoder
from wardgate.train.recipe import changes, recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wardgate.data.example import Example
    from wardgate.train.duo.chat import Sampler
    from wardgate.train.duo.players import Trainee

EDITS = "edits"
"""The generator that needs no model."""

APERTIUM = {"to_spanish": "eng-spa"}
"""Translation that the edit policy may use where Apertium is installed."""


_WHERE = frozenset(["out", "server", "quiet", "workers", "gpus", "launcher", "deepspeed"])
"""Options that say where a game runs and not what it is: they may change when it goes on."""


@dataclass(frozen=True, slots=True)
class GameOptions:
    """What `wardgate train duo` was asked for; see its help."""

    out: Path
    base: str | None = None
    start: str | None = None
    generator: str = EDITS
    server: str | None = None
    served: str | None = None
    rounds: int = 2
    k: int = 8
    languages: tuple[str, ...] = ()
    rewrite: int | None = None
    beta: float | None = None
    rpo_alpha: float = 0.4
    threshold: float = 0.5
    recipe: str = "duoguard"
    changes: tuple[str, ...] = ()
    preferences: tuple[str, ...] = ()
    chance: int = 0
    paired: bool = False
    mirrored: float = 0.0
    longest: int | None = None
    drawn: int | None = None
    hardest: int | None = None
    views: bool = False
    at_point: float | None = None
    quiet: bool = False
    workers: int = 0
    gpus: float = 0.0
    launcher: tuple[str, ...] = ()
    deepspeed: Path | None = None


def play(parts: dict[str, list[Example]], options: GameOptions, report: Callable[[str], None]) -> dict[str, Any]:
    """Set up the players, play, and leave the last classifier in `guard/`.

    Returns:
        The game's card.

    Raises:
        DataError: if the data, the numbers, or the server do not allow a game.
        CheckpointError: if a model cannot be loaded.
    """
    edits = options.generator == EDITS
    check_options(options, edits=edits)
    check_calibration(parts["calibrate"])
    filters = Filters(length=4000, refusals=False, language=False, near=None) if edits else Filters()
    rules = Rules(
        rounds=options.rounds,
        k=options.k,
        languages=options.languages or (OWN,),
        threshold=options.threshold if options.at_point is None else 0.5,
        filters=filters,
        rewrite=options.rewrite,
        chance=options.chance,
        paired=options.paired,
        longest=options.longest,
        drawn=options.drawn,
        hardest=options.hardest,
    )
    players = spread(edit_players(parts, options) if edits else chat_players(parts, options), options)
    if options.at_point is not None:
        safe = tuple(e.text for e in parts["calibrate"] if e.unsafe is False)
        players = replace(players, trainee=AtPoint(players.trainee, safe, options.at_point))
    ledger = Ledger(options.out, rules.as_dict() | {"options": _kept(options)})
    game = Game(parts["train"], rules, players, ledger, detect_language, report)
    publish(game.play(), options.out / "guard", parts, options)
    card: dict[str, Any] = json.loads((options.out / "card.json").read_text("utf-8"))
    return card


def check_options(options: GameOptions, *, edits: bool) -> None:
    """Check numbers, and options that ask for one kind of player where another plays.

    Raises:
        DataError: with the first fault.
    """
    if min(options.rounds, options.k) < 1 or not 0 < options.threshold < 1:
        raise DataError("rounds and k are at least 1, and the threshold lies between 0 and 1")
    if not 0 <= options.mirrored <= 1 or (options.at_point is not None and not 0 < options.at_point < 1):
        raise DataError("mirrored lies between 0 and 1, and the share flagged at the point above 0 and below 1")
    if sum([options.paired, options.drawn is not None, options.hardest is not None]) > 1:
        raise DataError("one of --paired, --drawn and --hardest: each says which rewrites are trained on")
    if options.mirrored and not edits:
        raise DataError("--mirrored is for the generator `edits`: a chat model is given the label in its prompt")
    if options.views and options.start is None:
        raise DataError("--views goes with --start: only the built-in encoder is trained on both views")


def _kept(options: GameOptions) -> dict[str, Any]:
    """The options that make a run what it is; where it runs and what it shows may change when it goes on."""
    return {k: v for k, v in asdict(options).items() if k not in _WHERE}


def trainee_of(parts: dict[str, list[Example]], options: GameOptions) -> Trainee:
    """The n-gram guard, the built-in encoder that goes on from a run, or a base model under a recipe.

    Raises:
        DataError: if there is a run to go on from and no base that it was made of.
    """
    if options.start is not None and options.base is None:
        raise DataError("--start goes with --base: the folder of the encoder that the run was made of")
    if options.base is None:
        return Ngrams(NanoSettings(seed=options.chance), NgramSettings())
    if options.start is not None:
        return Mini(Path(options.base), Path(options.start), going_on(options.chance), views=options.views)
    made = recipe(options.recipe, **changes(options.changes))
    head = Head(LABEL_MAPS["wardgate"], Link.SIGMOID)
    return Transformer(options.base, tuple(parts["calibrate"]), head, made, _running(options))


def going_on(seed: int) -> Settings:
    """The recipe of a round that goes on from a finished run: one pass at rates that keep what it knows.

    Attacks come from the generator alone.
    """
    return Settings(seed=seed, epochs=1.0, rate=5e-5, head_rate=3e-4, attacks=0.0)


def _running(options: GameOptions) -> Running:
    return Running(options.out, deepspeed=options.deepspeed, quiet=options.quiet)


def edit_players(parts: dict[str, list[Example]], options: GameOptions) -> Players:
    """The laptop game: the edit policy, whose rewrites keep their label by what they are."""
    seeds, _ = seeds_of(parts["train"])
    learning = Learning() if options.beta is None else Learning(beta=options.beta)
    policy = EditPolicy.uniform(tables=translations(seeds, APERTIUM))
    generator = EditGenerator(policy, learning, options.chance, options.mirrored)
    return Players(generator, KeepsLabel(), trainee_of(parts, options))


def chat_players(parts: dict[str, list[Example]], options: GameOptions) -> Players:
    """DuoGuard's game: a language model that is sampled here or on a server, rated by what it was at the start."""
    numbers = dpo_numbers(options.preferences) | {"rpo_alpha": options.rpo_alpha}
    if options.beta is not None:
        numbers["beta"] = options.beta
    sampler: Sampler = LocalSampler(options.generator)
    if options.server is not None:
        key = os.environ.get("OPENAI_API_KEY")
        sampler = ServerSampler(options.server, options.served or options.generator, key)
    sampling = Sampling(seed=options.chance)
    generator = ChatGenerator(options.generator, sampler, Preferences(**numbers), _running(options), sampling)
    return Players(generator, ChatRater(sampler), trainee_of(parts, options))


def spread(players: Players, options: GameOptions) -> Players:
    """The same players, their training launched and their texts handed to a cluster where the options say so."""
    trainee, generator = players.trainee, players.generator
    if options.launcher:
        from wardgate.train.duo.launched import LaunchedGenerator, LaunchedTrainee

        if isinstance(trainee, Transformer):
            trainee = LaunchedTrainee(trainee, options.launcher)
        if isinstance(generator, ChatGenerator):
            generator = LaunchedGenerator(generator, options.launcher)
    if options.workers:
        from wardgate.train.duo.scale import Cluster, ClusterGenerator, ClusterTrainee

        cluster = Cluster(options.workers, options.gpus)
        trainee, generator = ClusterTrainee(trainee, cluster), ClusterGenerator(generator, cluster)
    return Players(generator, players.rater, trainee)


def dpo_numbers(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Read `name=value` pairs of `Preferences`.

    Raises:
        ValueError: if a name is not known or a value is no number.
    """
    kinds = {f.name: {"int": int, "float": float}[str(f.type)] for f in fields(Preferences)}
    found: dict[str, Any] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if name not in kinds:
            raise ValueError(f"DPO has no {name!r} (known: {', '.join(kinds)})")
        found[name] = kinds[name](value)
    return found


def publish(classifier: Path, folder: Path, parts: dict[str, list[Example]], options: GameOptions) -> None:
    """Copy the last classifier to where it stays: a checkpoint with its card, or a bundle of the n-gram guard."""
    fresh = folder.with_name("guard.new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(classifier, fresh)
    if not (fresh / CARD_FILE).exists():
        splits = {name: Split.of(parts[name] or parts["calibrate"]) for name in ("calibrate", "held-back")}
        version = f"duo-{options.rounds}"
        if options.start is not None:
            pack_encoder("duo", splits, fresh, version=version)
        else:
            pack_ngrams(fresh, splits, options, version)
    swap(fresh, folder)


def pack_ngrams(folder: Path, splits: dict[str, Split], options: GameOptions, version: str) -> None:
    """Turn a folder that `Ngrams.train` wrote into a bundle: calibrated, with operating points and figures."""
    made = Ngrams(NanoSettings(seed=options.chance), NgramSettings())
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    guard = NgramGuard("duo", folder / "weights.safetensors", settings=made.sizes)
    card: dict[str, object] = {
        "kind": "ngrams",
        "licence": "that of its data",
        "settings": asdict(made.sizes),
        "recipe": asdict(made.settings) | {"game": _kept(options)},
    }
    finish(guard, splits, folder, version=version, card=card)


def check_calibration(examples: Sequence[Example]) -> None:
    """Check, before a game of hours, that its last classifier can be calibrated.

    Raises:
        DataError: if there are fewer than 25 calibration rows of either class.
    """
    counts = [sum(e.unsafe is label for e in examples) for label in (True, False)]
    if min(counts) < MIN_POSITIVES:
        raise DataError(
            f"the calibrate part has {counts[0]} unsafe and {counts[1]} safe rows; {MIN_POSITIVES} of each are needed"
        )
