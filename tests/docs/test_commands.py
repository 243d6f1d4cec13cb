"""What README and docs tell people to type: it exists, and on the pages listed here it is run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from blocks import blocks_of, commands
from pages import prepare
from wardgate.cli import app

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
RUN = [page for page in PAGES if any(block.how != "not run" for block in blocks_of(page))]
"""Every block of these is run, in order, in one folder, but for those that say why not."""
LIMIT_S = 300
PROBABILITY = r"\b[01]\.\d+"


def name_of(page):
    return str(page.relative_to(ROOT)) if isinstance(page, Path) else str(page)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_exists(page):
    wrong = []
    for block in blocks_of(page):
        for words in commands(block) if block.kind == "sh" else []:
            told = unknown(words)
            if told:
                wrong.append(f"{block}: wardgate {' '.join(words)}: {told}")
    assert not wrong, "\n".join(wrong)


def unknown(words):
    """What of a command line does not exist: a command or an option; empty when all does."""
    command = get_command(app)
    if "--install-completion" in words:
        return ""
    rest = list(words)
    while hasattr(command, "commands"):
        places = [i for i, word in enumerate(rest) if word in command.commands]
        if not places or any(not w.startswith("-") for w in rest[: places[0]]):
            break
        command, rest = command.commands[rest[places[0]]], rest[places[0] + 1 :]
    if hasattr(command, "commands") and rest and not rest[0].startswith("-") and not takes_arguments(command):
        return f"no command {rest[0]!r}"
    known = {name for p in command.params for name in (*p.opts, *p.secondary_opts)} | {"--help", "-h"}
    wrong = [word for word in rest if word.startswith("-") and len(word) > 1 and word.split("=")[0] not in known]
    return f"no option {', '.join(wrong)}" if wrong else ""


def takes_arguments(command):
    return any(p.param_type_name == "argument" for p in command.params)


def python_of(page):
    """All Python of a page as one program: later blocks may use what earlier ones made."""
    return "\n".join(b.code for b in blocks_of(page) if b.kind == "python" and b.how == "run")


@pytest.fixture
def folder(tmp_path):
    """An empty folder with the examples, and a `pip` that does nothing: what it would install is installed."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/pip").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "bin/pip").chmod(0o755)
    return tmp_path


def environment(folder):
    places = [str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
    return os.environ | {"PATH": os.pathsep.join(places), "HOME": str(folder), "COLUMNS": "120", "NO_COLOR": "1"}


@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_every_block_runs(page, folder):
    prepare(name_of(page), folder)
    running = []
    try:
        for block in blocks_of(page):
            if block.kind == "sh" and block.how == "background":
                running.append(started(block.code, folder))
            elif block.kind == "sh" and block.how == "run":
                done = ran(["bash", "-euo", "pipefail", "-c", accepting(block.code)], folder)
                assert done.returncode == 0, f"{block} exits {done.returncode}\n{done.stdout}\n{done.stderr}"
        code = python_of(page)
        if code:
            done = ran([sys.executable, "-c", code], folder)
            assert done.returncode == 0, f"{page}\n{done.stdout}\n{done.stderr}"
    finally:
        for process in running:
            process.terminate()
            process.wait(timeout=60)


def accepting(code):
    """Exit code 10 says that something was not allowed: no failure of the command."""
    function = 'wardgate() { command wardgate "$@" || { code=$?; [ $code -eq 10 ] || return $code; }; }'
    return f"{function}\n{code}"


def ran(command, folder):
    return subprocess.run(
        command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False, timeout=LIMIT_S
    )


def started(code, folder):
    return subprocess.Popen(
        ["bash", "-c", f"exec {code.strip()}"],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_what_is_not_run_says_why():
    silent = [str(b) for page in PAGES for b in blocks_of(page) if b.how == "not run" and not b.why]
    assert not silent


def test_a_wrong_command_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```sh\nwardgate chek x\ncat a | wardgate check --fil - > out\nwardgate batch a b --resume\n```\n")
    (block,) = blocks_of(page)
    assert [bool(unknown(words)) for words in commands(block)] == [True, True, False]
    assert isinstance(typer.main.get_command(app).name, str)


def test_the_readme_shows_what_the_sample_gives(folder):
    shown = (ROOT / "README.md").read_text().split("$ wardgate check --file examples/sample.txt\n")[1].split("```")[0]
    printed = ran([sys.executable, "-m", "wardgate", "check", "--file", "examples/sample.txt"], folder).stdout
    assert without_numbers(printed) == without_numbers(shown)
    assert numbers(printed) == pytest.approx(numbers(shown), abs=0.02), "as much as canaries may differ"


def numbers(table):
    return [float(number) for number in re.findall(PROBABILITY, table)]


def without_numbers(table):
    return [re.sub(PROBABILITY, "", line).split() for line in table.strip().splitlines()]
