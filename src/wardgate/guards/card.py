"""Guard cards: what wardgate must know of a checkpoint or server before it runs it, in one checked YAML.

A card is data. It names a checkpoint and its revision, the head, the native labels with what each means, and
the limits the model card states. Presets for published guards ship beside this file; any other checkpoint is
one more YAML file, never code.
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from wardgate.guards.scores import Link
from wardgate.hazards import HAZARDS, LABEL_MAPS, Hazard, LabelMap, Meaning, label_map


class CardError(ValueError):
    """A guard card that cannot be used, with every problem found in it.

    Attributes:
        where: the file or preset.
        problems: one line each.
    """

    def __init__(self, where: str, problems: list[str]) -> None:
        super().__init__(f"{where}: " + "; ".join(problems))
        self.where = where
        self.problems = problems


def _hint(word: object, known: list[str]) -> str:
    near = get_close_matches(str(word), known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else f" (one of: {', '.join(known)})"


def _hazard(word: object) -> Hazard:
    known = [hazard.value for hazard in HAZARDS]
    if word not in known:
        raise ValueError(f"{word!r} is not a hazard{_hint(word, known)}")
    return Hazard(str(word))


def _meaning(label: str, said: object) -> Meaning:
    """Read what a label means: `safe`, `unsafe`, `neither`, a hazard, a list of hazards, or a mapping."""
    plain = {"safe": Meaning(unsafe=False), "unsafe": Meaning(unsafe=True), "neither": Meaning(unsafe=None)}
    if isinstance(said, str):
        return plain[said] if said in plain else Meaning(frozenset({_hazard(said)}))
    if isinstance(said, list):
        return Meaning(frozenset(map(_hazard, said)))
    if not isinstance(said, dict) or not set(said) <= {"hazards", "unsafe", "note"}:
        raise ValueError(f"label {label!r} must be safe, unsafe, neither, a hazard, hazards, or a mapping")
    hazards = frozenset(map(_hazard, said.get("hazards") or []))
    return Meaning(hazards, unsafe=said.get("unsafe", True), note=str(said.get("note", "")))


def _labels(said: object) -> LabelMap:
    if isinstance(said, LabelMap):
        return said
    if isinstance(said, str):
        if said not in LABEL_MAPS:
            raise ValueError(f"no label map is called {said!r}{_hint(said, list(LABEL_MAPS))}")
        return LABEL_MAPS[said]
    if not isinstance(said, dict) or not said:
        raise ValueError("labels must name a label map or list every native label with its meaning, in order")
    return label_map("card", "the guard's card", [(str(k), _meaning(str(k), v)) for k, v in said.items()])


Labels = Annotated[InstanceOf[LabelMap], BeforeValidator(_labels)]


class _Card(BaseModel):
    """What every card says."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", description="the name policies and people use")
    source: str = Field(description="where the facts of this card come from")
    licence: str = ""
    note: str = ""


class _CheckpointCard(_Card):
    """What the cards of local checkpoints share."""

    checkpoint: str = Field(min_length=1, description="a folder, or a hub id such as owner/name")
    revision: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{40}$",
        description="the commit a hub id is pinned to; without it the commit in the local cache is used",
    )
    tokenizer: str | None = Field(default=None, description="folder or hub id, where not the checkpoint's own")
    tokenizer_revision: str | None = Field(default=None, pattern=r"^[0-9a-f]{40}$")
    gated: bool = False
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    forbidden_dtypes: tuple[Literal["bfloat16", "float16"], ...] = ()
    max_length: int = Field(default=512, ge=8, le=131072, description="tokens the model was trained to read")
    threshold: float = Field(default=0.5, ge=0, le=1, description="the published cut on the probability")
    comparison: Literal[">", ">="] = ">="

    def flags(self, probability: float) -> bool:
        """The published verdict on a probability: strictly above the threshold, or at least it."""
        return probability > self.threshold if self.comparison == ">" else probability >= self.threshold


class ClassifierCard(_CheckpointCard):
    """A sequence classifier.

    `input` says what is read of a view: `text` (the prompt only), `joined` (prompt, a space, response),
    `pair` (prompt and response encoded as a pair; a view without response is not scored).
    """

    family: Literal["classifier"]
    head: Link
    labels: Labels
    input: Literal["text", "joined", "pair"] = "text"

    @model_validator(mode="after")
    def _coherent(self) -> ClassifierCard:
        if self.head is Link.SOFTMAX and len(self.labels.labels) < 2:
            raise ValueError("a softmax head needs two labels or more")
        if self.dtype in self.forbidden_dtypes:
            raise ValueError(f"dtype {self.dtype} is also forbidden")
        return self


