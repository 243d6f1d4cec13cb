"""Text written for training: what the pool lacks, made of frames and words.

`words/templates.yaml` has short intents and threats beside harmless look-alikes, `words/groups.yaml` what is said of
groups, kind and unkind, and `words/languages.yaml` both sides in languages of which the pool has one. Against
over-refusal there are ordinary requests of many trades made of frames (`words/benign.yaml`), and others, with answers,
each written out on its own (`words/requests.jsonl.gz`).
"""

from __future__ import annotations

import gzip
import json
import random
import re
import string
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from wardgate.data.example import Example
from wardgate.hazards import HAZARDS, Hazard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Words = Mapping[str, Sequence[str]]


def templates() -> list[Example]:
    """Intents without instructions and threats, in four languages, beside harmless look-alikes."""
    out: list[Example] = []
    for language, part in _words("templates").items():
        for frame in part["ask"]:
            for hazard, phrases in part["unsafe"].items():
                out += [_example(frame.format(p), language, "prompt", {Hazard(hazard)}) for p in phrases]
            out += [_example(frame.format(p), language, "prompt", set()) for p in part["benign"]]
        for frame in part["threat"]:
            threats = [frame.format(v) for v in part["threat_verbs"]]
            out += [_example(t, language, "comment", {Hazard.VIOLENT_CRIMES}) for t in threats]
            out += [_example(frame.format(v), language, "comment", set()) for v in part["kind_verbs"]]
        out += [_example(t, language, "comment", None) for t in part["said_unsafe"] for _ in range(4)]
        out += [_example(t, language, "comment", set()) for t in part["said_benign"] for _ in range(4)]
    return out


def of_groups() -> list[Example]:
    """What is said of groups: unkind, kind, and the unkind sentences said of things; seven languages."""
    out: list[Example] = []
    for language, part in _words("groups").items():
        for group in part["groups"]:
            out += [_example(_begun(f.format(group)), language, "comment", {Hazard.HATE}) for f in part["unkind"]]
            out += [_example(_begun(f.format(group)), language, "comment", set()) for f in part["kind"]]
        for thing in part["things"]:
            out += [_example(_begun(f.format(thing)), language, "comment", set()) for f in part["unkind"]]
    return out


def works() -> list[Example]:
    """Requests for the whole text of protected works, beside the same of free works and questions about either."""
    part = _words("works")
    hazard = {Hazard.INTELLECTUAL_PROPERTY}
    out = [_example(f.format(w), "en", "prompt", hazard) for w in part["protected"] for f in part["whole"]]
    out += [_example(f.format(w), "en", "prompt", set()) for w in part["free"] for f in part["whole"]]
    out += [
        _example(f.format(w), "en", "prompt", set()) for w in part["protected"] + part["free"] for f in part["about"]
    ]
    return out


def in_languages(seed: int) -> list[Example]:
    """Ordinary requests beside mild harmful intents, in languages of which the pool has one side only.

    Args:
        seed: drives the choice of topics; every frame is used as often as there are topics.
    """
    rng = random.Random(seed)  # noqa: S311 - sampling, not secrets
    out: list[Example] = []
    for language, part in _words("languages").items():
        for frame in part["frames"]:
            for _ in part["topics"]:
                topics = rng.choices(part["topics"], k=frame.count("{}"))
                out.append(_example(frame.format(*topics), language, "prompt", set()))
        for frame in part["ask"]:
            out += [_example(frame.format(p), language, "prompt", None) for p in part["harmful"]]
            out += [_example(frame.format(p), language, "prompt", set()) for p in part["harmless"]]
    return out


def own_source(count: int, seed: int) -> list[Example]:
    """Pieces of this package's own source code under an ordinary request: code is text that guards misread.

    Args:
        count: how many.
        seed: drives the choice.
    """
    rng = random.Random(seed)  # noqa: S311 - sampling, not secrets
    sources = [path.read_text("utf-8") for path in sorted(Path(str(files("wardgate"))).rglob("*.py"))]
    asks = ("Please review this code:\n\n", "What does this do?\n", "Add logging to this code.\n", "", "Fix it:\n")
    out: list[Example] = []
    for _ in range(count):
        source = rng.choice(sources)
        start = rng.randrange(max(1, len(source) - 300))
        out.append(_example(rng.choice(asks) + source[start : start + rng.randint(150, 700)], "en", "prompt", set()))
    return out


def benign_requests(count: int, seed: int) -> list[Example]:
    """Ordinary requests in English: medicine, software, science, work; one in five long or with code.

    Args:
        count: how many.
        seed: drives the choice.
    """
    rng = random.Random(seed)  # noqa: S311 - sampling, not secrets
    fields = [part for part in _words("benign").values() if isinstance(part, dict)]
    texts = (_request(rng, fields) for _ in range(count))
    return [replace(_example(t, "en", "prompt", set()), id=f"written-{i}") for i, t in enumerate(texts)]


