"""`wardgate store`, `wardgate audit` and `wardgate forget`: the database behind the review console."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wardgate.cli.check import BAD_USAGE, FAILURE, fail

if TYPE_CHECKING:
    from wardgate.store import Store

app = typer.Typer(help="The database behind the review console.", no_args_is_help=True)
audit_app = typer.Typer(help="The append-only log of who did what.", no_args_is_help=True)
users_app = typer.Typer(help="People who may use the review console.", no_args_is_help=True)
hooks_app = typer.Typer(help="Receivers of signed webhooks.", no_args_is_help=True)
app.add_typer(users_app, name="users")
app.add_typer(hooks_app, name="webhooks")

URL = Annotated[
    str,
    typer.Option("--store", envvar="WARDGATE_STORE", help="sqlite:///file, postgresql://user@host/name, or a path."),
]
KEY = Annotated[
    Path | None,
    typer.Option("--store-key", envvar="WARDGATE_STORE_KEY", help="File with keys that encrypt texts, one a line."),
]


def opened(url: str, key: Path | None, *, pooled: bool = False) -> Store:
    """The store at a URL, or a one-line error. Commands that end soon keep no connection open."""
    from wardgate.store import Cipher, CipherError, StoreError, open_store

    try:
        cipher = None if key is None else Cipher.from_text(key.read_text("utf-8").splitlines())
        return open_store(url, cipher=cipher, pooled=pooled)
    except OSError as error:
        raise fail(f"{key}: {error.strerror or 'cannot be read'}", BAD_USAGE) from None
    except (StoreError, CipherError, UnicodeDecodeError) as error:
        raise fail("the key file is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)) from None


@app.command("new-key")
def new_key() -> None:
    """Print a new key that encrypts texts. Put it into a file that only the server's user can read.

    A rotation puts the new key in the first line and leaves the old ones below it.

    Example:
      (umask 077; wardgate store new-key > store.key)
    """
    from wardgate.store import new_key as make

    typer.echo(make())


@app.command("migrate")
def migrate(store: URL, store_key: KEY = None) -> None:
    """Make the tables, or bring them up to date. `wardgate serve` does so by itself."""
    opened(store, store_key)
    typer.echo("the store is up to date")


@app.command("sweep")
def sweep(
    store: URL,
    keep_decisions_days: Annotated[int | None, typer.Option(min=1, help="Remove decisions older than this.")] = None,
    store_key: KEY = None,
) -> None:
    """Erase what is past its time. A running server does so every minute."""
    from wardgate.store.forgetting import sweep as run

    texts, decisions = run(opened(store, store_key), keep_decisions_days=keep_decisions_days)
    typer.echo(f"{texts} texts and {decisions} decisions erased")


@audit_app.command("verify")
def verify(
    store: URL,
    expect: Annotated[str | None, typer.Option(help="A hash that was written down earlier.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    store_key: KEY = None,
) -> None:
    """Examine the whole chain, and every decision against its entry. Exit code 1 when something was changed.

    Write the last hash down elsewhere: with --expect it shows later that nothing before it was changed or cut off.

    Example:
      wardgate audit verify --store sqlite:///wardgate.db
    """
    from dataclasses import asdict

    from wardgate.store.audit import verify as run

    with opened(store, store_key).reading() as connection:
        found = run(connection, expect)
    if as_json:
        sys.stdout.write(json.dumps(asdict(found)) + "\n")
    else:
        for problem in found.problems:
            typer.echo(problem)
        typer.echo(
            f"{found.entries} entries, {found.decisions} decisions as entered, {found.removed} removed as entered"
        )
        typer.echo(f"last hash {found.head}")
    raise typer.Exit(FAILURE if found.problems else 0)


def forget(
    store: URL,
    author: Annotated[str | None, typer.Option(help="Who wrote it: `author` in a submission's context.")] = None,
    case: Annotated[str | None, typer.Option(help="The caller's own identifier.")] = None,
    decision: Annotated[str | None, typer.Option(help="The decision's name.")] = None,
    store_key: KEY = None,
) -> None:
    """Erase what is kept of a text: the text, notes and appeals about it. Decisions and the audit chain stay.

    Example:
      wardgate forget --store sqlite:///wardgate.db --author user-4711
    """
    from wardgate.store.forgetting import forget as run

    try:
        count = run(opened(store, store_key), actor="command line", decision=decision, case=case, author=author)
    except ValueError as error:
        raise fail(str(error), BAD_USAGE) from None
    typer.echo(f"erased what was kept with {count} decisions")


@users_app.command("add")
def add_user(
    name: Annotated[str, typer.Argument(help="What they log in with.")],
    store: URL,
    role: Annotated[str, typer.Option(help="viewer, reviewer, lead or admin.")] = "reviewer",
    language: Annotated[list[str] | None, typer.Option(help="Only items in this language; may be repeated.")] = None,
    hazard: Annotated[list[str] | None, typer.Option(help="Only items about this hazard; may be repeated.")] = None,
    password_stdin: Annotated[bool, typer.Option("--password-stdin", help="Read the password from the input.")] = False,
    no_password: Annotated[bool, typer.Option("--no-password", help="They log in through OpenID Connect.")] = False,
    store_key: KEY = None,
) -> None:
    """Add someone to the review console.

    Example:
      wardgate store users add ann --role admin --store sqlite:///wardgate.db
    """
    from wardgate.store.users import ROLES
    from wardgate.store.users import add_user as add

    chosen = next((known for known in ROLES if known == role), None)
    if chosen is None:
        raise fail(f"roles are {', '.join(ROLES)}", BAD_USAGE)
    password = None
    if password_stdin:
        password = sys.stdin.readline().rstrip("\n")
    elif not no_password:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    kept = opened(store, store_key)
    try:
        made = add(kept, name, chosen, password, actor="command line", languages=language or (), hazards=hazard or ())
    except ValueError as error:
        raise fail(str(error), BAD_USAGE) from None
    typer.echo(f"added {made.name} as {made.role}")


@users_app.command("list")
def list_users(store: URL, store_key: KEY = None) -> None:
    """List the people who may use the review console."""
    from wardgate.store.users import list_users as everyone

    with opened(store, store_key).reading() as connection:
        for one in everyone(connection):
            routed = " ".join((*one.languages, *one.hazards)) or "any"
            typer.echo(f"{one.id}  {one.name}  {one.role}  sent {routed}{'' if one.active else '  may not log in'}")


@hooks_app.command("add")
def add_webhook(
    url: Annotated[str, typer.Argument(help="An https address.")],
    store: URL,
    event: Annotated[list[str] | None, typer.Option(help="An event; may be repeated; all when absent.")] = None,
    store_key: KEY = None,
) -> None:
    """Register a receiver, and show its secret once."""
    import base64

    from wardgate.store import outbox

    kept = opened(store, store_key)
    try:
        made = outbox.add_webhook(kept, url, event or list(outbox.EVENTS), "command line")
    except ValueError as error:
        raise fail(str(error), BAD_USAGE) from None
    typer.echo(f"id {made.id}. The secret, shown this once:", err=True)
    typer.echo(f"whsec_{base64.b64encode(made.secret).decode()}")
