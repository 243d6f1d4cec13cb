"""`wardgate review`: what the verdicts say of the policy."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from wardgate.cli.check import BAD_USAGE, FAILURE, fail
from wardgate.cli.store import KEY, URL, opened

app = typer.Typer(help="What people's verdicts say of a policy.", no_args_is_help=True)


@app.command("propose")
def propose(
    store: URL,
    policy: Annotated[str, typer.Option("--policy", "-p", help="A shipped policy's name or a file.")] = "default",
    alpha: Annotated[float, typer.Option(help="Rate of wrong automatic decisions to hold on each side.")] = 0.02,
    delta: Annotated[float, typer.Option(help="One minus the confidence, 0 to 1.")] = 0.05,
    guard: Annotated[list[str] | None, typer.Option("--guard", "-g", help="As for `wardgate check`.")] = None,
    store_key: KEY = None,
) -> None:
    """Propose thresholds from the verdicts, with their expected effect. Nothing changes until a lead approves.

    Exit code 1 when the verdicts are too few.

    Example:
      wardgate review propose --store sqlite:///wardgate.db --policy default --alpha 0.02
    """
    if not 0 < alpha < 1 or not 0 < delta < 1:
        raise fail("--alpha and --delta lie between 0 and 1", BAD_USAGE)
    from wardgate.cli.check import open_engine
    from wardgate.serve.review.live import in_force
    from wardgate.serve.review.proposing import propose as run
    from wardgate.store import StoreError

    kept = opened(store, store_key)
    engine, source = in_force(kept, open_engine(guard, policy), policy)
    try:
        made = run(kept, engine, source, actor="command line", alpha=alpha, delta=delta)
    except StoreError as error:
        raise fail(str(error)) from None
    for rule, change in made.changes.items():
        typer.echo(f"rule {rule}: {change['from']} -> {change['to']}")
    for name, value in made.effect.items():
        typer.echo(f"{name.replace('_', ' ')}: {value}")
    typer.echo(f"proposed as {made.id}; a lead approves it at /review/proposals")


@app.command("drift")
def drift(
    store: URL,
    certificate: Annotated[Path, typer.Option(help="The certificate whose promise is watched.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    store_key: KEY = None,
) -> None:
    """Whether a certificate keeps its promise, by what people say of sampled automatic decisions.

    Exit code 1 when it is at risk or broken.

    Example:
      wardgate review drift --store sqlite:///wardgate.db --certificate certificate.json
    """
    from dataclasses import asdict

    from wardgate.engine import Certificate
    from wardgate.serve.review.promise import promise

    try:
        given = Certificate.load(certificate)
    except ValueError as error:
        raise fail(str(error), BAD_USAGE) from None
    with opened(store, store_key).reading() as connection:
        found = promise(connection, given)
    if as_json:
        sys.stdout.write(json.dumps(asdict(found)) + "\n")
    else:
        typer.echo(
            f"{found.state}: {found.errors} of {found.looked_at} sampled automatic decisions were wrong, "
            f"{found.alpha:.2%} was promised (so many or more by chance: {found.chance:.2%})"
        )
    raise typer.Exit(0 if found.state == "kept" else FAILURE)
