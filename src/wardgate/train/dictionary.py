"""An English-German dictionary: words for half-translated text, and sentences with their translations.

There is no free translator into German small enough to ask for. FreeDict's edition of the Ding dictionary (Debian's
dict-freedict-eng-deu) has 360,000 headwords, and 63,000 phrases and sentences in both languages, which also tell which
of a word's translations is the usual one. It is read in training, as Apertium is, and nothing of it is shipped.
"""

from __future__ import annotations

import gzip
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FREEDICT = Path("/usr/share/dictd/freedict-eng-deu.dict.dz")
"""Where Debian's package puts it."""

USUAL = 3
"""Translations of a word that are kept."""

_HEADWORD = re.compile(r"(\S.*?) /[^/]+/(?: <[^>]*>)?")
_EXAMPLE = re.compile(r' {6}"(.+?)"  - (.+)')
_REMARKS = re.compile(r"<[^>]*>|\[[^\]]*\]|\([^)]*\)|\{[^}]*\}")
_PLACES = re.compile(r"\b(?:(?:jd[nms]?|etw|sb|sth)\./?)+")
_COMMA = re.compile(r",(?![^<(\[]*[>)\]])")
_WORD = re.compile(r"[^\W\d_][\w'-]*")


@dataclass(frozen=True, slots=True)
class Dictionary:
    """What is read of it.

    Attributes:
        words: by an English word in lower case, its usual German translations, the commonest first.
        sentences: phrases and sentences, English and German.
    """

    words: dict[str, tuple[str, ...]]
    sentences: list[tuple[str, str]]


def read_dictionary(path: Path = FREEDICT) -> Dictionary:
    """Read a dictionary of the dict server, packed or not.

    Args:
        path: the file of definitions.

    Raises:
        FileNotFoundError: if it is not there.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there: apt-get install dict-freedict-eng-deu")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return parse(lines)


def parse(lines: Iterable[str]) -> Dictionary:
    """What definitions say: a headword with its sound, a line of translations, then examples and notes, indented."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    sentences: list[tuple[str, str]] = []
    head = ""
    for line in map(str.rstrip, lines):
        if example := _EXAMPLE.fullmatch(line):
            sentences.append((_bare(example[1]), _bare(example[2])))
        elif title := _HEADWORD.fullmatch(line):
            head = _bare(title[1]).lower()
        elif not line:
            head = ""
        elif head and (line[0] != " " or line.startswith(" [")):
            found[head].update(word for word in map(_bare, _COMMA.split(line)) if _WORD.fullmatch(word))
    return Dictionary(_usual(found, sentences), sentences)


def _usual(found: dict[str, Counter[str]], sentences: Sequence[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """The translations of each word, by how often both stand in one example (Dice's coefficient) and in entries."""
    english, german, both = Counter[str](), Counter[str](), Counter[tuple[str, str]]()
    for source, target in sentences:
        left, right = set(_WORD.findall(source.lower())), set(_WORD.findall(target.lower()))
        english.update(left)
        german.update(right)
        both.update((word, t) for word in left for t in {t.lower() for t in found.get(word, ())} & right)

    def usual(word: str) -> tuple[str, ...]:
        def rank(t: str) -> tuple[float, int, str]:
            low = t.lower()
            together = found[word][t] * both[word, low] / (english[word] + german[low] + 5)
            return -together, -german[low], t

        return tuple(sorted(found[word], key=rank)[:USUAL])

    return {word: usual(word) for word in found if found[word] and _WORD.fullmatch(word)}


def _bare(text: str) -> str:
    """A phrase without remarks on its use, and without `jdn.` and `etw.` in place of what it is about."""
    return " ".join(_PLACES.sub("", _REMARKS.sub("", text)).split()).strip(" ,;")
