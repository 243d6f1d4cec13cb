"""From judged chunks to output files. Everything is staged first, and put in its place when it is whole."""

from __future__ import annotations

import base64
import csv
import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, Self

from wardgate.batch.formats import Compression, Format, UsageError, compress, decompressed
from wardgate.batch.verdicts import COLUMNS, PREFIX, columns_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from wardgate.batch.rows import Chunk, Row
    from wardgate.batch.verdicts import Verdict

FIELD = "wardgate"
"""The field of a JSON row that holds its decision."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A chunk with its outcome.

    Attributes:
        chunk: the rows.
        verdicts: one per row; None for a bad row.
        ids: one per row.
        problems: one per row; empty for a good one.
        scored: how many submissions the engine was asked about.
    """

    chunk: Chunk
    verdicts: tuple[Verdict | None, ...]
    ids: tuple[str, ...]
    problems: tuple[str, ...]
    scored: int


class Sink(Protocol):
    """Where output is staged."""

    def write(self, judged: Judged) -> None:
        """Add a chunk."""

    def sync(self) -> int:
        """Put everything on disk; the size so far in bytes."""

    def finish(self) -> Path | None:
        """Make the finished file; None when there is nothing to put in place."""


class Staged:
    """A file that only grows, and that a resumed run cuts back to its checkpoint."""

    def __init__(self, path: Path, size: int) -> None:
        """Open for appending after the first `size` bytes."""
        self.path = path
        self._stream: BinaryIO = path.open("r+b" if path.exists() else "w+b")
        self._stream.truncate(size)
        self._stream.seek(size)

    def append(self, data: bytes) -> None:
        """Add bytes."""
        self._stream.write(data)

    def sync(self) -> int:
        """Put everything on disk; the size in bytes."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        return self._stream.tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


class JsonlSink:
    """JSON lines, compressed a chunk at a time: each member is whole, so a file may be cut between two."""

    def __init__(self, staged: Staged, compression: Compression) -> None:
        self._staged, self._compression = staged, compression

    def write(self, judged: Judged) -> None:
        """Add a chunk."""
        data = json_lines(judged)
        if data:
            self._staged.append(compress(data, self._compression))

    def sync(self) -> int:
        """Put everything on disk; the size in bytes."""
        return self._staged.sync()

    def finish(self) -> Path:
        """The staged file is the finished one."""
        self._staged.sync()
        return self._staged.path


class PipeSink:
    """JSON lines straight to standard output; nothing is staged, nothing can be resumed."""

    def __init__(self, compression: Compression) -> None:
        self._compression = compression

    def write(self, judged: Judged) -> None:
        """Add a chunk."""
        sys.stdout.buffer.write(compress(json_lines(judged), self._compression))
        sys.stdout.buffer.flush()

    def sync(self) -> int:
        """Nothing is staged."""
        return 0

    def finish(self) -> None:
        """Nothing to put in place."""


class TableSink:
    """JSON lines are staged and made into a table at the end, when all columns and their types are known."""

    def __init__(self, staged: Staged, target: Path, format_: Format, compression: Compression) -> None:
        self._lines = JsonlSink(staged, Compression.GZIP)
        self._target, self._format, self._compression = target, format_, compression

    def write(self, judged: Judged) -> None:
        """Add a chunk."""
        self._lines.write(judged)

    def sync(self) -> int:
        """Put everything on disk; the size in bytes."""
        return self._lines.sync()

    def finish(self) -> Path:
        """Make the table."""
        staged = self._lines.finish()
        if self._format is Format.PARQUET:
            from wardgate.batch.tables import write_parquet

            write_parquet(lambda: staged_rows(staged), self._target)
        else:
            delimiter = "\t" if self._format is Format.TSV else ","
            _write_csv(staged, self._target, delimiter, self._compression)
        return self._target


def json_lines(judged: Judged) -> bytes:
    """The good rows of a chunk as JSON lines: their own fields as they came, and the decision after them."""
    lines = [
        _json_line(row, verdict.with_id(identifier))
        for row, verdict, identifier in zip(judged.chunk.rows, judged.verdicts, judged.ids, strict=True)
        if verdict is not None
    ]
    return b"\n".join([*lines, b""]) if lines else b""


def _json_line(row: Row, decision: bytes) -> bytes:
    """A row that came as JSON keeps its own bytes: no number loses digits, no letter changes its form."""
    raw = row.raw
    if raw is None or not raw.startswith(b"{") or FIELD in row.values:
        kept = {name: value for name, value in row.values.items() if name != FIELD}
        raw = json.dumps(kept, default=_plain).encode()
    separator = b", " if len(row.values) else b""
    return raw[:-1].rstrip() + separator + b'"' + FIELD.encode() + b'": ' + decision + b"}"


def _plain(value: Any) -> Any:
    """What JSON has no form for: bytes as base64, dates in ISO 8601, anything else as its text."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def staged_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a staged file with their decisions as flat columns."""
    with path.open("rb") as stream, decompressed(stream, Compression.GZIP) as lines:
        for line in lines:
            row = json.loads(line)
            decision = columns_of(row.pop(FIELD))
            yield {name: value for name, value in row.items() if name not in decision} | decision


