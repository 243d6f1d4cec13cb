"""A batch from end to end: read, judge, write, remember; and go on where a broken run stopped."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wardgate.batch.formats import BatchError, Format, UsageError, of_name
from wardgate.batch.places import STANDARD, Source, deliver, exists, is_remote
from wardgate.batch.reading import Plan, read_chunks
from wardgate.batch.rows import Fields, RowError, key_of
from wardgate.batch.state import Progress, State
from wardgate.batch.verdicts import verdicts_of
from wardgate.batch.writing import Judged, Staged, open_sink, reject_lines, writable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from wardgate.batch.rows import Chunk
    from wardgate.batch.verdicts import Decider, Verdict
    from wardgate.batch.writing import Sink
    from wardgate.engine import Submission

CHECKPOINT_S = 5.0
"""Seconds between checkpoints. Each waits for the disk."""
CHECKPOINT_TEXTS = 20_000
"""A checkpoint is also written when so many new texts wait in memory, about a kilobyte each."""
REMEMBER = 1_000_000
"""Distinct texts that are remembered: about 350 bytes each on disk, 16 to 48 in memory."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a batch is to do.

    Attributes:
        sources: the inputs, in order.
        target: a path, a URL, or `-` for standard output.
        fields: what of a row is judged.
        format: the output's format; None takes what the name tells, or the first input's.
        rows: rows that are judged together.
        remember: how many distinct texts are remembered, so that they are scored once; 0 remembers none beyond
            the chunk at hand.
        rejects: where bad rows are told; None puts them beside the output, as `OUT.bad.jsonl`.
        work: folder for what is not finished; None puts it beside the output, as `OUT.wardgate`.
        identity: what else a decision depends on (policy, guards, versions): a resumed run must agree.
    """

    sources: tuple[Source, ...]
    target: str
    fields: Fields = field(default_factory=Fields)
    format: Format | None = None
    rows: int = 1024
    remember: int = REMEMBER
    rejects: str | None = None
    work: Path | None = None
    identity: Mapping[str, str] = field(default_factory=dict)

    @property
    def output_format(self) -> Format:
        """The output's format: as told, as the name tells, as the first input's."""
        first = self.sources[0].format
        fallback = Format.JSONL if first is Format.LINES else first
        return self.format or of_name(self.target)[0] or fallback

    @property
    def folder(self) -> Path:
        """Where the unfinished run is kept."""
        name = Path(self.target).name if is_remote(self.target) else self.target
        return self.work or Path(f"{name}.wardgate")

    @property
    def side_file(self) -> str | None:
        """Where bad rows are told; None when nowhere was named and the output is a stream."""
        return self.rejects or (None if self.target == STANDARD else f"{self.target}.bad.jsonl")

    def facts(self) -> dict[str, Any]:
        """What a resumed run must agree with, by the name a person would use."""
        inputs = [[s.path, s.format.value, s.size, s.stamp] for s in self.sources]
        chosen = {
            "the fields": [self.fields.text, self.fields.response, self.fields.id, self.fields.language],
            "the context fields": [*self.fields.context, self.fields.history],
            "the output": [self.target, self.output_format.value],
            "the rows of a chunk": self.rows,
            "what is remembered": self.remember,
        }
        return {"the input": inputs, **chosen, **self.identity}

    def plan(self) -> Plan:
        """How to read: of Parquet that stays Parquet, only what is judged becomes Python values."""
        whole = self.output_format is Format.PARQUET and self.whole_tables
        return Plan(self.rows, frozenset(self.fields.columns()) if whole else None)

    @property
    def whole_tables(self) -> bool:
        """Whether every input is Parquet."""
        return all(source.format is Format.PARQUET for source in self.sources)


def run(
    job: Job,
    judge: Callable[[Job, State], Iterator[Judged]],
    *,
    resume: bool = False,
    overwrite: bool = False,
    told: Callable[[Progress, Chunk], None] = lambda _progress, _chunk: None,
) -> Progress:
    """Do a job, or what is left of it.

    Args:
        job: what to do.
        judge: yields every chunk that is not done, judged, in order (`local`, or `wardgate.batch.on_ray.on_ray`).
        resume: go on where a broken run stopped; begin if there is none.
        overwrite: begin again, whatever is there.
        told: called after each chunk.

    Returns:
        How far it got, which is the end.

    Raises:
        BatchError: if the job cannot be done, or not to its end; what is done is kept for `resume`.
    """
    if exists(job.target) and not overwrite and not (resume and job.folder.exists()):
        if resume:
            raise FinishedError(f"{job.target} is complete: there is nothing to resume")
        raise UsageError(f"{job.target} exists; --overwrite replaces it")
    if job.target == STANDARD and resume:
        raise UsageError("standard output cannot be resumed; name a file")
    writable(job.output_format, of_name(job.target)[1])
    with _folder(job, resume=resume, overwrite=overwrite) as folder:
        try:
            with State(folder / "state.sqlite", job.remember) as state:
                state.agree(job.facts())
                if not _delivered(job, state.progress, folder):
                    _work(job, judge, state, folder, told)
                return state.progress
        except (OSError, sqlite3.OperationalError) as error:  # a full disk is told by either
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise BatchError(f"cannot write: {why}; what is done is kept, --resume goes on") from None
        except MemoryError:
            raise BatchError("out of memory; what is done is kept, --resume goes on") from None


def _delivered(job: Job, progress: Progress, folder: Path) -> bool:
    """Whether a run was killed between putting its output in place and tidying up: what was staged is gone."""
    return job.target != STANDARD and progress.output > 0 and not (folder / "staged").exists()


class FinishedError(BatchError):
    """The run that was to be resumed is complete."""


@contextmanager
def _folder(job: Job, *, resume: bool, overwrite: bool) -> Iterator[Path]:
    """The work folder, which is removed when the job is done and kept when it is not."""
    if job.target == STANDARD:
        with tempfile.TemporaryDirectory(prefix="wardgate-") as name:
            yield Path(name)
        return
    folder = job.folder
    if folder.exists() and not resume:
        if not overwrite:
            raise UsageError(f"a run was broken off ({folder}): --resume goes on, --overwrite begins again")
        shutil.rmtree(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}") from None
    yield folder
    shutil.rmtree(folder)


def _work(
    job: Job,
    judge: Callable[[Job, State], Iterator[Judged]],
    state: State,
    folder: Path,
    told: Callable[[Progress, Chunk], None],
) -> None:
    target = {
        "format": job.output_format,
        "compression": of_name(job.target)[1],
        "piped": job.target == STANDARD,
    }
    done = state.progress
    with Staged(folder / "staged", done.output) as staged, Staged(folder / "rejects", done.rejects) as rejects:
        sink = open_sink(staged, folder / "output", target, whole_tables=job.whole_tables)
        _judge_all(job, judge(job, state), state, Outputs(sink, rejects), told)
        if state.progress.bad and job.side_file is not None:
            deliver(_copy(rejects.path), job.side_file)
        finished = sink.finish()
    if finished is not None:
        deliver(finished, job.target)


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where good rows and bad rows go."""

    rows: Sink
    rejects: Staged

    def saved(self, progress: Progress) -> Progress:
        """Progress as it may be written to the checkpoint: with everything it tells of on disk."""
        return replace(progress, output=self.rows.sync(), rejects=self.rejects.sync())


