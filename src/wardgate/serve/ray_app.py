"""The server as a Ray Serve application, for more than one machine.

`wardgate serve --ray` runs it for as long as it runs itself; `serve run deploy/ray/serve.yaml` leaves it to Ray.

Each replica is the whole application with its own engine and batcher: Ray spreads requests over replicas and
machines, and the batching inside a replica stays the one that is tested without Ray.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ray
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.exceptions import RayError

from wardgate.serve.app import create_app
from wardgate.serve.loading import batch_size, engines
from wardgate.serve.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from ray.serve import Application
    from starlette.types import ASGIApp


_NAME = "wardgate"


class Arguments(BaseModel):
    """`args` in `serve.yaml`."""

    model_config = ConfigDict(extra="forbid")
    guards: list[str] = Field(default_factory=list)
    policies: list[str] = Field(default_factory=lambda: ["default"], min_length=1)
    settings: dict[str, int | float | bool] = Field(default_factory=dict)


def application(arguments: Arguments) -> ASGIApp:
    """The ASGI application of one replica.

    Raises:
        ValueError: if a policy, a guard or a setting is wrong.
        TypeError: if there is no such setting.
    """
    made = engines(arguments.guards, arguments.policies)
    first, *_ = made.values()
    tokens, items = batch_size(arguments.guards, arguments.policies)
    settings = {"batch_tokens": tokens, "batch_items": items} | arguments.settings
    return create_app(first, Settings(**settings), others=made)  # type: ignore[arg-type]


def deployment(make: Callable[[], ASGIApp], *, replicas: int = 1, patience_s: float = 20.0) -> Application:
    """A Ray Serve application whose replicas each make an ASGI application of their own.

    Args:
        make: makes the application, in the replica.
        replicas: how many.
        patience_s: how long a replica that is to end may finish what it accepted.
    """

    def factory() -> ASGIApp:  # Ray takes a plain function for a factory, and any other callable for an application
        return make()

    replica = serve.deployment(
        name=_NAME, num_replicas=replicas, max_ongoing_requests=256, graceful_shutdown_timeout_s=patience_s
    )
    return replica(serve.ingress(factory)()).bind()


@dataclass(frozen=True)
class Place:
    """Where replicas run and listen.

    Attributes:
        host: the address that Ray's proxies listen on.
        port: their port, or 0 for one that is free here.
        replicas: how many, over all machines.
        address: of a running cluster; None starts Ray on this machine.
    """

    host: str
    port: int
    replicas: int
    address: str | None


def run(make: Callable[[], ASGIApp], place: Place, *, told: Callable[[int], None] = lambda _: None) -> int:
    """Serve on Ray until SIGTERM or SIGINT; returns the exit code.

    A cluster that was running goes on running, with what else it serves.

    Args:
        make: makes the application, in each replica.
        place: where.
        told: told of the port once requests are answered.

    Raises:
        ConnectionError: if there is no such cluster.
        RuntimeError: if a replica or a proxy could not be made.
    """
    # Ray ends a proxy that is not ready after five seconds, and on a busy machine none ever is.
    os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
    _join(place.address)
    try:
        port = place.port or _free_port(place.host)
        serve.start(http_options={"host": place.host, "port": port, "location": "EveryNode"})
        serve.run(deployment(make, replicas=place.replicas), name=_NAME, route_prefix="/")
        with _asked_to_end() as asked:
            told(port)
            asked.wait()
        if place.address is None:
            serve.shutdown()  # type: ignore[no-untyped-call]
        else:
            serve.delete(_NAME)
    except RayError as error:  # its text is a traceback of another process, which is in that process's log
        raise RuntimeError(f"{type(error).__name__}: see the logs of Ray") from None
    finally:
        ray.shutdown()
    return 0


def _join(address: str | None) -> None:
    """Join a cluster, or start one here.

    Raises:
        ConnectionError: if there is no such cluster.
        RuntimeError: if one could not be started.
    """
    try:
        ray.init(address=address or "local", include_dashboard=False, logging_level=logging.WARNING)
    except (OSError, RuntimeError):
        raise
    except Exception as error:  # noqa: BLE001 - of a node that does not start in time Ray tells by a bare Exception
        raise RuntimeError(str(error)) from None


@contextlib.contextmanager
def _asked_to_end() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set."""
    asked = threading.Event()

    def ask(_signal: int, _frame: FrameType | None) -> None:
        asked.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def build(args: dict[str, object]) -> Application:
    """What `import_path: wardgate.serve.ray_app:build` names.

    Raises:
        ValueError: if `args` is wrong.
    """
    arguments = Arguments.model_validate(args)
    return deployment(lambda: application(arguments))
