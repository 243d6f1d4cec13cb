"""`wardgate calibrate` and `wardgate certify`."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wardgate.cli.check import BAD_USAGE, FAILURE, fail, open_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wardgate.engine import Certificate, Engine, FittedCalibrator
    from wardgate.evaluate.certify import Labelled
    from wardgate.policy import Decision


def calibrate(
    data: Annotated[
        Path | None,
        typer.Argument(
            help="JSON lines with text, optional response and language, and unsafe (0 or 1).", show_default=False
        ),
    ] = None,
    guard: Annotated[
        str, typer.Option("--guard", "-g", help="A guard's name, a checkpoint folder or a YAML card.")
    ] = "mini",
    method: Annotated[
        str,
        typer.Option(
            help="auto (by cross-validated log-loss), temperature, platt, beta, platt-histogram, histogram, isotonic; "
            "without labels: contextual (needs no data) or batch."
        ),
    ] = "auto",
    by_language: Annotated[
        bool,
        typer.Option("--by-language", help="One shift for each language with 50 labelled rows of either class, too."),
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Where the calibrator is written.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Fit a guard's probabilities to your traffic, and say what that gains on rows it was not fitted on.

    Use it: `wardgate check --calibrator FILE`. Exit code 1 if the data cannot bear a method, 2 for bad usage.

    Examples:
      wardgate calibrate labelled.jsonl --out calibrator.json

      wardgate calibrate labelled.jsonl --by-language --out calibrator.json

      wardgate calibrate traffic.jsonl --method batch --out calibrator.json
    """
    from importlib.util import find_spec

    if find_spec("scipy") is None or find_spec("sklearn") is None:
        raise fail("calibrate needs SciPy and scikit-learn: pip install 'wardgate[eval]'")
    from wardgate.evaluate.recalibrate import METHODS, UNLABELLED

    if method not in METHODS:
        raise fail(f"there is no method {method!r} (known: {', '.join(METHODS)})", BAD_USAGE)
    if by_language and method in UNLABELLED:
        raise fail(f"--by-language needs labelled rows, and {method} takes none", BAD_USAGE)
    fitted = _fit(data, guard, method, by_language=by_language)
    if out is not None:
        fitted.save(out)
    if as_json:
        sys.stdout.write(json.dumps(asdict(fitted)) + "\n")
        return
    _tell(fitted)
    if out is not None:
        typer.echo(f"written to {out}")


def _fit(data: Path | None, guard: str, method: str, *, by_language: bool) -> FittedCalibrator:
    """Score and fit, or leave with one clear line."""
    from wardgate.engine import BundleError, CalibratorError, GuardUnavailableError
    from wardgate.evaluate import recalibrate
    from wardgate.evaluate.certify import LabelledDataError, read_labelled

    if data is None and method != "contextual":
        raise fail("give a file of labelled rows (only `--method contextual` needs none)", BAD_USAGE)
    try:
        if method in recalibrate.UNLABELLED:
            texts, sha256 = (
                recalibrate.read_texts(data) if data and method == "batch" else (recalibrate.content_free(), "")
            )
            with _bar(len(texts)) as step:
                loaded, cases = recalibrate.scored(guard, texts, step)
            return recalibrate.fit_unlabelled(loaded, cases, sha256, method=method)
        labelled = read_labelled(data or Path())
        with _bar(len(labelled.unsafe)) as step:
            loaded, cases = recalibrate.scored(guard, labelled.submissions, step)
        return recalibrate.fit_labelled(loaded, cases, labelled, method=method, by_language=by_language)
    except (LabelledDataError, GuardUnavailableError) as error:
        raise fail(str(error), BAD_USAGE) from None
    except (CalibratorError, BundleError) as error:
        raise fail(str(error)) from None


def _tell(fitted: FittedCalibrator) -> None:
    m = fitted.measured
    if "after" not in m:
        typer.echo(f"{fitted.guard}: shifted by {m['method']} calibration over {m['texts']} texts, without labels")
        return
    typer.echo(f"{fitted.guard}: {m['method']}, fitted on {fitted.rows} rows ({fitted.unsafe} unsafe)")
    for when in (name for name in ("before", "after", "after_by_language") if name in m):
        figures = m[when]
        ece, low, high = figures["ece"]
        told = f"log-loss {figures['log_loss']:.4f}, Brier {figures['brier']:.4f}"
        typer.echo(f"  {when.replace('_', ' '):6s} ECE {ece:.4f} [{low:.4f}, {high:.4f}], {told}")
    if "after_by_language" in m:
        shifts = ", ".join(f"{code} {shift:+.2f}" for code, shift in fitted.methods["by_language"].items())
        typer.echo(f"  logits shifted by language: {shifts or 'none, since no other language has rows enough'}")
    typer.echo("  (after: every row judged by a calibrator fitted on the others; ECE over 15 bins of equal mass, 95 %)")


