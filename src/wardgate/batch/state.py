"""What survives a kill: how far a run got, and the texts it has scored. One SQLite file, one transaction a time."""

from __future__ import annotations

import json
import sqlite3
import zlib
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Self

from wardgate.batch.formats import BatchError, UsageError
from wardgate.batch.index import Index
from wardgate.batch.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS seen (
    number INTEGER PRIMARY KEY, key BLOB NOT NULL, action TEXT NOT NULL, json BLOB NOT NULL
);
"""
_SWEEP = 8
"""Forgotten texts are deleted when they are an eighth of those remembered, not one by one."""
_READ = 100_000
"""Rows that are read at once when the index is made again."""
_ASK = 500
"""Numbers in one question: SQLite takes 999 parameters where it was built long ago."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run got, always at the end of a chunk.

    Attributes:
        source: the input that is being read, from 0.
        in_source: rows of it that are done.
        rows: rows done in all inputs, good and bad.
        bad: rows that could not be judged.
        scored: submissions that the engine was asked about; the others were seen before.
        actions: action to count.
        output: bytes of the staged output.
        rejects: bytes of the staged side file.
        remembered: how many distinct texts have been put in memory so far.
    """

    source: int = 0
    in_source: int = 0
    rows: int = 0
    bad: int = 0
    scored: int = 0
    actions: Mapping[str, int] = field(default_factory=dict)
    output: int = 0
    rejects: int = 0
    remembered: int = 0

    @property
    def clean(self) -> bool:
        """Whether every row was judged and may pass."""
        return not self.bad and set(self.actions) <= {"allow"}


class State:
    """The checkpoint of a run, and its memory of texts. Held by one run at a time."""

    def __init__(self, path: Path, remember: int) -> None:
        """Open or begin a checkpoint.

        Args:
            path: the SQLite file.
            remember: how many distinct texts are remembered; the oldest are forgotten first.

        Raises:
            BatchError: if another run holds it.
        """
        self._remember = remember
        self._new: dict[bytes, tuple[int, Verdict]] = {}
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=0)
        try:
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.executescript(_SCHEMA)
            self.progress = Progress(**json.loads(self._fact("progress") or "{}"))
            self._next = self._swept = self.progress.remembered
            self._index = self._read_index()
        except sqlite3.OperationalError as error:
            self._connection.close()
            raise UsageError(f"{path.parent} is in use by another run ({error})") from None
        except sqlite3.DatabaseError:
            self._connection.close()
            raise BatchError(f"{path} is damaged; --overwrite begins again") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def agree(self, job: Mapping[str, object]) -> None:
        """Make sure that a resumed run is the run that was broken off.

        Raises:
            BatchError: with the name of what differs.
        """
        told = json.dumps(job, sort_keys=True)
        before = self._fact("job")
        if before is None:
            self._connection.execute("INSERT INTO facts VALUES ('job', ?)", (told,))
            return
        known, now = json.loads(before), json.loads(told)
        differs = sorted(name for name in {*known, *now} if known.get(name) != now.get(name))
        if differs:
            raise UsageError(f"cannot resume: {', '.join(differs)} changed since; --overwrite begins again")

    def recall(self, keys: Iterable[bytes]) -> dict[bytes, Verdict]:
        """The verdicts that are remembered for some keys.

        What counts as forgotten depends on the texts before alone, never on when a checkpoint was written.
        """
        wanted = set(keys)
        oldest = self._next - self._remember
        found = {k: v for k in wanted if (entry := self._new.get(k)) and (v := entry[1]) and entry[0] >= oldest}
        asked = [k for k in wanted if k not in found and k not in self._new]
        numbers = self._index.find(asked, oldest)
        for start in range(0, len(numbers), _ASK):
            part = numbers[start : start + _ASK]
            marks = ",".join("?" * len(part))
            query = f"SELECT key, action, json FROM seen WHERE number IN ({marks})"  # noqa: S608 - only marks
            for key, action, data in self._connection.execute(query, part):
                if key in wanted:
                    found[key] = Verdict(zlib.decompress(data), action, complete=True)
        return found

    def remember(self, verdicts: Mapping[bytes, Verdict]) -> None:
        """Keep verdicts for texts that come again; incomplete ones are not kept, another try may do better."""
        for key, verdict in verdicts.items():
            if verdict.complete and self._remember:
                self._new[key] = (self._next, verdict)
                self._next += 1

    @property
    def waiting(self) -> int:
        """How many new texts are in memory only, until the next checkpoint."""
        return len(self._new)

    def save(self, progress: Progress) -> None:
        """Write a checkpoint: progress and memory, together or not at all. Everything staged must be on disk."""
        self.progress = replace(progress, remembered=self._next)
        oldest = self._next - self._remember
        rows = [(n, key, v.action, zlib.compress(v.json, 1)) for key, (n, v) in self._new.items()]
        with self._connection:
            self._connection.execute("BEGIN")
            self._connection.executemany("INSERT INTO seen VALUES (?, ?, ?, ?)", rows)
            if self._next - self._swept > max(1, self._remember // _SWEEP):
                self._connection.execute("DELETE FROM seen WHERE number < ?", (oldest,))
                self._swept = self._next
            told = json.dumps(asdict(self.progress))
            self._connection.execute("INSERT OR REPLACE INTO facts VALUES ('progress', ?)", (told,))
        self._index.add([key for _, key, *_ in rows], [number for number, *_ in rows], oldest)
        self._new.clear()

    def _read_index(self) -> Index:
        """The index of what is on disk: a second for a million texts."""
        index = Index()
        oldest = self._next - self._remember
        rows = self._connection.execute("SELECT key, number FROM seen WHERE number >= ? ORDER BY number", (oldest,))
        while part := rows.fetchmany(_READ):
            index.add([key for key, _ in part], [number for _, number in part], oldest)
        return index

    def _fact(self, name: str) -> str | None:
        row = self._connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])