def _judge_all(
    job: Job, outcome: Iterator[Judged], state: State, outputs: Outputs, told: Callable[[Progress, Chunk], None]
) -> None:
    progress, saved = state.progress, time.monotonic()
    for judged in outcome:
        outputs.rows.write(judged)
        outputs.rejects.append(reject_lines(judged, job.sources[judged.chunk.source].path))
        progress = _after(progress, judged)
        if time.monotonic() - saved >= CHECKPOINT_S or state.waiting >= CHECKPOINT_TEXTS:
            state.save(outputs.saved(progress))
            saved = time.monotonic()
        told(progress, judged.chunk)
    state.save(outputs.saved(progress))


def _copy(path: Path) -> Path:
    """The side file is delivered as a copy: should delivering the output fail, the staged one is still needed."""
    return Path(shutil.copyfile(path, path.with_suffix(".copy")))


def _after(progress: Progress, judged: Judged) -> Progress:
    actions = dict(progress.actions)
    for verdict in judged.verdicts:
        if verdict is not None:
            actions[verdict.action] = actions.get(verdict.action, 0) + 1
    count, source = len(judged.chunk.rows), judged.chunk.source
    return replace(
        progress,
        source=source,
        in_source=(progress.in_source if source == progress.source else 0) + count,
        rows=progress.rows + count,
        bad=progress.bad + sum(bool(problem) for problem in judged.problems),
        scored=progress.scored + judged.scored,
        actions=actions,
    )


