"""Hooks of the documentation site: pages that are made from the code while the site is built, so never stale.

`reference/cli.md` comes from the command line itself, `reference/python.md` from the rooms' public names,
`reference/hazards.md` from the taxonomy, and `project/` from the files at the repository's root.
"""

from __future__ import annotations

import importlib
import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parent.parent
PROJECT = ("MODELS", "CHANGELOG", "CONTRIBUTING", "SECURITY")
ROOMS = ("wardgate", "engine", "policy", "hazards", "guards", "calibrate", "normalise", "batch", "data")
"""The rooms whose public names are documented; `wardgate` itself is the front door."""


def on_startup(command: str, dirty: bool) -> None:  # noqa: ARG001 - a hook's fixed form
    """Square brackets in a docstring are Python more often than a reference: no warning for those."""
    logging.getLogger("mkdocs.plugins.mkdocs_autorefs").setLevel(logging.ERROR)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here."""
    made = {
        "reference/cli.md": cli_page(),
        "reference/python.md": python_page(),
        "reference/hazards.md": hazards_page(),
    }
    for name in PROJECT:
        made[f"project/{name.lower()}.md"] = (ROOT / f"{name}.md").read_text(encoding="utf-8")
    for path, text in made.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - a hook's fixed form
    """Links that leave `docs/` lead to the copies of those files here, or to the repository."""
    up = "../" * page.file.src_uri.count("/")
    if page.file.src_uri.startswith("project/"):
        markdown = re.sub(r"\]\(docs/([\w/-]+\.(?:md|png))", rf"]({up}\1", markdown)
    for name in PROJECT:
        markdown = re.sub(rf"\]\((?:\.\./)*{name}\.md", f"]({up}project/{name.lower()}.md", markdown)
    outside = r"\]\((?:\.\./)*((?:src|scripts|deploy|examples|tests)/[^)]*|LICENSE|NOTICE|README\.md)\)"
    return re.sub(outside, rf"]({config.repo_url}/blob/main/\1)", markdown)


def cli_page() -> str:
    """The command line's own help, as Markdown."""
    command = [sys.executable, "-m", "typer", "wardgate.cli", "utils", "docs", "--name", "wardgate"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, encoding="utf-8").stdout  # noqa: S603
    return told.replace("# `wardgate`", "# Command line", 1)


def public_names() -> dict[str, list[str]]:
    """Each documented room's module with the public names that are at home in wardgate."""
    found = {}
    for room in ROOMS:
        module = importlib.import_module("wardgate" if room == "wardgate" else f"wardgate.{room}")
        names = getattr(module, "__all__", None) or [n for n in vars(module) if not n.startswith("_")]
        homes = [_home(getattr(module, name), name) for name in names]
        found[module.__name__] = sorted({home for home in homes if home})
    return found


def _home(value: object, name: str) -> str | None:
    """Where a class or function is defined; None for what is neither, or is not ours."""
    module = getattr(value, "__module__", "") or ""
    if not module.startswith("wardgate") or not hasattr(value, "__qualname__"):
        return None
    return f"{module}.{name}"


def python_page() -> str:
    """One entry for each public class and function; mkdocstrings fills them in from the code."""
    lines, seen = ["# Python", ""], set()
    for room, homes in public_names().items():
        lines += [f"## {room}", "", (importlib.import_module(room).__doc__ or "").split("\n\n")[0].strip(), ""]
        for home in homes:
            if home not in seen:
                lines += [f"::: {home}", ""]
            seen.add(home)
    return "\n".join(lines)


def hazards_page() -> str:
    """The taxonomy, and what each foreign label means in it."""
    from wardgate.hazards import LABEL_MAPS, Hazard

    lines = ["# Hazards and labels", "", "In their fixed order: " + ", ".join(f"`{h.value}`" for h in Hazard) + ".", ""]
    for name, table in LABEL_MAPS.items():
        lines += [
            f"## {name}",
            "",
            f"Source: {table.source}.",
            "",
            "| label | hazards | unsafe | note |",
            "|---|---|---|---|",
        ]
        for label, meaning in table.meanings.items():
            hazards = ", ".join(f"`{h.value}`" for h in sorted(meaning.hazards))
            unsafe = {True: "yes", False: "no", None: "says neither"}[meaning.unsafe]
            lines.append(f"| {label} | {hazards} | {unsafe} | {meaning.note} |")
        lines.append("")
    return "\n".join(lines)
