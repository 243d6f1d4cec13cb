"""How much faster the built-in guard is than the plain way to run its weights, and what one text and the process cost.

    python scripts/measure_mini.py texts.jsonl --base BASE --run RUN [--texts 300] [--rounds 3]

The plain way is `transformers.pipeline("text-classification")` in float32, batches of 32 in order of arrival, on the
encoder of RUN (a finished run of `wardgate train mini`) under a head of the same size. The other arm is the guard as it
ships, in turns, in one process. `texts.jsonl` has a field `text`, of which 1,000 letters are taken; the plain way reads
their first 160 tokens, the guard all of them.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wardgate import Engine
from wardgate.engine.catalogue import load_guard
from wardgate.guards import View

if TYPE_CHECKING:
    from collections.abc import Callable


def plain(base: Path, run: Path) -> Any:
    """The pipeline. What it needs is imported here, so that the guard's own memory can be read before."""
    import torch
    from transformers import BertForSequenceClassification, PreTrainedTokenizerFast, pipeline

    from wardgate.train.runs import open_run

    encoder: Any = open_run(base, run)[0].base
    config = encoder.config
    config.num_labels, config.problem_type = 13, "multi_label_classification"
    config.vocab_size = encoder.embeddings.word_embeddings.num_embeddings
    whole: Any = BertForSequenceClassification(config)
    whole.eval().bert.load_state_dict(encoder.state_dict(), strict=False)
    made: Any = PreTrainedTokenizerFast
    tokenizer = made(tokenizer_file=str(run / "tokenizer.json"), model_max_length=160)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    return pipeline("text-classification", model=whole, tokenizer=tokenizer, top_k=None, dtype=torch.float32)


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--texts", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    engine = Engine.default()
    short = "Could you please tell me how I can bake a nice cake for my grandmother on Sunday?"
    engine.check(short)
    one = sorted(timed(lambda: engine.check(short)) for _ in range(200))
    lines = given.rows.read_text("utf-8").splitlines()[: given.texts]
    texts = [json.loads(line)["text"][:1000] for line in lines]
    engine.check_many(texts)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"one short text: {1000 * one[100]:.1f} ms at the median, {1000 * one[190]:.1f} ms at p95; peak {peak:.0f} MiB"
    )
    pipe, guard = plain(given.base, given.run), load_guard("mini").guard
    arms: dict[str, Callable[[], object]] = {
        "pipeline": lambda: list(pipe(texts, batch_size=32, truncation=True, max_length=160)),
        "guard": lambda: guard.score([View(t) for t in texts]),
    }
    found: dict[str, list[float]] = {name: [] for name in arms}
    for work in arms.values():
        work()
    for _ in range(given.rounds):
        for name, work in arms.items():
            found[name].append(len(texts) / timed(work))
    ratios = [b / a for a, b in zip(found["pipeline"], found["guard"], strict=True)]
    for name, rates in found.items():
        print(f"{name}: {statistics.median(rates):.0f} texts/s")
    print(f"ratio: {statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}] over {given.rounds} rounds")


if __name__ == "__main__":
    main()