class JudgeCard(_CheckpointCard):
    """A generative judge read at its flag token. `rubric` is a file; without it wardgate's own is used."""

    family: Literal["judge"]
    labels: Labels = LABEL_MAPS["moddog"]
    rubric: str | None = None
    max_length: int = Field(default=4096, ge=64, le=131072)


class RemoteCard(_Card):
    """A judge behind an OpenAI-compatible server. Times in seconds; the key comes from the environment."""

    family: Literal["remote"]
    base_url: str = Field(pattern=r"^https?://", description="up to and including /v1")
    model: str = Field(min_length=1)
    verdict: Literal["judge-json", "llama-guard", "qwen3guard", "shieldgemma", "granite-guardian", "wildguard"] = (
        "judge-json"
    )
    rubric: str | None = None
    prefill: bool = Field(
        default=False, description="the server continues an assistant turn (vLLM): the judge is teacher-forced"
    )
    ask: tuple[str, ...] = Field(default=(), description="labels to ask for, where each is its own request")
    api_key_env: str | None = Field(default=None, description="the environment variable that holds the key")
    timeout: float = Field(default=10.0, gt=0)
    retries: int = Field(default=2, ge=0, le=10)
    concurrency: int = Field(default=8, ge=1, le=1024)
    breaker_failures: int = Field(default=5, ge=1)
    breaker_seconds: float = Field(default=30.0, ge=0)


Card = ClassifierCard | JudgeCard | RemoteCard
_ADAPTER: TypeAdapter[Card] = TypeAdapter(Annotated[Card, Field(discriminator="family")])
_PATHS = ("checkpoint", "tokenizer", "rubric")
_FAMILIES: dict[str, type[_Card]] = {"classifier": ClassifierCard, "judge": JudgeCard, "remote": RemoteCard}


def presets() -> tuple[str, ...]:
    """The names of the cards that ship with wardgate, sorted."""
    folder = resources.files("wardgate.guards") / "presets"
    return tuple(sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")))


def load_card(name_or_path: str | Path) -> Card:
    """Read a preset by name, or a card from a YAML file.

    A path in a file that begins with a dot starts from the file's folder, so that a folder with its card can be moved.

    Raises:
        CardError: if there is no such preset or file, or the card is wrong; it lists every problem.
    """
    name = str(name_or_path)
    if name in presets():
        text = (resources.files("wardgate.guards") / "presets" / f"{name}.yaml").read_text("utf-8")
        return parse_card(text, where=f"preset {name}")
    path = Path(name_or_path)
    if not path.is_file():
        raise CardError(name, [f"no guard card of this name or file{_hint(name, list(presets()))}"])
    try:
        return _found_from(path.parent, parse_card(path.read_text("utf-8"), where=str(path)))
    except (OSError, UnicodeDecodeError) as error:
        raise CardError(str(path), [f"cannot be read: {type(error).__name__}"]) from error


def _found_from(folder: Path, card: Card) -> Card:
    """The card with its relative paths made absolute."""
    told = card.model_dump(include=set(_PATHS))
    return card.model_copy(update={k: str((folder / v).resolve()) for k, v in told.items() if v and _relative(v)})


def _relative(told: str) -> bool:
    return told in {".", ".."} or told.startswith(("./", "../"))


def parse_card(text: str, where: str = "card") -> Card:
    """Check the YAML text of a card.

    Raises:
        CardError: listing every problem, each with its field and, for a misspelt field, the nearest one.
    """
    try:
        raw: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        raise CardError(where, [f"not valid YAML{line}"]) from error
    if not isinstance(raw, dict):
        raise CardError(where, ["a card is a mapping of fields"])
    if raw.get("family") not in _FAMILIES:
        said = raw.get("family")
        raise CardError(where, [f"family: {said!r} is none{_hint(said, [*_FAMILIES])}"])
    try:
        return _ADAPTER.validate_python(raw)
    except ValidationError as error:
        raise CardError(where, _problems(error, _FAMILIES[raw["family"]])) from error


def _problems(error: ValidationError, card: type[_Card]) -> list[str]:
    lines = []
    for each in error.errors():
        field = ".".join(str(part) for part in each["loc"][1:]) or "card"
        if each["type"] == "extra_forbidden":
            lines.append(f"{field}: no such field{_hint(field, [*card.model_fields])}")
        else:
            lines.append(f"{field}: {each['msg'].removeprefix('Value error, ')}")
    return lines
