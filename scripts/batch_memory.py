"""Peak memory of a batch over many synthetic rows, with a guard that costs nothing.

    python scripts/batch_memory.py --rows 10000000

Prints rows a second, the peak of resident memory, and the bytes written to the disk so far, at each tenth of the way.
Nothing of it depends on a model: the figure is what `wardgate batch` adds to a guard's own memory. Each text comes
twice, half a file apart: where that is more than is remembered, every text is new, which is the worst case.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from wardgate.batch import Job, find_sources, local, run
from wardgate.guards import Status
from wardgate.hazards import HAZARDS
from wardgate.policy import Action, Decision, GuardReport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wardgate.batch.rows import Chunk
    from wardgate.batch.state import Progress
    from wardgate.engine import Submission


class Free:
    """Allows everything."""

    def __init__(self) -> None:
        hazards = dict.fromkeys(HAZARDS, 0.01)
        report = GuardReport("free", Status.OK, 0.0, {"unsafe": -4.6}, {"unsafe": 0.01}, 0.01, hazards, calibrated=True)
        self._one = Decision(
            "", Action.ALLOW, 0.01, hazards, (), "r", "p@1", (report,), normalised=False, language="en"
        )

    def check_many(self, texts: Sequence[str | Submission]) -> list[Decision]:
        """One decision for all."""
        return [self._one] * len(texts)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=10_000_000)
    options.add_argument("--distinct", type=float, default=0.5, help="share of rows whose text is new")
    options.add_argument("--folder", type=Path, help="where to put the files; several gigabytes")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        source = Path(folder) / "in.jsonl"
        period = max(1, int(given.rows * given.distinct))
        with source.open("w") as out:
            for i in range(given.rows):
                out.write(json.dumps({"n": i, "text": f"synthetic text number {i % period} of a long file"}) + "\n")
        started, spent, step = time.monotonic(), time.process_time(), given.rows // 10

        def told(progress: Progress, chunk: Chunk) -> None:
            if progress.rows // step != (progress.rows - len(chunk.rows)) // step:
                used = resource.getrusage(resource.RUSAGE_SELF)
                peak, written = used.ru_maxrss / 1024, used.ru_oublock * 512 / 1e9
                rate = progress.rows / (time.monotonic() - started)
                core = progress.rows / (time.process_time() - spent)
                print(
                    f"{progress.rows:>12,} rows  {rate:>8,.0f} rows/s  {core:>8,.0f} rows/s of processor time  "
                    f"peak {peak:,.0f} MiB  written {written:.1f} GB",
                    flush=True,
                )

        job = Job(tuple(find_sources([str(source)])), str(Path(folder) / "out.jsonl.gz"))
        run(job, local(Free()), told=told)


if __name__ == "__main__":
    main()
