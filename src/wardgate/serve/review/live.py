"""An engine that takes up what a lead approved, without a restart."""

from __future__ import annotations

import threading
import time
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import SQLAlchemyError

from wardgate.engine import Engine
from wardgate.policy import PolicyError, parse_policy, shipped_names
from wardgate.store import proposals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wardgate.engine import Submission
    from wardgate.policy import Decision, Policy
    from wardgate.serve.catalogue import LoadedGuard
    from wardgate.store import Store

_LOOK_EVERY_S = 2.0


class LiveEngine:
    """Decides as its policy file says, or as the proposal says that a lead approved for it."""

    def __init__(self, engine: Engine, store: Store, every_s: float = _LOOK_EVERY_S) -> None:
        self._engine = engine
        self._store = store
        self._every_s = every_s
        self._written = engine.policy.sha256
        self._lock = threading.Lock()
        self._looked = float("-inf")
        self._look()

    @property
    def policy(self) -> Policy:
        """The policy that decides now."""
        return self._engine.policy

    @property
    def guards(self) -> Mapping[str, LoadedGuard]:
        """The guards that are loaded."""
        return self._engine.guards

    def check_many(self, texts: Sequence[str | Submission]) -> list[Decision]:
        """Decide on many texts; results keep the order of the input."""
        if time.monotonic() - self._looked > self._every_s and self._lock.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._lock.release()
        return self._engine.check_many(texts)

    def _look(self) -> None:
        self._looked = time.monotonic()
        try:
            with self._store.reading() as connection:
                found = proposals.approved(connection, self.policy.name, self._written)
            if found is not None and found.sha256 != self.policy.sha256:
                policy = parse_policy(found.text.encode(), f"proposal {found.id}")
                self._engine = _successor(self._engine, policy)
                structlog.get_logger("wardgate.policy").info("taken up", proposal=found.id, policy=policy.name)
        except (SQLAlchemyError, PolicyError) as error:  # the policy that is in force stays in force
            structlog.get_logger("wardgate.policy").warning("not taken up", failure=type(error).__name__)


def _successor(engine: Engine, policy: Policy) -> Engine:
    """The same guards under another policy; a day's actions that were spent stay spent under the same limit."""
    after = Engine(engine.guards, policy, engine.missing)
    if policy.breaker == engine.policy.breaker:
        after.breaker = engine.breaker
    return after


def in_force(store: Store, engine: Engine, spec: str) -> tuple[Engine, str]:
    """The engine as it decides now, and its policy's text: the file's, or the approved proposal's.

    Args:
        store: where proposals are.
        engine: with the policy as it is written.
        spec: a shipped policy's name, or a file.
    """
    with store.reading() as connection:
        found = proposals.approved(connection, engine.policy.name, engine.policy.sha256)
    if found is None:
        return engine, policy_text(spec)
    policy = parse_policy(found.text.encode(), spec)
    return Engine(engine.guards, policy, engine.missing), found.text


def policy_text(spec: str) -> str:
    """The text of a shipped policy, or of a file."""
    shipped = files("wardgate.policy") / "shipped" / f"{spec}.yaml"
    return shipped.read_text("utf-8") if spec in shipped_names() else Path(spec).read_text("utf-8")
