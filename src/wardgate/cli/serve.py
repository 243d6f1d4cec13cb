"""`wardgate serve`: the HTTP server, and its keys."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wardgate.cli.check import BAD_USAGE, fail
from wardgate.cli.serve_keys import keys_app, ring, usual_place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI

    from wardgate.engine import Engine
    from wardgate.policy import Decision
    from wardgate.serve import Settings
    from wardgate.serve.keyring import Keyring
    from wardgate.serve.review import Keeping
    from wardgate.serve.review.live import LiveEngine

app = typer.Typer(help="HTTP API, drop-in endpoints, playground and review console.")
app.add_typer(keys_app, name="keys")


@app.callback(invoke_without_command=True)
def serve(  # noqa: PLR0913, PLR0917 - one option for each thing an operator may set
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes any that is free.", min=0, max=65535)] = 8000,
    guard: Annotated[
        list[str] | None, typer.Option("--guard", "-g", help="A guard's name, a checkpoint folder or a YAML card.")
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option("--policy", "-p", help="A shipped policy or a file; may be repeated, the first is the default."),
    ] = None,
    shadow_policy: Annotated[
        list[str] | None, typer.Option(help="A policy that sees the same texts and decides nothing.")
    ] = None,
    shadow_guard: Annotated[
        list[str] | None,
        typer.Option(help="A guard that sees the same texts under the live policies and decides nothing."),
    ] = None,
    shadow_log: Annotated[Path | None, typer.Option(help="Where differences of shadows are kept (JSON lines).")] = None,
    allow_unauthenticated: Annotated[
        bool, typer.Option("--allow-unauthenticated", help="Serve beyond loopback without any API key.")
    ] = False,
    metrics_open: Annotated[bool, typer.Option("--metrics-open", help="/metrics needs no key.")] = False,
    cors_origin: Annotated[list[str] | None, typer.Option(help="An origin that browsers may call from.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM certificate; turns TLS on.", exists=True)] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM key of the certificate.", exists=True)] = None,
    behind_proxy: Annotated[
        str | None, typer.Option(help="Proxy addresses whose X-Forwarded-* headers are believed.")
    ] = None,
    max_body_bytes: Annotated[int, typer.Option(min=1, help="Largest request body.")] = 1 << 20,
    max_inputs: Annotated[int, typer.Option(min=1, help="Most texts in one call.")] = 512,
    batch_tokens: Annotated[
        int | None, typer.Option(min=1, help="Token budget of a batch; 192 for built-in guards, 4096 for others.")
    ] = None,
    batch_items: Annotated[
        int | None, typer.Option(min=1, help="Most texts in a batch; 32 for built-in guards, 64 for others.")
    ] = None,
    queue_items: Annotated[int, typer.Option(min=1, help="Most texts that wait; beyond it callers get 429.")] = 2048,
    queue_delay_s: Annotated[float, typer.Option(help="Longest expected wait that is accepted.")] = 3.0,
    timeout_s: Annotated[float, typer.Option(help="Longest time for a request.")] = 10.0,
    scorers: Annotated[
        int | None, typer.Option(min=1, help="Threads that score; for built-in guards a core each, at most 4.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="HTTP processes, which share one scoring process; with --ray: replicas.")
    ] = 1,
    ray: Annotated[bool, typer.Option("--ray", help="Serve on Ray (extra `ray`), on one machine or many.")] = False,
    ray_address: Annotated[
        str | None, typer.Option(envvar="RAY_ADDRESS", help="The Ray cluster to join; without it one is started here.")
    ] = None,
    drain_s: Annotated[float, typer.Option(help="How long SIGTERM waits for what was accepted.")] = 20.0,
    keys: Annotated[Path | None, typer.Option(envvar="WARDGATE_KEYS", help="File with API keys.")] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
    access_log: Annotated[bool, typer.Option(help="Log each request.")] = True,
    otlp: Annotated[str | None, typer.Option(help="OTLP/HTTP address for traces (extra `otel`).")] = None,
    store: Annotated[
        str | None,
        typer.Option(envvar="WARDGATE_STORE", help="Keep decisions here and serve the review console at /review."),
    ] = None,
    store_key: Annotated[
        Path | None, typer.Option(envvar="WARDGATE_STORE_KEY", help="File with keys that encrypt texts, one a line.")
    ] = None,
    keep_decisions_days: Annotated[int | None, typer.Option(min=1, help="Remove decisions older than this.")] = None,
    gold: Annotated[float, typer.Option(min=0, max=1, help="Share of review items whose answer is known.")] = 0.05,
    certificate: Annotated[Path | None, typer.Option(help="Certificate that the drift alarm watches.")] = None,
    oidc: Annotated[Path | None, typer.Option(help="JSON file with an OpenID Connect provider.")] = None,
) -> None:
    """Serve the guard over HTTP.

    On loopback no key is needed. Beyond loopback there must be one (`wardgate serve keys create`), or the option
    --allow-unauthenticated.

    Examples:
      wardgate serve

      wardgate serve --host 0.0.0.0 --policy llm-gateway --policy chat-community
    """
    if context.invoked_subcommand is not None:
        return
    from wardgate.serve import Settings
    from wardgate.serve.loading import batch_size, scorer_threads, share_cores

    chosen = Chosen(
        tuple(guard or ()),
        tuple(policy or ["default"]),
        tuple(shadow_policy or ()),
        tuple(shadow_guard or ()),
        shadow_log,
    )
    try:
        tokens, items = batch_size(chosen.guards, chosen.policies)
        settings = Settings(
            max_body_bytes=max_body_bytes,
            max_inputs=max_inputs,
            batch_tokens=batch_tokens or tokens,
            batch_items=batch_items or items,
            queue_items=queue_items,
            queue_delay_s=queue_delay_s,
            timeout_s=timeout_s,
            # A replica on Ray has the cores that Ray gives it, usually one.
            scorers=scorers or (1 if ray else scorer_threads(chosen.guards, chosen.policies)),
            drain_s=drain_s,
            allow_unauthenticated=allow_unauthenticated,
            metrics_open=metrics_open,
            cors_origins=tuple(cors_origin or ()),
            access_log=access_log,
        )
    except ValueError as error:
        raise fail(str(error), BAD_USAGE) from None
    listen = Listen(host, port, tls_cert, tls_key, behind_proxy, log_level, otlp, keys)
    stored = None if store is None else Stored(store, store_key, keep_decisions_days, gold, certificate, oidc)
    _check(listen, settings, stored)
    share_cores(1 if ray else settings.scorers)
    if ray:
        code = _run_ray(chosen, settings, listen, Cluster(workers, ray_address), stored)
    elif workers == 1:
        code = _run_one(chosen, settings, listen, stored)
    else:
        code = _run_many(chosen, settings, listen, workers, stored)
    raise typer.Exit(code)


@dataclass(frozen=True)
class Listen:
    """Where and how to listen."""

    host: str
    port: int
    certificate: Path | None
    certificate_key: Path | None
    behind_proxy: str | None
    log_level: str
    otlp: str | None
    keys: Path | None

    def told(self, port: int) -> None:
        """Say where the server is."""
        typer.echo(f"wardgate: http{'s' if self.certificate else ''}://{self.host}:{port}", err=True)


@dataclass(frozen=True)
class Chosen:
    """What to serve."""

    guards: tuple[str, ...]
    policies: tuple[str, ...]
    shadow_policies: tuple[str, ...]
    shadow_guards: tuple[str, ...]
    shadow_log: Path | None

    @property
    def has_shadows(self) -> bool:
        """Whether anything runs beside what decides."""
        return bool(self.shadow_policies or self.shadow_guards)


@dataclass(frozen=True)
class Cluster:
    """Where Ray is, and how many replicas it runs."""

    replicas: int
    address: str | None


@dataclass(frozen=True)
class Stored:
    """Where decisions are kept, and how."""

    url: str
    key: Path | None
    keep_decisions_days: int | None
    gold: float
    certificate: Path | None
    oidc: Path | None

    def open(self) -> Keeping:
        """The store, opened; in each process anew."""
        from wardgate.cli.store import opened
        from wardgate.engine import Certificate
        from wardgate.serve.review import Keeping
        from wardgate.serve.review.oidc import read_provider

        kept = opened(self.url, self.key, pooled=True)
        try:
            promise = None if self.certificate is None else Certificate.load(self.certificate)
            provider = None if self.oidc is None else read_provider(self.oidc, bytes.fromhex(kept.hashed("oidc")))
        except ValueError as error:
            raise fail(str(error), BAD_USAGE) from None
        return Keeping(kept, self.gold, self.keep_decisions_days, certificate=promise, oidc=provider)


def _check(listen: Listen, settings: Settings, stored: Stored | None) -> None:
    """Refuse what is unsafe before anything is loaded."""
    from wardgate.serve.keyring import KeyringError
    from wardgate.serve.server import UnsafeBindError, check_bind

    try:
        found = _keyring(listen.keys, stored)
        check_bind(listen.host, settings, has_keys=found is not None and bool(found.list()))
    except (KeyringError, UnsafeBindError) as error:
        raise fail(str(error), BAD_USAGE) from None


def _keyring(path: Path | None, stored: Stored | None) -> Keyring | None:
    """The keyring: a file that is named, or the store's, or a file at the usual place; None where all are empty."""
    from wardgate.serve.keyring import Keyring

    if path is None and stored is not None:
        kept = ring(None, stored.url)
        if kept.list():
            return kept
    file = Keyring(path or usual_place())
    return file if path is not None or file.list() else None


