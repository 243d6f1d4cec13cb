"""`wardgate serve keys`: who may call the server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wardgate.cli.check import BAD_USAGE, fail

if TYPE_CHECKING:
    from wardgate.serve.keyring import Keyring


def ring(file: Path | None, store: str | None) -> Keyring:
    """The keyring in a file, or in a store where one is named and no file is."""
    from wardgate.serve.keyring import Keyring

    if file is not None or store is None:
        return Keyring(file or usual_place())
    from wardgate.cli.store import opened
    from wardgate.serve.store_keyring import StoreKeyring

    return StoreKeyring(opened(store, None))


def usual_place() -> Path:
    """Where keys are when no file is named."""
    return Path(typer.get_app_dir("wardgate")) / "keys.json"


keys_app = typer.Typer(help="API keys.", no_args_is_help=True)

_STORE = Annotated[
    str | None, typer.Option("--store", envvar="WARDGATE_STORE", help="Keep the keys in this store instead of a file.")
]
_FILE = Annotated[Path | None, typer.Option("--keys", envvar="WARDGATE_KEYS", help="File with API keys.")]


@keys_app.command("create")
def create(
    name: Annotated[str, typer.Option(help="What people call it.")],
    scope: Annotated[list[str] | None, typer.Option(help="check or metrics; may be repeated.")] = None,
    policy: Annotated[str | None, typer.Option(help="The one policy it may use.")] = None,
    per_minute: Annotated[int | None, typer.Option(min=1, help="Requests a minute.")] = None,
    days: Annotated[float | None, typer.Option(help="How long it lasts.")] = None,
    file: _FILE = None,
    store: _STORE = None,
) -> None:
    """Make a key and show it once."""
    from wardgate.serve.keyring import KeyringError

    kept = ring(file, store)
    try:
        key, secret = kept.create(
            name, scopes=tuple(scope or ["check"]), policy=policy, per_minute=per_minute, days=days
        )
    except KeyringError as error:
        raise fail(str(error), BAD_USAGE) from None
    typer.echo(f"id {key.id}. The key, shown this once:", err=True)
    typer.echo(secret)


@keys_app.command("list")
def show(file: _FILE = None, store: _STORE = None) -> None:
    """List the keys, without their secrets."""
    from wardgate.serve.keyring import KeyringError

    try:
        kept = ring(file, store).list()
    except KeyringError as error:
        raise fail(str(error), BAD_USAGE) from None
    for key in kept:
        rate = "no limit" if key.per_minute is None else f"{key.per_minute} a minute"
        ends = f"expires {key.expires}" if key.expires else "does not expire"
        state = f"revoked {key.revoked}" if key.revoked else ends
        typer.echo(f"{key.id}  {key.name}  [{' '.join(key.scopes)}]  policy {key.policy or 'any'}  {rate}  {state}")


@keys_app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(help="The key's id.")], file: _FILE = None, store: _STORE = None
) -> None:
    """Revoke a key; running servers refuse it within 15 seconds."""
    from wardgate.serve.keyring import KeyringError

    try:
        key = ring(file, store).revoke(key_id)
    except KeyringError as error:
        raise fail(str(error), BAD_USAGE) from None
    typer.echo(f"revoked {key.id} at {key.revoked}")