def certify(  # noqa: PLR0913, PLR0917 - one argument an option
    data: Annotated[
        Path, typer.Argument(help="JSON lines with text, optional response and language, and unsafe (0 or 1).")
    ],
    alpha: Annotated[float, typer.Option(help="Rate of wrong automatic actions to hold, 0 to 1.")] = 0.01,
    delta: Annotated[float, typer.Option(help="One minus the confidence, 0 to 1.")] = 0.05,
    guard: Annotated[list[str] | None, typer.Option("--guard", "-g", help="As for `wardgate check`.")] = None,
    policy: Annotated[str, typer.Option("--policy", "-p", help="A shipped policy's name or a file.")] = "default",
    calibrator: Annotated[list[Path] | None, typer.Option(help="As for `wardgate check`.")] = None,
    method: Annotated[str, typer.Option(help="ltt (fixed-sequence testing), sgr, or crc (on average).")] = "ltt",
    out: Annotated[Path | None, typer.Option(help="Where the certificate is written.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Find how much traffic a policy may decide alone at a stated risk, or say that there is no guarantee.

    Exit code 0 with a certificate, 1 without one, 2 for bad usage. Use it: `wardgate check --certificate FILE`.

    Example:
      wardgate certify labelled.jsonl --alpha 0.02 --delta 0.05 --out certificate.json
    """
    if not 0 < alpha < 1 or not 0 < delta < 1:
        raise fail("--alpha and --delta lie between 0 and 1", BAD_USAGE)
    from importlib.util import find_spec

    if find_spec("scipy") is None:
        raise fail("certify needs SciPy: pip install 'wardgate[eval]'")
    from wardgate.evaluate.certify import METHODS, LabelledDataError, NoGuarantee, read_labelled
    from wardgate.evaluate.certify import certify as find

    if method not in METHODS:
        raise fail(f"there is no method {method!r} (known: {', '.join(METHODS)})", BAD_USAGE)
    try:
        labelled = read_labelled(data)
    except LabelledDataError as error:
        raise fail(str(error), BAD_USAGE) from None
    engine = open_engine(guard, policy, calibrator)
    decisions = _with_bar(engine, labelled)
    found = find(engine, labelled, decisions, alpha=alpha, delta=delta, method=method)
    if isinstance(found, NoGuarantee):
        if as_json:
            sys.stdout.write(json.dumps({"certificate": None, "needed": found.needed, "missing": found.missing}) + "\n")
        raise fail(str(found), FAILURE)
    if out is not None:
        found.save(out)
    if as_json:
        sys.stdout.write(json.dumps({"certificate": asdict(found)}) + "\n")
        return
    typer.echo(_promise(found))
    if out is not None:
        typer.echo(f"written to {out}")


def _promise(made: Certificate) -> str:
    rate = f"at most {made.alpha:.2%} of automatic actions are wrong, with {1 - made.delta:.0%} confidence,"
    if made.method == "crc":
        rate = f"on average at most {made.alpha:.2%} of all traffic is decided wrongly without a person"
    return (
        f"certified: {rate} when the\n"
        f"policy acts at a confidence of {made.threshold:.4f} or more. That covers {made.coverage:.1%} of "
        f"{made.rows} rows ({made.errors} errors in {made.covered}, bound {made.bound:.3%})."
    )


def _with_bar(engine: Engine, labelled: Labelled) -> list[Decision]:
    from wardgate.evaluate.certify import decide_all

    with _bar(len(labelled.unsafe)) as step:
        return decide_all(engine, labelled, step)


@contextmanager
def _bar(total: int) -> Iterator[Callable[[], None]]:
    """A progress bar on standard error, for as long as it takes; yields what advances it by one."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("deciding", total=total)
        yield lambda: progress.advance(task)
