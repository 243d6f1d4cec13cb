"""The process: uvicorn with a time limit for headers, and a drain that readiness probes can see."""

from __future__ import annotations

from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from wardgate.serve.auth import is_loopback

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path
    from types import FrameType

    from fastapi import FastAPI

    from wardgate.serve.settings import Settings


# Longer than the minute that load balancers usually keep an idle connection: they should close first.
_KEEP_ALIVE_S = 65


class UnsafeBindError(ValueError):
    """The server would be reachable from other machines without any key."""


def check_bind(host: str, settings: Settings, *, has_keys: bool) -> None:
    """Refuse to serve beyond loopback without keys, unless told so in as many words.

    Raises:
        UnsafeBindError: with what to do about it.
    """
    if has_keys or settings.allow_unauthenticated or is_loopback(host):
        return
    raise UnsafeBindError(
        f"{host} can be reached from other machines and there is no API key: make one with "
        "`wardgate serve keys create`, or say --allow-unauthenticated"
    )


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, which by itself waits for ever for headers and keeps any amount of them.

    This one closes a connection whose headers do not arrive in time or do not end.
    """

    header_timeout_s = 10.0
    max_header_bytes = 64 << 10
    _timer: asyncio.TimerHandle | None = None
    _head = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start waiting for headers."""
        super().connection_made(transport)
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what comes before the headers end."""
        if self._timer is None and (self.cycle is None or self.cycle.response_complete):
            self._wait_for_headers()  # the next request on a connection that was kept, or what is left of a body
        left_over = self.cycle is not None and self.cycle.more_body
        self._head += len(data) if self._timer is not None and not left_over else 0
        super().data_received(data)
        if self._timer is not None and self._head > self.max_header_bytes:
            self._refuse(431)

    def on_message_begin(self) -> None:
        """Start waiting, if the same bytes ended another request."""
        if self._timer is None:
            self._wait_for_headers()
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """Stop waiting for the rest of a body that nobody wanted."""
        self._stop_waiting()
        super().on_message_complete()

    def on_headers_complete(self) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().on_headers_complete()

    def _wait_for_headers(self) -> None:
        self._head = 0
        self._timer = self.loop.call_later(self.header_timeout_s, self._refuse, 408)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: int) -> None:
        self._stop_waiting()
        if not self.transport.is_closing():
            self.transport.write(STATUS_LINE[status] + b"connection: close\r\ncontent-length: 0\r\n\r\n")
            self.transport.close()


def patient_protocol(settings: Settings) -> type[PatientProtocol]:
    """The protocol with the settings' limits."""
    limits = {"header_timeout_s": settings.header_timeout_s, "max_header_bytes": settings.max_header_bytes}
    return type("ConfiguredProtocol", (PatientProtocol,), limits)


class DrainingServer(uvicorn.Server):
    """Tells the batcher to accept nothing new as soon as it is asked to stop."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start draining, then let uvicorn finish what is open."""
        app = self.config.loaded_app
        batcher = getattr(getattr(_innermost(app), "state", None), "batcher", None)
        if batcher is not None:
            batcher.draining = True
        super().handle_exit(sig, frame)


def _innermost(app: object) -> object:
    """The application inside uvicorn's own wrappers."""
    while not hasattr(app, "state") and hasattr(app, "app"):
        app = app.app
    return app


def server(
    app: FastAPI,
    settings: Settings,
    *,
    host: str,
    port: int,
    certificate: Path | None = None,
    certificate_key: Path | None = None,
    behind_proxy: str | None = None,
) -> DrainingServer:
    """A server that is ready to run.

    Args:
        app: what to serve.
        settings: limits.
        host: the address to listen on.
        port: the port, or 0 for any that is free.
        certificate: a PEM file; turns TLS on.
        certificate_key: its key, where the certificate's file does not hold it.
        behind_proxy: addresses whose `X-Forwarded-*` headers are believed.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=patient_protocol(settings),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=behind_proxy is not None,
        forwarded_allow_ips=behind_proxy,
        ssl_certfile=certificate,
        ssl_keyfile=certificate_key,
        timeout_graceful_shutdown=int(settings.drain_s),
        ws_max_size=settings.max_body_bytes,
        timeout_keep_alive=_KEEP_ALIVE_S,
    )
    return DrainingServer(config)