def _run_one(chosen: Chosen, settings: Settings, listen: Listen, stored: Stored | None) -> int:
    from wardgate.serve import create_app, logs, server, traces
    from wardgate.serve.loading import engines, settle, shadows
    from wardgate.serve.shadow import to_file

    try:
        live = engines(chosen.guards, chosen.policies)
        beside = shadows(live, chosen.guards, chosen.policies, chosen.shadow_guards, chosen.shadow_policies)
    except ValueError as error:  # what is wrong with a policy, a guard or a bundle is a ValueError
        raise fail(str(error), BAD_USAGE) from None
    keeping = None if stored is None else stored.open()
    served = live if keeping is None else _following(live, keeping)
    first, *_ = served.values()
    log = chosen.shadow_log
    differs = to_file(log) if log is not None else _forget
    keys = _keyring(listen.keys, stored)
    application = create_app(
        first, settings, others=served, keys=keys, shadows=beside, differs=differs, keeping=keeping
    )
    logs.configure(listen.log_level)
    if listen.otlp is not None:
        traces.export_to(listen.otlp)
    running = server.server(
        application,
        settings,
        host=listen.host,
        port=listen.port,
        certificate=listen.certificate,
        certificate_key=listen.certificate_key,
        behind_proxy=listen.behind_proxy,
    )
    settle()
    listening = running.config.bind_socket()
    listen.told(listening.getsockname()[1])
    running.run(sockets=[listening])
    return 0 if running.started else 1


