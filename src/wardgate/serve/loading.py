"""Engines for the policies that are to be served; the guards are loaded once and shared."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

from wardgate.engine import Engine
from wardgate.engine.bundle import built_in_names
from wardgate.guards.encoder import EncoderSettings, usable_cores
from wardgate.policy import load_policy
from wardgate.serve.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wardgate.engine.catalogue import Loaded
    from wardgate.guards import Guard

# Tokens and texts of a batch for guards that gain nothing from larger ones than one run of an encoder: whoever comes
# next waits for less.
_SMALL_BATCH = (EncoderSettings().batch_tokens, 32)
# More scoring threads would wait for one another: what is not the model's own arithmetic holds Python's lock.
_MOST_SCORERS = 4


def engines(
    guards: Sequence[str | Guard], policies: Sequence[str], *, loaded: Mapping[str, Loaded] | None = None
) -> dict[str, Engine]:
    """One engine for each policy, by the policy's name; the first is the default.

    Args:
        guards: as for `Engine.load`; empty takes the guards that each policy names.
        policies: shipped names or files, at least one.
        loaded: guards that are in memory already: all of `guards`, or some of those that the policies name.

    Raises:
        PolicyError: if a policy is wrong.
        ValueError: if a guard cannot be loaded, none can, or two policies have one name.
    """
    shared = dict(loaded or {})
    made: dict[str, Engine] = {}
    for spec in policies:
        engine = _engine(guards, spec, shared)
        if engine.policy.name in made:
            raise ValueError(f"two policies are called {engine.policy.name!r}")
        if not engine.guards:
            reasons = "; ".join(f"{name}: {why}" for name, why in engine.missing.items())
            raise ValueError(f"policy {engine.policy.name!r} has no guard that can run here: {reasons}")
        shared.update(engine.guards)
        made[engine.policy.name] = engine
    for engine in made.values():
        _warm_up(engine)
    return made


def _warm_up(engine: Engine) -> None:
    """Let the engine read what it reads at its first text, so that nobody has to wait for it.

    Only where that costs nothing: another server's guard is not asked.
    """
    if set(engine.guards) <= {*built_in_names(), "rules"}:
        engine.cases(["Is anybody there?"])


def batch_size(guards: Sequence[str], policies: Sequence[str]) -> tuple[int, int]:
    """Estimated tokens and texts of a batch that suit the guards.

    The built-in guards take as long for each text in a batch as alone, so their batches are small. Others (on a GPU,
    behind another server) are faster together.

    Args:
        guards: as for `engines`.
        policies: likewise.

    Raises:
        PolicyError: if a policy is wrong.
    """
    if _only_built_in(guards, policies):
        return _SMALL_BATCH
    usual = Settings()
    return usual.batch_tokens, usual.batch_items


def scorer_threads(guards: Sequence[str], policies: Sequence[str]) -> int:
    """Threads that score at the same time, as suits the guards: 1 to 4.

    The built-in guards run on the processor, where two threads with a core each score more than one with both: they
    need not wait for each other after each layer. Others have their own ways to use a machine.

    Args:
        guards: as for `engines`.
        policies: likewise.

    Raises:
        PolicyError: if a policy is wrong.
    """
    return min(_MOST_SCORERS, usable_cores()) if _only_built_in(guards, policies) else Settings().scorers


def share_cores(scorers: int) -> None:
    """Let each model that this process and its children load from now on use one scorer's share of the cores.

    Runtimes read it from `OMP_NUM_THREADS`. One scorer leaves everything as it is.
    """
    if scorers > 1:
        os.environ["OMP_NUM_THREADS"] = str(max(1, usable_cores() // scorers))


def settle() -> None:
    """Take what this process has loaded, which lives as long as it does, out of the garbage collector's sight.

    Looking through it all stops every thread for 50 ms (90,000 objects), now and then, and whoever asks then waits.
    """
    gc.collect()
    gc.freeze()


def _only_built_in(guards: Sequence[str], policies: Sequence[str]) -> bool:
    asked = set(guards) or {name for spec in policies for name in load_policy(spec).guards}
    return asked <= {*built_in_names(), "rules"}


def shadows(
    live: Mapping[str, Engine],
    guards: Sequence[str],
    policies: Sequence[str],
    shadow_guards: Sequence[str],
    specs: Sequence[str],
) -> dict[str, Mapping[str, Engine]]:
    """What runs beside live engines, by the shadow's name and the live policy's.

    A policy sees the texts of all live ones. A guard runs under each live policy, in place of the guards it names.

    Args:
        live: the engines that decide.
        guards: what the live engines were made of.
        policies: what the live engines were made of.
        shadow_guards: names, folders or cards.
        specs: shipped policies or files.

    Raises:
        PolicyError: if a policy is wrong, or asks what a guard cannot give.
        ValueError: if a guard cannot be loaded, or two shadows have one name.
    """
    shared = {name: one for engine in live.values() for name, one in engine.guards.items()}
    made: dict[str, Mapping[str, Engine]] = {
        name: dict.fromkeys(live, engine) for name, engine in engines(guards, specs, loaded=shared).items()
    }
    for spec in shadow_guards:
        beside = engines([spec], policies)
        first, *_ = beside.values()
        name = f"guard:{next(iter(first.guards))}"
        if name in made:
            raise ValueError(f"two shadows are called {name!r}")
        made[name] = beside
    return made


def _engine(guards: Sequence[str | Guard], spec: str, shared: dict[str, Loaded]) -> Engine:
    """An engine that takes what is loaded already and loads the rest."""
    policy = load_policy(spec)
    if guards and shared:
        return Engine(shared, policy.for_guards(tuple(shared)))
    if not guards and set(policy.guards) <= set(shared):
        return Engine({name: shared[name] for name in policy.guards}, policy)
    return Engine.load(guards, policy=policy)
