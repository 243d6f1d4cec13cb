"""The application: handlers, error formats and the gate, put together around engines."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response

from wardgate import __version__
from wardgate.serve import logs, playground, streams
from wardgate.serve.auth import Authenticator, Keys, RateLimiter
from wardgate.serve.batcher import Batcher
from wardgate.serve.catalogue import Catalogue, ServedEngine
from wardgate.serve.gate import Doors, Gate, Seen
from wardgate.serve.idempotency import Idempotency
from wardgate.serve.judge import Judge
from wardgate.serve.metrics import MEDIA_TYPE, Metrics
from wardgate.serve.problems import Formats, Kind, from_http, from_validation, problem_of
from wardgate.serve.protocols import fms, litellm, native, openai, perspective, tei, vllm
from wardgate.serve.settings import Settings
from wardgate.serve.shadow import Shadow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from fastapi import APIRouter
    from starlette.requests import Request
    from starlette.types import ASGIApp

    from wardgate.policy import Decision
    from wardgate.serve.batcher import Checker
    from wardgate.serve.judge import Observer
    from wardgate.serve.problems import Renderer
    from wardgate.serve.review import Keeping


class Application(FastAPI):
    """A FastAPI whose outermost layers are ours.

    Starlette puts its own handler of failures outside of any other layer, where an answer with status 500 would
    miss its headers, its metric and its log line.
    """

    def surround(self, layer: Callable[..., ASGIApp], **options: object) -> None:
        """Put one more layer around everything."""
        inside = self.build_middleware_stack

        def build() -> ASGIApp:
            return layer(inside(), **options)

        self.build_middleware_stack = build  # type: ignore[method-assign]


_PROTOCOLS = (native, openai, tei, vllm, perspective, litellm, fms)
JUDGED = frozenset(path for protocol in _PROTOCOLS for path in protocol.PATHS)


def create_app(
    engine: ServedEngine,
    settings: Settings | None = None,
    *,
    others: Mapping[str, ServedEngine] | None = None,
    keys: Keys | None = None,
    shadows: Mapping[str, Mapping[str, Checker]] | None = None,
    differs: Callable[[Decision, Decision], None] = lambda _live, _other: None,
    observers: Sequence[Observer] = (),
    keeping: Keeping | None = None,
) -> FastAPI:
    """An ASGI application that serves `engine`.

    Args:
        engine: the engine with the default policy.
        settings: limits and switches.
        others: more policies by name, each with an engine of its own (sharing the guards).
        keys: where API keys are kept; None asks for no key.
        shadows: by name, candidates that see the same texts and decide nothing: one for each live policy.
        differs: told of each live decision that a shadow would have made otherwise.
        observers: told of each request's policy, texts and decisions.
        keeping: a store; decisions are kept in it, and people review them at `/review`.
    """
    settings = settings or Settings()
    engines = {engine.policy.name: engine, **(others or {})}
    catalogue = Catalogue(engines, default=engine.policy.name)
    metrics = Metrics()
    batcher = Batcher(engines, settings, watch=metrics.batch)
    metrics.watch_queue(lambda: batcher.waiting)
    beside = [Shadow(name, one, record=differs, metrics=metrics) for name, one in (shadows or {}).items()]
    watching: list[Observer] = [metrics.decided, *(shadow.saw for shadow in beside), *observers]
    kept = None if keeping is None else _Kept(keeping, engines)
    judge = Judge(
        batcher,
        default=catalogue.default,
        policies=catalogue.names,
        settings=settings,
        observers=watching,
        recorder=kept,
    )
    app = _bare_app(batcher, [*beside, *([] if kept is None else [kept])])
    formats = Formats(native.render, _renderers())
    authenticator, limiter = Authenticator(keys), RateLimiter()
    for router in _routers(judge, catalogue, settings):
        app.include_router(router)
    app.include_router(streams.router(judge, settings, authenticator, limiter))
    app.include_router(playground.router())
    if keeping is not None:
        _add_review(app, keeping)
    _add_health(app, batcher, metrics)
    _add_errors(app, formats)
    app.surround(
        Gate,
        settings=settings,
        doors=Doors(judged=JUDGED, streams=frozenset({streams.PATH})),
        formats=formats,
        authenticator=authenticator,
        limiter=limiter,
        busy=judge.busy,
        seen=_watcher(metrics, settings),
    )
    if settings.cors_origins:
        app.surround(CORSMiddleware, **_cors(settings))
    return app


class _Kept:
    """What writes into a store and carries its effects away, for as long as the server runs."""

    def __init__(self, keeping: Keeping, engines: Mapping[str, ServedEngine]) -> None:
        from wardgate.serve.courier import Courier
        from wardgate.serve.recorder import StoreRecorder

        self._recorder = StoreRecorder(keeping.store, engines)
        self._courier = Courier(keeping)
        self.keep = self._recorder.keep

    def stop(self) -> None:
        """Store what waits, finish what is being delivered."""
        self._recorder.stop()
        self._courier.stop()


def _add_review(app: FastAPI, keeping: Keeping) -> None:
    from wardgate.serve import appealing, review

    app.include_router(appealing.router(keeping.store))
    app.include_router(review.router(keeping))


def _renderers() -> dict[str, Renderer]:
    """Each protocol's error format on its own paths."""
    return {path: protocol.render for protocol in _PROTOCOLS for path in protocol.PATHS}