def declining() -> dict[str, bool]:
    """How answers begin in 14 languages, and whether they decline what was asked."""
    parts = _words("declines").values()
    return {text: side == "declines" for part in parts for side, texts in part.items() for text in texts}


def requests() -> list[Example]:
    """Requests, comments and answers, each written out on its own: most in English, the rest in 18 languages.

    Most are ordinary. Those that are not name a wrong intent, a threat or contempt in general words, and their hazards;
    no harm could be done with any of them. A translation of text `N`, by hand, into `xx` has the id `request-N:xx`.
    """
    out: list[Example] = []
    for number, row in enumerate(map(json.loads, request_lines())):
        hazards = {Hazard(h) for h in row.get("hazards", ())}
        one = _example(row["text"], row["language"], row.get("kind", "prompt"), hazards)
        name = f"{row['of']}:{row['language']}" if "of" in row else str(number)
        out.append(replace(one, id=f"request-{name}"))
    return out


def request_lines() -> list[str]:
    """The lines of `words/requests.jsonl.gz`: packed, they are a third of what they would add to the package."""
    packed = (files("wardgate.train") / "words" / "requests.jsonl.gz").read_bytes()
    return gzip.decompress(packed).decode("utf-8").splitlines()


def wrapped(text: str, rng: random.Random) -> str:
    """A text between an opening and a closing of the written requests: harmful texts have them too."""
    words = _words("benign")
    return str(rng.choice(words["openings"])) + text + str(rng.choice(words["closings"]))


def _request(rng: random.Random, fields: Sequence[Words]) -> str:
    field = rng.choice(fields)
    text = filled(rng.choice(field["frames"]), field, rng)
    roll = rng.random()
    if roll < 0.1:
        text += "\n" + "\n".join(f"{i}. {filled(rng.choice(field['frames']), field, rng)}" for i in range(1, 6))
    elif roll < 0.2:
        text += "\n\n```\n" + _code(rng) + "\n```"
    return wrapped(text, rng)


def filled(frame: str, words: Words, rng: random.Random) -> str:
    """A frame with each slot filled by a word of its list, a slot named twice by two draws."""
    return re.sub(r"\{(\w+)\}", lambda m: _word(m[1], words, rng), frame)


def _word(slot: str, words: Words, rng: random.Random) -> str:
    return str(rng.randint(2, 40)) if slot == "n" else rng.choice(words[slot])


_VERBS = (
    "get",
    "load",
    "kill",
    "parse",
    "drop",
    "abort",
    "exec",
    "attack_surface",
    "inject",
    "merge",
    "fire",
    "destroy",
)
_NOUNS = ("user", "order", "child_process", "token", "bullet", "target", "victim_cache", "queue", "trigger", "payload")


def _code(rng: random.Random) -> str:
    """A few lines that look like a program in one of four languages. They need not run."""
    kind = rng.randrange(4)
    names = [f"{rng.choice(_VERBS)}_{rng.choice(_NOUNS)}" for _ in range(4)]
    number = rng.randint(0, 999)
    if kind == 0:
        body = [f"def {names[0]}(x, y={number}):", f"    for i in range({number}):", f"        {names[1]}(x[i], y)"]
        return "\n".join([*body, f"    return {names[2]}(x)", "", f"print({names[0]}([1, 2, 3]))"])
    if kind == 1:
        body = [f"int {names[0]}(const char *p) {{", f"  int *q = malloc({number} * sizeof(int));"]
        return "\n".join([*body, f"  if (!q) return -1;\n  {names[1]}(p, q);\n  free(q);\n  return 0;\n}}"])
    if kind == 2:
        return f"SELECT {names[0]}, COUNT(*) AS n\nFROM {names[1]} WHERE id > {number}\nGROUP BY 1 ORDER BY n DESC;"
    stamp = f"2024-03-{rng.randint(10, 28)} {rng.randint(10, 23)}:{rng.randint(10, 59)}"
    digest = "".join(rng.choices(string.hexdigits.lower(), k=12))
    return f"{stamp} ERROR worker[{number}]: {names[0]} failed: killed by signal 9\n{stamp} INFO {names[1]} id={digest}"


def _begun(text: str) -> str:
    return text[:1].upper() + text[1:]


def word_file(name: str) -> str:
    """The text of a file of `train/words`."""
    return (files("wardgate.train") / "words" / name).read_text("utf-8")


@cache
def _words(name: str) -> Mapping[str, Any]:
    loaded: Mapping[str, Any] = yaml.safe_load(word_file(f"{name}.yaml"))
    return loaded


def _example(text: str, language: str, kind: str, hazards: set[Hazard] | None) -> Example:
    unsafe = hazards is None or bool(hazards)
    return Example(
        id="written",
        text=text,
        response=None,
        unsafe=unsafe,
        present=frozenset(hazards or ()),
        absent=frozenset() if unsafe else frozenset(HAZARDS),
        language=language,
        kind=kind,
        source="written",
        licence="Apache-2.0",
    )
