"""`wardgate serve --workers N`: N HTTP processes on one socket, one scoring process behind them."""

from __future__ import annotations

import multiprocessing
import os
import secrets
import signal
import socket
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType

    from wardgate.serve.auth import Keys
    from wardgate.serve.catalogue import ServedEngine
    from wardgate.serve.review import Keeping
    from wardgate.serve.settings import Settings

_STARTING_S = 120.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run, in a form that can be sent to another process.

    Attributes:
        load: makes the engines, in the scoring process only.
        settings: limits and switches.
        host: the address to listen on.
        port: the port, or 0 for any that is free.
        workers: HTTP processes.
        log_level: for all of them.
        keys: opens the place where API keys are kept; None asks for no key.
        certificate: a PEM file; turns TLS on.
        certificate_key: its key.
        behind_proxy: addresses whose `X-Forwarded-*` headers are believed.
        keeping: opens the store; None keeps nothing.
    """

    load: Callable[[], Mapping[str, ServedEngine]]
    settings: Settings
    host: str
    port: int
    workers: int
    log_level: str = "info"
    keys: Callable[[], Keys | None] | None = None
    certificate: Path | None = None
    certificate_key: Path | None = None
    behind_proxy: str | None = None
    keeping: Callable[[], Keeping] | None = None


def run(plan: Plan, *, told: Callable[[int], None] = lambda _: None) -> int:
    """Run until SIGTERM or SIGINT, or until a process dies; returns the exit code.

    HTTP processes end first, so that what they accepted is still scored.

    Args:
        plan: what to run.
        told: told of the port once it listens.
    """
    spawn = multiprocessing.get_context("spawn")
    key = secrets.token_bytes(32)
    with tempfile.TemporaryDirectory(prefix="wardgate-") as folder, _socket(plan) as listening:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        address = str(Path(folder) / "score")
        scorer = spawn.Process(target=_score, args=(plan, address, key), daemon=True)
        scorer.start()
        workers = [spawn.Process(target=_serve, args=(plan, address, key, listening)) for _ in range(plan.workers)]
        try:
            _await(address, scorer)
            for worker in workers:
                worker.start()
            told(listening.getsockname()[1])
            return _watch([*workers, scorer])
        finally:
            _end([worker for worker in workers if worker.pid is not None], plan.settings.drain_s + 5)
            _end([scorer], 5)


def _socket(plan: Plan) -> socket.socket:
    family = socket.AF_INET6 if ":" in plan.host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((plan.host, plan.port))
    listening.listen(2048)
    listening.set_inheritable(True)
    return listening


def _await(address: str, scorer: multiprocessing.process.BaseProcess) -> None:
    deadline = time.monotonic() + _STARTING_S
    while not _listens(address):
        if not scorer.is_alive() or time.monotonic() > deadline:
            raise ChildProcessError("the scoring process did not start")
        time.sleep(0.02)


def _listens(address: str) -> bool:
    """Whether the scorer takes connections: its socket is there a moment before it does."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(address) == 0


def _watch(processes: list[multiprocessing.process.BaseProcess]) -> int:
    """Wait for a signal (0) or for the first process that ends by itself (1)."""
    asked, asking = socket.socketpair()

    def ask(_signal: int, _frame: FrameType | None) -> None:
        asking.send(b".")

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        ready = wait([asked, *(process.sentinel for process in processes)])
        return 0 if asked in ready else 1
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        asked.close()
        asking.close()


def _end(processes: list[multiprocessing.process.BaseProcess], patience_s: float) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(patience_s)
        if process.is_alive():
            process.kill()
            process.join()


def _score(plan: Plan, address: str, key: bytes) -> None:
    from wardgate.serve import logs, remote_engine
    from wardgate.serve.loading import settle

    logs.configure(plan.log_level)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process tells when to end
    engines = plan.load()
    settle()
    remote_engine.listen(engines, address, key)


def _serve(plan: Plan, address: str, key: bytes, listening: socket.socket) -> None:
    from wardgate.serve import create_app, logs, remote_engine
    from wardgate.serve.loading import settle
    from wardgate.serve.server import server

    logs.configure(plan.log_level)
    engines = remote_engine.connect(address, key)
    first, *_ = engines.values()
    app = create_app(
        first, plan.settings, others=engines, keys=plan.keys and plan.keys(), keeping=plan.keeping and plan.keeping()
    )
    running = server(
        app,
        plan.settings,
        host=plan.host,
        port=plan.port,
        certificate=plan.certificate,
        certificate_key=plan.certificate_key,
        behind_proxy=plan.behind_proxy,
    )
    settle()
    running.run(sockets=[listening])
