"""`wardgate discord`: the reference bot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wardgate.cli.check import BAD_USAGE, FAILURE, fail
from wardgate.cli.store import KEY, URL, opened


def discord(
    store: URL,
    token_file: Annotated[Path, typer.Option(envvar="WARDGATE_DISCORD_TOKEN_FILE", help="File with the bot's token.")],
    policy: Annotated[
        str, typer.Option("--policy", "-p", help="A shipped policy's name or a file.")
    ] = "chat-community",
    guard: Annotated[list[str] | None, typer.Option("--guard", "-g", help="As for `wardgate check`.")] = None,
    log_channel: Annotated[int | None, typer.Option(help="Channel that hears of every action.")] = None,
    exempt_role: Annotated[list[int] | None, typer.Option(help="Role that is not looked at; may be repeated.")] = None,
    timeout_minutes: Annotated[int, typer.Option(min=1, max=40320, help="How long a time-out lasts.")] = 60,
    store_key: KEY = None,
) -> None:
    """Run the Discord bot: it warns, times out, deletes and bans as the policy says.

    A moderator who reacts with an arrow back on a line in the log channel reverses that action. The bot needs the
    message content intent, and permission to manage messages, moderate and ban members.

    Example:
      wardgate discord --store sqlite:///wardgate.db --token-file token --log-channel 1234 --exempt-role 5678
    """
    from importlib.util import find_spec

    if find_spec("discord") is None:
        raise fail("the bot needs discord.py: pip install 'wardgate[discord]'")
    import discord as library

    from wardgate.cli.check import open_engine
    from wardgate.serve import logs
    from wardgate.serve.discord_bot import Bot, Ladder

    try:
        token = token_file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise fail(f"{token_file} cannot be read", BAD_USAGE) from None
    logs.configure("info")
    ladder = Ladder(log_channel, frozenset(exempt_role or ()), timeout_minutes)
    bot = Bot(open_engine(guard, policy), opened(store, store_key, pooled=True), ladder)
    try:
        bot.run(token, log_handler=None)
    except library.LoginFailure:
        raise fail("Discord does not know this token", FAILURE) from None
    except library.PrivilegedIntentsRequired:
        raise fail("turn on the message content intent for this bot", FAILURE) from None
