"""How a guard answers the same texts in four languages, as a Markdown table with 95 % intervals.

    python scripts/measure_parallel.py [--guard mini] [--each]

The texts are those of `parallel.yaml`, written for this and trained on nowhere; "flagged" is P(unsafe) at or over the
bundle's `balanced` threshold. The last column is the mean shift of the log-odds of `unsafe` against English, text by
text: of unsafe texts, and of safe ones. Intervals come from 1,000 draws of texts.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml
from scipy.special import logit
from sklearn.metrics import average_precision_score

from wardgate import Engine
from wardgate.evaluate.figures import Figure

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

LANGUAGES = ("en", "de", "fr", "es")


def drawn(measure: Callable[[Array, Array], float], *columns: Array) -> str:
    """A figure of texts, with its interval."""
    rng, count = np.random.default_rng(0), len(columns[0])
    rows = [rng.integers(count, size=count) for _ in range(1000)]
    figure = Figure.from_draws(measure(*columns), np.array([measure(*(c[r] for c in columns)) for r in rows]), count)
    return f"{figure.value:.2f} [{figure.low:.2f}, {figure.high:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guard", default="mini")
    parser.add_argument("--each", action="store_true", help="a line for each text, too")
    given = parser.parse_args()
    engine = Engine.load([given.guard])
    (loaded,) = engine.guards.values()
    at = loaded.points["balanced"]["unsafe"]
    sides = yaml.safe_load((Path(__file__).parent / "parallel.yaml").read_text("utf-8"))
    texts = [(side, row) for side, kinds in sides.items() for rows in kinds.values() for row in rows]
    unsafe = np.array([side == "unsafe" for side, _ in texts])
    scores = {
        language: np.array([d.unsafe for d in engine.check_many([row[language] for _, row in texts])], float)
        for language in LANGUAGES
    }
    print(f"| language | of {unsafe.sum()} unsafe flagged | of {(~unsafe).sum()} safe | AUPRC | shift, unsafe; safe |")
    print("|---|---|---|---|---|")
    for language, p in scores.items():
        shift = logit(np.clip(p, 1e-4, 1 - 1e-4)) - logit(np.clip(scores["en"], 1e-4, 1 - 1e-4))
        found, wrong = (drawn(lambda x, _: float(x.mean()), p[side] >= at, p[side]) for side in (unsafe, ~unsafe))
        auprc = drawn(lambda y, x: float(average_precision_score(y, x)) if y.any() else 0.0, unsafe, p)
        moved = "; ".join(f"{shift[side].mean():+.2f}" for side in (unsafe, ~unsafe))
        print(f"| {language} | {found} | {wrong} | {auprc} | {moved} |")
    if given.each:
        for i, (side, row) in enumerate(texts):
            print(side, *(f"{scores[language][i]:.2f}" for language in LANGUAGES), row["en"])


if __name__ == "__main__":
    main()
