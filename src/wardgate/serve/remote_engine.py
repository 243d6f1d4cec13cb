"""One scoring process for several HTTP processes: the model is in memory once.

The scoring process listens on a Unix socket in a folder that only this user can enter, and asks for a random key
(HMAC, by `multiprocessing.connection`). Only processes of one server ever speak there, so what passes is pickled.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Listener
from typing import TYPE_CHECKING

from wardgate.policy import NOTHING, Keep

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from multiprocessing.connection import Connection

    from wardgate.engine import Submission
    from wardgate.guards import Link
    from wardgate.hazards import LabelMap
    from wardgate.policy import Decision
    from wardgate.serve.catalogue import ServedEngine


@dataclass(frozen=True, slots=True)
class GuardFacts:
    """What HTTP processes need to know of a guard."""

    name: str
    labels: LabelMap
    link: Link


@dataclass(frozen=True, slots=True)
class LoadedFacts:
    """The same, with what identifies it."""

    guard: GuardFacts
    sha256: str
    version: str


@dataclass(frozen=True, slots=True)
class PolicyFacts:
    """What HTTP processes need to know of a policy."""

    name: str
    version: str
    sha256: str
    keep: Keep = NOTHING
    window: int = 1


@dataclass(frozen=True, slots=True)
class Facts:
    """What HTTP processes need to know of an engine."""

    policy: PolicyFacts
    guards: dict[str, LoadedFacts]


def policy_facts(engine: ServedEngine) -> PolicyFacts:
    """What can be told of the policy that decides now: an engine may take up another one."""
    policy = engine.policy
    keep, window = getattr(policy, "keep", NOTHING), getattr(policy, "window", 1)
    return PolicyFacts(policy.name, str(policy.version), policy.sha256, keep, window)


def facts_of(engine: ServedEngine) -> Facts:
    """What can be told of an engine without its weights."""
    guards = {
        name: LoadedFacts(
            GuardFacts(loaded.guard.name, loaded.guard.labels, loaded.guard.link), loaded.sha256, loaded.version
        )
        for name, loaded in engine.guards.items()
    }
    return Facts(policy_facts(engine), guards)


class ScoringError(RuntimeError):
    """The scoring process could not score; the message holds the failure's type and never its text."""


def listen(engines: Mapping[str, ServedEngine], address: str, key: bytes) -> None:
    """Answer HTTP processes for ever, one thread for each connection.

    Args:
        engines: by policy.
        address: the path of the Unix socket.
        key: what a caller must know.
    """
    with Listener(address, "AF_UNIX", backlog=64, authkey=key) as listener:
        while True:
            try:
                connection = listener.accept()
            except (AuthenticationError, OSError, EOFError):  # a stranger; the next may be one of ours
                continue
            threading.Thread(target=_answer, args=(connection, engines), daemon=True).start()


def _answer(connection: Connection, engines: Mapping[str, ServedEngine]) -> None:
    with connection, ThreadPoolExecutor(1) as scorer:
        connection.send({name: facts_of(engine) for name, engine in engines.items()})
        while True:
            try:
                lane, items = connection.recv()
            except (EOFError, ConnectionResetError):  # the HTTP process ended
                return
            future = scorer.submit(engines[lane].check_many, items)
            error = future.exception()
            connection.send((policy_facts(engines[lane]), future.result()) if error is None else type(error).__name__)


class RemoteEngine:
    """An engine in another process. Safe to share between threads: each has a connection of its own.

    Attributes:
        policy: what decided the newest batch that was asked for here.
        guards: the guards of that process, by name.
    """

    def __init__(self, lane: str, facts: Facts, address: str, key: bytes) -> None:
        self.policy = facts.policy
        self.guards = facts.guards
        self._lane = lane
        self._address = address
        self._key = key
        self._local = threading.local()

    def check_many(self, texts: Sequence[str | Submission]) -> list[Decision]:
        """Decide on many texts; results keep the order of the input.

        Raises:
            ScoringError: if the engine failed.
            OSError: if the scoring process is gone.
            EOFError: likewise.
        """
        connection = self._connection()
        try:
            connection.send((self._lane, list(texts)))
            answer = connection.recv()
        except (OSError, EOFError):
            del self._local.connection  # the next call tries a new one
            raise
        if isinstance(answer, str):
            raise ScoringError(answer)
        decisions: list[Decision]
        self.policy, decisions = answer
        return decisions

    def _connection(self) -> Connection:
        if not hasattr(self._local, "connection"):
            self._local.connection = Client(self._address, "AF_UNIX", authkey=self._key)
            self._local.connection.recv()  # the facts, which are known
        connection: Connection = self._local.connection
        return connection


def connect(address: str, key: bytes) -> dict[str, RemoteEngine]:
    """The engines of a scoring process, by policy; the first is the default.

    Raises:
        OSError: if the scoring process does not listen (yet).
        multiprocessing.AuthenticationError: if the key is wrong.
    """
    with Client(address, "AF_UNIX", authkey=key) as connection:
        facts: dict[str, Facts] = connection.recv()
    return {lane: RemoteEngine(lane, one, address, key) for lane, one in facts.items()}
