"""The step that puts swapped letters back."""

from __future__ import annotations

from wardgate.normalise.edits import Edit
from wardgate.normalise.lexicon import WORD, known_words

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
    put_back = {m: _in_the_case_of(m, meant[m.lower()]) for m in set(WORD.findall(text)) if m.lower() in meant}
    new = WORD.sub(lambda m: put_back.get(m[0]) or m[0], text)
    return [Edit(0, len(text), new)] if new != text else []


def twins(word: str) -> set[str]:
    """The words that differ from this one in two neighbouring letters' places."""
    return {word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(len(word) - 1) if word[i] != word[i + 1]}


def _in_the_case_of(shown: str, word: str) -> str:
    """The word with capitals where the shown one has them; empty if its small and large letters differ in number."""
    new = "".join(c.upper() if s.isupper() else c for s, c in zip(shown, word, strict=False))
    return new if new.lower() == word and len(new) == len(shown) else ""
