"""Training that is launched: the game's two training steps as commands of their own, on as many GPUs as there are.

`accelerate launch` starts one process a GPU, and the game is one process; so it writes what a step needs, starts
`<launcher> -m wardgate train …`, and goes on when that is done. The command line holds no text.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from wardgate.data.rows import DataError, read_json_lines, write_rows, written
from wardgate.train.duo.chat import ChatGenerator, preference_row
from wardgate.train.duo.ledger import work_folder
from wardgate.train.recipe import as_dict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from wardgate.data.example import Example
    from wardgate.train.duo.moves import Pair, Seed
    from wardgate.train.duo.players import Classifier, Transformer
    from wardgate.train.recipe import Recipe


def launch(words: Sequence[str]) -> None:
    """Run a command to its end; what it prints goes where this process prints.

    Raises:
        DataError: if it fails; the step is then made again when the game goes on.
    """
    try:
        done = subprocess.run(list(words), check=False)  # noqa: S603 - the operator's own launcher
    except OSError as error:
        raise DataError(f"{words[0]} cannot be started ({error.strerror})") from None
    if done.returncode:
        raise DataError(f"{words[0]} ended with code {done.returncode}; run again to go on")


def recipe_words(recipe: Recipe) -> list[str]:
    """A recipe's numbers as `--set` options."""
    out: list[str] = []
    for name, value in as_dict(recipe).items():
        pairs = value.items() if isinstance(value, dict) else [("", value)]
        for entry, number in pairs:
            key = f"{name}.{entry}" if entry else name
            out += ["--set", f"{key}={str(number).lower() if isinstance(number, bool) else number}"]
    return out


@dataclass(frozen=True, slots=True)
class LaunchedTrainee:
    """A transformer that is trained by a launched `wardgate train classifier`.

    Attributes:
        trainee: the transformer.
        launcher: such as `("accelerate", "launch", "--config_file", "accelerate_4gpu.yaml")`.
    """

    trainee: Transformer
    launcher: tuple[str, ...]

    def train(self, seeds: Sequence[Example], misses: Sequence[Example], folder: Path) -> None:
        """Write the data, launch, and take the guard over."""
        work, mine = work_folder(folder), self.trainee
        write_rows(work / "data" / "train.jsonl.gz", [*seeds, *misses])
        write_rows(work / "data" / "calibrate.jsonl.gz", mine.calibrate)
        words = ["train", "classifier", "--base", mine.base, "--data", str(work / "data"), "--out", str(work)]
        words += ["--labels", mine.head.labels.name, "--head", mine.head.link.value, "--reads", mine.head.reads]
        words += ["--name", "duo", *recipe_words(mine.recipe), *(["--quiet"] if mine.running.quiet else [])]
        if mine.running.deepspeed is not None:
            words += ["--deepspeed", str(mine.running.deepspeed)]
        launch([*self.launcher, "-m", "wardgate", *words])
        (work / "guard").rename(folder)

    def open(self, folder: Path) -> Classifier:
        """The guard with its calibration."""
        return self.trainee.open(folder)


@dataclass(frozen=True, slots=True)
class LaunchedGenerator:
    """A language model that learns by a launched `wardgate train prefer`."""

    generator: ChatGenerator
    launcher: tuple[str, ...]

    def propose(self, seeds: Sequence[Seed], language: str, k: int, round_: int) -> list[Any]:
        """As the generator itself."""
        return self.generator.propose(seeds, language, k, round_)

    def improve(self, seeds: Sequence[Seed], pairs: Sequence[Pair], classifier: Classifier, folder: Path) -> None:  # noqa: ARG002 - DPO needs the pairs alone
        """Write the pairs, launch, and take the weights over."""
        work, by_id = work_folder(folder), {s.id: s for s in seeds}
        write_preferences(work / "pairs.jsonl", [preference_row(by_id[p.seed], p) for p in pairs])
        words = ["train", "prefer", "--base", self.generator.folder, "--pairs", str(work / "pairs.jsonl")]
        words += ["--out", str(work), *(["--quiet"] if self.generator.running.quiet else [])]
        for name, value in asdict(self.generator.preferences).items():
            words += ["--dpo", f"{name}={value}"]
        if self.generator.running.deepspeed is not None:
            words += ["--deepspeed", str(self.generator.running.deepspeed)]
        launch([*self.launcher, "-m", "wardgate", *words])
        (work / "generator").rename(folder)

    def open(self, folder: Path) -> LaunchedGenerator:
        """As the generator itself."""
        return replace(self, generator=self.generator.open(folder))


def write_preferences(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write TRL's conversational preference rows."""
    with written(path) as lines:
        lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read_preferences(path: Path) -> list[dict[str, Any]]:
    """Read them back.

    Raises:
        DataError: if a row has not prompt, chosen and rejected.
    """
    rows = []
    for number, row in read_json_lines(path):
        if set(row) != {"prompt", "chosen", "rejected"}:
            raise DataError(f"{path.name}, line {number}: a preference row has prompt, chosen and rejected")
        rows.append(row)
    return rows