def _routers(judge: Judge, catalogue: Catalogue, settings: Settings) -> list[APIRouter]:
    idempotency = Idempotency(ttl_s=settings.idempotency_ttl_s, entries=settings.idempotency_entries)
    return [
        native.router(judge, catalogue, idempotency),
        openai.router(judge, catalogue.names),
        tei.router(judge, catalogue, settings),
        vllm.router(judge, catalogue),
        perspective.router(judge),
        litellm.router(judge, settings),
        fms.router(judge, catalogue),
    ]


def _watcher(metrics: Metrics, settings: Settings) -> Callable[[Seen], None]:
    def seen(request: Seen) -> None:
        metrics.request(request)
        if settings.access_log:
            logs.request_line(request)

    return seen


def _cors(settings: Settings) -> dict[str, object]:
    return {
        "allow_origins": list(settings.cors_origins),
        "allow_methods": ["GET", "POST"],
        "allow_headers": ["authorization", "content-type", "idempotency-key", "x-api-key", "x-request-id"],
        "expose_headers": ["retry-after", "x-request-id"],
    }


def _bare_app(batcher: Batcher, beside: Sequence[Shadow | _Kept]) -> Application:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.batcher = batcher
        async with batcher:
            yield
        for one in beside:
            one.stop()

    # The interactive documents load scripts from another site: only the OpenAPI file is served.
    return Application(
        title="wardgate",
        version=__version__,
        summary="Decides what may pass.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        # FastAPI's own spans carry the path and query that a caller made up; ours carry numbers and names.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )


_NOT_READY = {
    "description": "It is shutting down.",
    "content": {"application/json": {"schema": {"type": "object"}}},
}
_PAGE = {"description": "Counts.", "content": {"text/plain": {"schema": {"type": "string"}}}}


def _add_health(app: FastAPI, batcher: Batcher, metrics: Metrics) -> None:
    @app.get("/healthz", tags=["health"], responses=native.ERRORS)
    async def healthz() -> dict[str, str]:
        """Whether the process runs."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["health"], responses=native.ERRORS | {503: _NOT_READY})
    async def readyz() -> Response:
        """Whether new requests are welcome."""
        if batcher.draining:
            return JSONResponse({"status": "draining"}, 503)
        return JSONResponse({"status": "ok"})

    @app.get("/metrics", tags=["health"], response_class=Response, responses=native.ERRORS | {200: _PAGE})
    async def page() -> Response:
        """Counts for Prometheus."""
        return Response(metrics.page(), media_type=MEDIA_TYPE)


def _add_errors(app: FastAPI, formats: Formats) -> None:
    async def on_http(request: Request, error: Exception) -> Response:
        problem = from_http(error) if isinstance(error, HTTPException) else problem_of(Kind.INTERNAL)
        return formats.respond(request, problem)

    async def on_invalid(request: Request, error: Exception) -> Response:
        errors = error.errors() if isinstance(error, RequestValidationError) else ()
        return formats.respond(request, from_validation(errors))

    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(Exception, on_http)
