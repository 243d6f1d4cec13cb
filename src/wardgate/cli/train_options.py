"""What the `wardgate train` commands share: reading data, showing progress, telling failures in one line."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wardgate.cli.check import BAD_USAGE, fail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wardgate.data.example import Example
    from wardgate.hazards import LabelMap

Pool = Annotated[Path, typer.Option(help="Folder with the training pool's *.jsonl.gz.")]
EncoderBase = Annotated[Path, typer.Option(help="Hugging Face folder of multilingual-e5-small.")]
Version = Annotated[str, typer.Option(help="The bundle's version.")]
Seed = Annotated[int, typer.Option(help="Seed of everything that is drawn.")]
SET = "NAME=VALUE: change a number of the recipe (rate=1e-4, lora=16, positive.hate=2); may be repeated."


@contextmanager
def told() -> Iterator[None]:
    """Turn what can go wrong in training into one line and an exit code.

    Raises:
        typer.Exit: 2 for bad data or numbers, 1 for what failed on the way.
    """
    from wardgate.data.rows import DataError
    from wardgate.guards.card import CardError
    from wardgate.guards.checkpoint import CheckpointError

    try:
        yield
    except ImportError as error:
        raise fail(f"training needs {error.name}: pip install 'wardgate[train]'") from None
    except (DataError, CardError) as error:
        raise fail(str(error), BAD_USAGE) from None
    except (CheckpointError, OSError) as error:
        raise fail(str(error)) from None
    except ValueError as error:
        raise fail(str(error), BAD_USAGE) from None


@contextmanager
def bar(doing: str) -> Iterator[Callable[[int, int, float], None]]:
    """A progress bar; what it yields is told the step, the number of steps, and the loss."""
    from rich.progress import Progress

    with Progress() as progress:
        task = progress.add_task(doing, total=None)

        def report(step: int, total: int, loss: float) -> None:
            progress.update(task, completed=step, total=total, description=f"{doing}, loss {loss:.3f}")

        yield report


def parts_of(data: Path) -> dict[str, list[Example]]:
    """The splits of a folder that `wardgate data build` wrote; the held-back part may be absent."""
    from wardgate.data.build import SPLITS, read_split
    from wardgate.data.rows import DataError

    parts = {name: read_split(data, name) for name in SPLITS[:2]} if data.is_dir() else {}
    if not parts:
        raise DataError(f"{data} is not a folder that `wardgate data build` wrote")
    try:
        parts["held-back"] = read_split(data, "held-back")
    except DataError:
        parts["held-back"] = []
    return parts


def label_map_of(name: str) -> LabelMap:
    """A label map by name.

    Raises:
        ValueError: if there is none.
    """
    from wardgate.hazards import LABEL_MAPS

    if name not in LABEL_MAPS:
        raise ValueError(f"there is no label map {name!r} (known: {', '.join(LABEL_MAPS)})")
    return LABEL_MAPS[name]


def tell(figures: dict[str, Any], out: Path) -> None:
    """Print what was measured and where the guard is."""
    if not figures:  # another process writes
        return
    for warning in figures.get("warnings", ()):
        typer.echo(f"wardgate: warning: {warning}", err=True)
    typer.echo(f"measured on {figures['measured_on']}: {figures['measured']}")
    typer.echo(f"guard written to {out / 'guard'}: wardgate check --guard {out / 'guard'} TEXT")


def tell_bundle(manifest: dict[str, Any], out: Path) -> None:
    """Print what was measured of a built-in guard, and where its bundle is."""
    typer.echo(f"held-back figures: {manifest['measured']}")
    typer.echo(f"bundle written to {out}")


def tell_game(card: dict[str, Any], out: Path) -> None:
    """Print what each round of a game gave, and where its last classifier is."""
    for number, row in enumerate(card["rounds"], 1):
        typer.echo(
            f"round {number}: {row['generated']} rewrites, {row['missed']} kept and missed, {row['pairs']} pairs"
        )
    typer.echo(f"the last classifier is {out / 'guard'}; {out / 'card.json'} counts what was generated")
