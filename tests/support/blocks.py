"""Command blocks of Markdown pages: found, checked against the command line, and run.

A fence marked `sh`, `python` or `console` (or `text` whose lines begin with `$ `) is a command block. A comment on a
line before the fence says what not to do with it:

    <!-- not run: needs a cluster -->    its `wardgate` commands are still checked against the command line
    <!-- background -->                   started and left running until the page's end
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_FENCE = re.compile(r"^(?P<indent> *)```(?P<kind>\w*)\s*$")
_COMMENT = re.compile(r"^ *<!-- (?P<what>not run|background)(: (?P<why>[^>]*))? -->$")


@dataclass(frozen=True)
class Block:
    """A command block.

    Attributes:
        page: its page.
        line: where it starts.
        kind: `sh` or `python`.
        code: what is in it.
        how: `run`, `not run` or `background`.
        why: why it is not run.
    """

    page: Path
    line: int
    kind: str
    code: str
    how: str
    why: str = ""

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """The command blocks of a page, in order."""
    found, how, why, lines = [], "run", "", iter(enumerate(page.read_text(encoding="utf-8").splitlines(), 1))
    for number, line in lines:
        comment, fence = _COMMENT.match(line), _FENCE.match(line)
        if comment:
            how, why = comment["what"], comment["why"] or ""
        elif fence:
            inside = [text.removeprefix(fence["indent"]) for text in _until_closed(lines)]
            block = _block(page, number, fence["kind"], inside, how)
            found += [replace(block, why=why)] if block else []
            how, why = "run", ""
        elif line.strip():
            how, why = "run", ""
    return found


def _until_closed(lines):
    for _, line in lines:
        if line.strip() == "```":
            return
        yield line


def _block(page, number, kind, inside, how):
    prompted = [line[2:] for line in inside if line.startswith("$ ")]
    if kind in {"text", "console"}:
        return Block(page, number, "sh", "\n".join(prompted), how) if prompted else None
    if kind in {"sh", "bash", "shell"}:
        return Block(page, number, "sh", "\n".join(inside), how)
    return Block(page, number, "python", "\n".join(inside), how) if kind == "python" else None


def commands(block: Block) -> list[list[str]]:
    """Every `wardgate …` command of a shell block, as its words."""
    joined = re.sub(r"\\\n\s*", " ", block.code)
    lines = [line for line in joined.splitlines() if "wardgate" in line]
    parts = [part for line in lines for part in _simple(line)]
    return [part[1:] for part in parts if part and part[0] == "wardgate"]


def _simple(line: str) -> list[list[str]]:
    """A line's simple commands: what stands between `|`, `&&`, `||`, `;` and redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    words = iter(list(lexer))
    for word in words:
        if set(word) <= set("|&;()"):
            found.append([])
        elif set(word) <= set("<>"):
            next(words, None)
        else:
            found[-1].append(word)
    return found
