"""Throughput of `wardgate batch` against `check_many` on the same texts, in one run.

    python scripts/measure_batch.py --texts 600 --rounds 5
    python scripts/measure_batch.py --texts 4000 --rounds 3 --ray 2

Both take turns, each first in every other round; the ratio is taken within a round. Processor time is read as well,
which other programs on the machine hardly touch.

With `--ray WORKERS` the batch is compared with itself on a Ray cluster of this machine, one core a worker. Ray takes
seconds to start its workers, so two rates are given: from the start, and from when as many chunks are done as there
are workers. Chunks come in order: take texts enough that one worker's head start does not count.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from wardgate import Engine
from wardgate.batch import Job, Unbraked, find_sources, local, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wardgate.batch.rows import Chunk
    from wardgate.batch.state import Progress, State
    from wardgate.batch.writing import Judged

ROWS = 128
"""Rows of a chunk on Ray: few enough that two workers end together."""
WORDS = ["the", "cat", "sat", "on", "hello", "world", "why", "bread", "bake", "haus", "baum", "ich", "bin", "station"]


def made(count: int) -> list[str]:
    """Distinct texts with the lengths of a chat."""
    draw = random.Random(7)  # noqa: S311 - texts, not secrets
    lengths = [min(200, max(3, round(draw.lognormvariate(3.0, 0.7)))) for _ in range(count)]
    return [f"{i} " + " ".join(draw.choices(WORDS, k=length)) for i, length in enumerate(lengths)]


def timed(work: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def written(texts: list[str], folder: Path) -> Path:
    source = folder / f"in-{len(texts)}.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return source


def job_for(source: Path, rows: int) -> Job:
    return Job(tuple(find_sources([str(source)])), str(source.with_name("out.jsonl")), rows=rows, remember=0)


def against_check_many(engine: Engine, texts: list[str], rounds: int, folder: Path) -> None:
    source = written(texts, folder)

    def batch() -> None:
        run(job_for(source, 1024), local(Unbraked(engine)), overwrite=True)

    def many() -> None:
        engine.check_many(texts)

    spent = [{work.__name__: timed(work) for work in taking_turns([many, batch], n)} for n in range(rounds)]
    for i, clock in enumerate(("wall", "cpu")):
        rate = len(texts) / median(one["batch"][i] for one in spent)
        ratio = spread([one["many"][i] / one["batch"][i] for one in spent])
        print(f"{clock}: batch {rate:.1f} texts/s; {ratio} of check_many")


def against_ray(engine: Engine, texts: list[str], rounds: int, workers: int, folder: Path) -> None:
    from wardgate.batch.on_ray import Cluster, on_ray

    source = written(texts, folder)
    judges = {
        "local": local(Unbraked(engine)),
        "ray": on_ray((), "default", Cluster(fewest=workers, most=workers)),
    }
    found: list[dict[str, tuple[float, float]]] = []
    for number in range(rounds):
        found.append({name: rates(source, judges[name], workers) for name in taking_turns(["local", "ray"], number)})
        told = [f"{name} {steady:.1f} ({whole:.1f})" for name, (steady, whole) in found[-1].items()]
        print(f"round {number + 1}, texts/s when running (from the start): {', '.join(told)}", flush=True)
    for i, what in enumerate(("when running", "from the start")):
        print(f"{workers} workers {what}: {spread([one['ray'][i] / one['local'][i] for one in found])} of local")


def rates(source: Path, judge: Callable[[Job, State], Iterator[Judged]], workers: int) -> tuple[float, float]:
    """Texts a second once as many chunks are done as there are workers, and over the whole run."""
    started, seen = time.perf_counter(), []

    def told(progress: Progress, _chunk: Chunk) -> None:
        seen.append((time.perf_counter() - started, progress.rows))

    run(job_for(source, ROWS), judge, overwrite=True, told=told)
    (begun, before), (ended, after) = seen[workers - 1], seen[-1]
    return (after - before) / (ended - begun), after / ended


def taking_turns(works: list[Any], number: int) -> list[Any]:
    return works[::-1] if number % 2 else works


def spread(values: list[float]) -> str:
    """Median, least and greatest."""
    return f"{median(values):.3f} [{min(values):.3f}, {max(values):.3f}]"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--texts", type=int, default=600)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--ray", type=int, metavar="WORKERS", help="compare with a Ray cluster on this machine")
    given = options.parse_args()
    engine, texts = Engine.default(), made(given.texts)
    engine.check_many(texts[:32])
    with tempfile.TemporaryDirectory() as folder:
        if given.ray:
            against_ray(engine, texts, given.rounds, given.ray, Path(folder))
        else:
            against_check_many(engine, texts, given.rounds, Path(folder))


if __name__ == "__main__":
    main()