def _write_csv(staged: Path, target: Path, delimiter: str, compression: Compression) -> None:
    names: dict[str, None] = {}
    for row in staged_rows(staged):
        names.update(dict.fromkeys(name for name in row if not name.startswith(PREFIX)))
    columns = [*names, *COLUMNS]
    with target.open("wb") as stream:
        rows = _CsvText(delimiter)
        rows.add(columns)
        for row in staged_rows(staged):
            rows.add([_cell(row.get(name)) for name in columns])
            if len(rows) >= 1024:
                stream.write(compress(rows.take(), compression))
        if len(rows):
            stream.write(compress(rows.take(), compression))


class _CsvText:
    """Rows as CSV text, taken out a part at a time."""

    def __init__(self, delimiter: str) -> None:
        self._parts: list[str] = []
        self._writer = csv.writer(self, delimiter=delimiter, lineterminator="\n")

    def __len__(self) -> int:
        return len(self._parts)

    def write(self, text: str) -> None:
        """What `csv.writer` calls, once a row."""
        self._parts.append(text)

    def add(self, cells: list[str]) -> None:
        """Add a row."""
        self._writer.writerow(cells)

    def take(self) -> bytes:
        """The text so far, which is then forgotten; a lone surrogate becomes `?`, since UTF-8 has none."""
        text, self._parts = "".join(self._parts), []
        return text.encode("utf-8", "replace")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def reject_lines(judged: Judged, name: str) -> bytes:
    """The bad rows of a chunk for the side file: where each is, why it is bad, and the start of the row itself."""
    lines = [
        json.dumps({"file": name, "line": row.line, "reason": problem, "row": _shown(row)}).encode()
        for row, problem in zip(judged.chunk.rows, judged.problems, strict=True)
        if problem
    ]
    return b"\n".join([*lines, b""]) if lines else b""


_SHOWN = 4096


def _shown(row: Row) -> str | None:
    """At most 4,096 bytes of the row, with what is not UTF-8 written as escapes."""
    return None if row.raw is None else row.raw[:_SHOWN].decode("utf-8", "backslashreplace")


def writable(format_: Format, compression: Compression) -> None:
    """Make sure that an output can be written before anything is judged for it.

    Raises:
        BatchError: if it cannot, or needs what is not installed.
    """
    if format_ is Format.LINES:
        raise UsageError("plain lines cannot hold decisions; write .jsonl, .csv or .parquet")
    if format_ is Format.PARQUET:
        import wardgate.batch.tables  # noqa: F401 - says what it needs
    compress(b"", compression)


def open_sink(staged: Staged, output: Path, target: Mapping[str, Any], *, whole_tables: bool) -> Sink:
    """The sink for an output.

    Args:
        staged: where to stage.
        output: where to make the finished file, if it is not the staged one.
        target: `format`, `compression`, and `piped`: whether standard output takes it as it comes.
        whole_tables: whether every input is Parquet, so that columns keep their Arrow types.
    """
    format_, compression = target["format"], target["compression"]
    if format_ is Format.JSONL:
        return PipeSink(compression) if target["piped"] else JsonlSink(staged, compression)
    if format_ is Format.PARQUET and whole_tables:
        from wardgate.batch.tables import ArrowSink

        return ArrowSink(staged, output)
    return TableSink(staged, output, format_, compression)