def _following(live: Mapping[str, Engine], keeping: Keeping) -> dict[str, LiveEngine]:
    from wardgate.serve.review.live import LiveEngine

    return {name: LiveEngine(engine, keeping.store) for name, engine in live.items()}


def _load_following(chosen: Chosen, stored: Stored) -> dict[str, LiveEngine]:
    """The engines of a scoring process, which follow what leads approve."""
    from wardgate.serve.loading import engines

    return _following(engines(chosen.guards, chosen.policies), stored.open())


def _forget(_live: Decision, _other: Decision) -> None:
    """Differences are counted in the metrics and kept nowhere."""


def _run_many(chosen: Chosen, settings: Settings, listen: Listen, workers: int, stored: Stored | None) -> int:
    from wardgate.serve.loading import engines
    from wardgate.serve.processes import Plan, run

    if chosen.has_shadows or listen.otlp:
        raise fail("--shadow-policy, --shadow-guard and --otlp work with --workers 1", BAD_USAGE)
    if stored is not None:
        stored.open().store.close()  # brings the tables up to date, and says here what is wrong
    plan = Plan(
        load=partial(engines, chosen.guards, chosen.policies)
        if stored is None
        else partial(_load_following, chosen, stored),
        settings=settings,
        host=listen.host,
        port=listen.port,
        workers=workers,
        log_level=listen.log_level,
        keys=partial(_keyring, listen.keys, stored),
        certificate=listen.certificate,
        certificate_key=listen.certificate_key,
        behind_proxy=listen.behind_proxy,
        keeping=None if stored is None else stored.open,
    )
    try:
        return run(plan, told=listen.told)
    except (ChildProcessError, OSError) as error:
        raise fail(str(error), BAD_USAGE) from None


def _run_ray(chosen: Chosen, settings: Settings, listen: Listen, cluster: Cluster, stored: Stored | None) -> int:
    if chosen.has_shadows or listen.otlp or listen.certificate or listen.behind_proxy:
        raise fail(
            "--shadow-policy, --shadow-guard, --otlp, --tls-cert and --behind-proxy work without --ray", BAD_USAGE
        )
    try:
        from wardgate.serve import ray_app
    except ImportError:
        raise fail("--ray needs the extra `ray`: pip install 'wardgate[ray]'", BAD_USAGE) from None
    from wardgate.serve.loading import engines

    try:
        engines(chosen.guards, chosen.policies)  # says here, and not in a replica's log, what is wrong
    except ValueError as error:
        raise fail(str(error), BAD_USAGE) from None
    if stored is not None:
        stored.open().store.close()  # brings the tables up to date
    place = ray_app.Place(listen.host, listen.port, cluster.replicas, cluster.address)
    try:
        return ray_app.run(partial(_replica, chosen, settings, listen, stored), place, told=listen.told)
    except (ConnectionError, OSError, RuntimeError) as error:
        raise fail(f"Ray: {error}", BAD_USAGE) from None


def _replica(chosen: Chosen, settings: Settings, listen: Listen, stored: Stored | None) -> FastAPI:
    """One replica's application, made where it runs."""
    from wardgate.serve import create_app, logs
    from wardgate.serve.loading import engines, settle

    logs.configure(listen.log_level)
    live = engines(chosen.guards, chosen.policies)
    keeping = None if stored is None else stored.open()
    served = live if keeping is None else _following(live, keeping)
    first, *_ = served.values()
    app = create_app(first, settings, others=served, keys=_keyring(listen.keys, stored), keeping=keeping)
    settle()
    return app