def left_over(job: Job, progress: Progress) -> Iterator[tuple[int, Source, int]]:
    """The inputs that are not done: number, source, and how many of its rows are."""
    for number, source in enumerate(job.sources):
        if number >= progress.source:
            yield number, source, progress.in_source if number == progress.source else 0


def local(engine: Decider) -> Callable[[Job, State], Iterator[Judged]]:
    """Judge in this process. Identical texts are scored once, as far as the job's memory reaches."""

    def judge(job: Job, state: State) -> Iterator[Judged]:
        first = state.progress.rows + 1
        for number, source, done in left_over(job, state.progress):
            for chunk in read_chunks(number, source, job.plan(), done):
                yield judge_chunk(chunk, job.fields, first, lambda new: _scored(engine, new, state))
                first += len(chunk.rows)

    return judge


def _scored(engine: Decider, submissions: Mapping[bytes, Submission], state: State) -> tuple[dict[bytes, Verdict], int]:
    known = state.recall(submissions)
    fresh = {key: s for key, s in submissions.items() if key not in known}
    found = dict(zip(fresh, verdicts_of(engine, list(fresh.values())), strict=True))
    state.remember(found)
    return known | found, len(fresh)


def judge_chunk(
    chunk: Chunk,
    fields: Fields,
    first: int,
    score: Callable[[Mapping[bytes, Submission]], tuple[dict[bytes, Verdict], int]],
) -> Judged:
    """Judge one chunk; identical rows are asked about once.

    Args:
        chunk: the rows.
        fields: what of a row is judged.
        first: number of the chunk's first row among all rows, from 1.
        score: gives a verdict for each of the distinct submissions, and how many of them the engine was asked.
    """
    keys: list[bytes | None] = []
    problems: list[str] = []
    distinct: dict[bytes, Submission] = {}
    for row in chunk.rows:
        try:
            submission = fields.submission(row)
        except RowError as error:
            keys.append(None)
            problems.append(str(error))
            continue
        key = key_of(submission)
        keys.append(key)
        problems.append("")
        distinct.setdefault(key, submission)
    verdicts, asked = score(distinct)
    return Judged(
        chunk,
        tuple(None if key is None else verdicts[key] for key in keys),
        tuple(fields.identifier(row) or str(first + i) for i, row in enumerate(chunk.rows)),
        tuple(problems),
        asked,
    )


def share_done(job: Job, chunk: Chunk) -> float | None:
    """The share of all input that is read, 0 to 1; None where an input does not tell its size."""
    sizes = [source.size for source in job.sources]
    if any(size is None for size in sizes):
        return None
    known = [size or 0 for size in sizes]
    done = sum(known[: chunk.source]) + chunk.part * known[chunk.source]
    return min(1.0, done / sum(known)) if sum(known) else 1.0
