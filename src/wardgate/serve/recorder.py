"""Stores decisions before anyone hears of them; those that come together are stored together."""

from __future__ import annotations

import asyncio
import queue
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import SQLAlchemyError

from wardgate.policy import NOTHING
from wardgate.serve.judge import NotKeptError
from wardgate.store import Record, keep
from wardgate.store.decisions import AUTHOR

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wardgate.engine import Submission
    from wardgate.policy import Decision
    from wardgate.serve.catalogue import PolicyFacts, ServedEngine
    from wardgate.store import Store

_MOST_TOGETHER = 512


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Decisions on their way into the store, and who waits for them."""

    records: list[Record]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[list[str]]

    def tell(self, names: list[str] | None) -> None:
        """Wake whoever waits, from another thread."""
        self.loop.call_soon_threadsafe(self._tell, names)

    def _tell(self, names: list[str] | None) -> None:
        if self.future.done():  # the caller went away; the decision is stored all the same
            return
        if names is None:
            self.future.set_exception(NotKeptError())
        else:
            self.future.set_result(names)


def _label(policy: PolicyFacts) -> str:
    """A policy as decisions name it."""
    return f"{policy.name}@{policy.version}"


class StoreRecorder:
    """Writes decisions in a thread of its own. While one transaction commits, the next one gathers."""

    def __init__(self, store: Store, engines: Mapping[str, ServedEngine]) -> None:
        self._store = store
        self._engines = dict(engines)
        self._policies = {name: {_label(engine.policy): engine.policy} for name, engine in self._engines.items()}
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="wardgate-recorder", daemon=True)
        self._thread.start()

    async def keep(
        self, lane: str, caller: str, items: Sequence[Submission], decisions: Sequence[Decision]
    ) -> list[str]:
        """Store decisions; returns their names once they are committed.

        Raises:
            NotKeptError: if the store failed.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(self._records(lane, caller, items, decisions), loop, loop.create_future())
        self._waiting.put(waiting)
        return await waiting.future

    def stop(self) -> None:
        """Store what waits, and stop."""
        self._waiting.put(None)
        self._thread.join()

    def _records(
        self, lane: str, caller: str, items: Sequence[Submission], decisions: Sequence[Decision]
    ) -> list[Record]:
        engine = self._engines[lane]
        # What was decided just before an approved policy was taken up is recorded just after.
        policies = self._policies[lane]
        policies[_label(engine.policy)] = engine.policy
        bundles = {name: loaded.sha256 for name, loaded in engine.guards.items()}
        return [
            Record(
                decision=decision,
                text=item.text,
                response=item.response,
                author=str(item.context[AUTHOR]) if AUTHOR in item.context else None,
                caller=caller,
                policy_sha256=policies[decision.policy].sha256 if decision.policy in policies else "",
                bundles=bundles,
                keep=getattr(policies.get(decision.policy, engine.policy), "keep", NOTHING),
            )
            for item, decision in zip(items, decisions, strict=True)
        ]

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            together, ended = self._gather(first)
            self._commit(together)
            if ended:
                return

    def _gather(self, first: _Waiting) -> tuple[list[_Waiting], bool]:
        """What has come meanwhile, and whether that was all."""
        together, count = [first], len(first.records)
        while count < _MOST_TOGETHER:
            try:
                more = self._waiting.get_nowait()
            except queue.Empty:
                return together, False
            if more is None:
                return together, True
            together.append(more)
            count += len(more.records)
        return together, False

    def _commit(self, together: list[_Waiting]) -> None:
        try:
            names = keep(self._store, [record for waiting in together for record in waiting.records])
        except SQLAlchemyError as error:
            if len(together) > 1:  # one that cannot be stored must not take the others with it
                for waiting in together:
                    self._commit([waiting])
                return
            # The statement's parameters hold what was judged: only the kind of failure is logged.
            structlog.get_logger("wardgate.store").error("not kept", failure=type(error).__name__)
            together[0].tell(None)
            return
        for waiting in together:
            waiting.tell(names[: len(waiting.records)])
            del names[: len(waiting.records)]
