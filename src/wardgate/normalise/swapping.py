"""The step that puts swapped letters back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wardgate.normalise.edits import Edit
from wardgate.normalise.lexicon import WORD, known_words

if TYPE_CHECKING:
    import re

_FEWEST, _ONE_IN = 2, 8
"""So many different words, and one in so many of all, have to be swapped: fewer are slips of the pen, or names."""


def swapped(text: str) -> list[Edit]:
    """Put two neighbouring letters back where they make an unknown word a known one: `bkae a caek` reads `bake a cake`.

    Only in a text with several such words, one in eight or more. A word that could be two others stays as it is.
    """
    words = WORD.findall(text.lower())
    known, meant = known_words(), {}
    for word in set(words).difference(known):
        read = known.intersection(twins(word))
        if len(read) == 1:
            (meant[word],) = read
    if len(meant) < _FEWEST or sum(word in meant for word in words) * _ONE_IN < len(words):
        return []
    there = ((m, meant.get(m[0].lower())) for m in WORD.finditer(text))
    return [e for m, word in there if word and (e := _put_back(m, word))]


def twins(word: str) -> set[str]:
    """The words that differ from this one in two neighbouring letters' places."""
    return {word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(len(word) - 1) if word[i] != word[i + 1]}


def _put_back(match: re.Match[str], word: str) -> Edit | None:
    # The case of a place stays. Letters whose small and large forms differ in number are not worth a rule.
    new = "".join(c.upper() if s.isupper() else c for s, c in zip(match[0], word, strict=False))
    return Edit(match.start(), match.end(), new) if new.lower() == word and len(new) == len(match[0]) else None
