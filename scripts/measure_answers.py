"""What a policy does with answers beside prompts, as a Markdown table with 95 % intervals.

    python scripts/measure_answers.py --prompts FILE [--safe] [--policy default] [--rows 40] [--each]

FILE is a `*.jsonl.gz` in the pool's form, of whose unsafe prompts, or safe ones, some are drawn; beside each stands
every answer of `answers.yaml`. Intervals come from 1,000 draws of prompts and answers both: what one answer meets is
much alike beside all prompts, and the answers are few. The last columns are the share of pairs for which the policy's
last tier was asked, and pairs a second.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from wardgate import Engine
from wardgate.evaluate.figures import Figure
from wardgate.policy import Action

if TYPE_CHECKING:
    from numpy.typing import NDArray

ACTIONS = (Action.ALLOW, Action.REVIEW, Action.BLOCK)


def share(hit: NDArray[Any]) -> str:
    """Of prompts (rows) and answers (columns) with its interval."""
    rng, (prompts, answers) = np.random.default_rng(0), hit.shape
    drawn = [
        hit[rng.integers(prompts, size=prompts)][:, rng.integers(answers, size=answers)].mean() for _ in range(1000)
    ]
    figure = Figure.from_draws(float(hit.mean()), np.array(drawn), hit.size)
    return f"{figure.value:.2f} [{figure.low:.2f}, {figure.high:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--policy", default="default")
    parser.add_argument("--rows", type=int, default=40, help="prompts that are drawn")
    parser.add_argument("--safe", action="store_true", help="safe prompts instead of unsafe ones")
    parser.add_argument("--each", action="store_true", help="a line for each answer, too")
    given = parser.parse_args()
    with gzip.open(given.prompts, "rt", encoding="utf-8") as lines:
        prompts = [r["text"] for r in map(json.loads, lines) if r["unsafe"] != given.safe]
    prompts = [prompts[i] for i in np.random.default_rng(0).permutation(len(prompts))[: given.rows]]
    engine = Engine.load(policy=given.policy)
    kinds = yaml.safe_load((Path(__file__).parent / "answers.yaml").read_text("utf-8"))
    tiers = len(engine.policy.tiers)
    print("| answer | pairs | allowed | reviewed | blocked | asked | a second |\n|---|---|---|---|---|---|---|")
    for kind, answers in kinds.items():
        started = time.perf_counter()
        taken = [engine.check(p, response=a) for p, a in itertools.product(prompts, answers)]
        seconds = time.perf_counter() - started
        found = np.array([[d.action is a for a in ACTIONS] for d in taken]).reshape(len(prompts), len(answers), -1)
        cells = [share(found[..., i]) for i in range(len(ACTIONS))]
        cells += [f"{np.mean([len(d.guards) == tiers for d in taken]):.2f}", f"{len(taken) / seconds:.0f}"]
        print(f"| {kind} | {len(taken)} | {' | '.join(cells)} |", flush=True)
        for column, answer in enumerate(answers if given.each else ()):
            print(f"|   {answer} | {len(prompts)} | " + " | ".join(f"{s:.2f}" for s in found[:, column].mean(0)) + " |")


if __name__ == "__main__":
    main()
