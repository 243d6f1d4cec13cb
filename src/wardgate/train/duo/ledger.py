"""A run's folder: every artefact whole, with what it was made of, so that a run goes on from wherever it stopped."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from wardgate.data.rows import DataError, read_json_lines
from wardgate.train.duo.moves import sha256_of
from wardgate.train.folder import write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

LINEAGE = "lineage.jsonl"
"""One line an artefact: its name, its hash, the stage that made it, and the hashes of what it was made of."""


class Ledger:
    """The artefacts of one run.

    An artefact is made under a passing name and takes its own when it is whole; only then is it entered here. So
    what is entered is whole, and what is not entered is made again.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Open a run's folder, or start one.

        Raises:
            DataError: if the folder holds a run with other settings.
        """
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "settings.json"
        plain = json.loads(json.dumps(settings))
        if path.exists() and json.loads(path.read_text("utf-8")) != plain:
            raise DataError(f"{folder} holds a run with other settings; take another folder, or those of {path}")
        if not path.exists():
            write_json(path, plain)
        # What a game generates is no one's to publish by accident.
        (folder / ".gitignore").write_text("*\n", encoding="utf-8")
        self._entered = self._read()
        self._checked: set[str] = set()

    def _read(self) -> dict[str, str]:
        path = self.folder / LINEAGE
        if not path.exists():
            return {}
        lines = path.read_text("utf-8").splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):  # killed while it wrote: that artefact was not entered
            path.write_text("".join(lines[:-1]), encoding="utf-8")
        return {str(row["artefact"]): str(row["sha256"]) for _, row in read_json_lines(path)}

    def made(self, name: str) -> bool:
        """Whether an artefact is there and is what was entered."""
        path = self.folder / name
        if name not in self._checked and name in self._entered and path.exists():
            if sha256_of(path) != self._entered[name]:
                return False
            self._checked.add(name)
        return name in self._checked

    def once(self, name: str, stage: str, make: Callable[[Path], None], inputs: Sequence[str] = ()) -> Path:
        """Make an artefact, unless it is there.

        Args:
            name: the file or folder.
            stage: what makes it, for the lineage.
            make: writes it to the path it is given.
            inputs: artefacts that it is made of; they must have been made.
        """
        path = self.folder / name
        if self.made(name):
            return path
        fresh = path.with_name(f".{path.name}.making{''.join(path.suffixes)}")
        _remove(fresh)
        path.parent.mkdir(parents=True, exist_ok=True)
        make(fresh)
        _remove(path)
        os.replace(fresh, path)  # noqa: PTH105 - the atomic call by its name
        self._enter(name, stage, inputs)
        return path

    def _enter(self, name: str, stage: str, inputs: Sequence[str]) -> None:
        digest = sha256_of(self.folder / name)
        row = {
            "artefact": name,
            "sha256": digest,
            "stage": stage,
            "inputs": {i: self._entered[i] for i in inputs},
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with (self.folder / LINEAGE).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        self._entered[name] = digest
        self._checked.add(name)


def work_folder(folder: Path) -> Path:
    """Where a step keeps its checkpoints while its artefact is being made."""
    return folder.with_name("." + folder.name.strip(".").removesuffix(".making") + ".work")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
