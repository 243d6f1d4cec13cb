"""Runs the steps until none of them changes anything."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from wardgate.normalise import decoding, steps, swapping
from wardgate.normalise.edits import apply_edits, follow
from wardgate.normalise.text import NormalText, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wardgate.normalise.edits import Edit, Offsets

STEPS: dict[str, Callable[[str], list[Edit]]] = {
    "backspace": steps.backspace,
    "invisible": steps.invisible,
    "stacks": steps.stacks,
    "nfkc": steps.nfkc,
    "lookalikes": steps.lookalikes,
    "percent": decoding.percent,
    "base64": decoding.base64_text,
    "hexadecimal": decoding.hexadecimal,
    "rot13": decoding.rot13,
    "spaced": steps.spaced,
    "leet": steps.leet,
    "casing": steps.casing,
    "swapped": swapping.swapped,
}
"""Every step by name, in the order they run."""

DECODERS = frozenset({"percent", "base64", "hexadecimal", "rot13"})
"""Steps after which the text is looked at afresh: later steps would take what is still encoded for leet."""

MAX_ROUNDS = 64
"""Every step removes what it looks for, so rounds end by themselves; nested encodings take one round a layer."""

_BY_WORDS = (steps.casing, decoding.rot13, swapping.swapped)

# ASCII text can else only be changed by steps whose traces one look finds.
_ASCII_TRACE = re.compile(
    r"[\b\x7f]|%[0-9A-Fa-f]{2}|[A-Za-z0-9+/_-]{16}|(?:[0-9A-Fa-f]{2}[ ,:]?){8}|\\x"
    r"|(?<![A-Za-z0-9])[A-Za-z][ .\-_*/|,+~][A-Za-z](?![A-Za-z0-9])|[A-Za-z][013457@$!]+[A-Za-z]"
)


def normalise(text: str) -> NormalText:
    """Take the disguises off a text.

    Args:
        text: any text; lone surrogates and NULs are kept as they are.

    Returns:
        The raw and the cleaned text, the steps between them, and offsets. Normalising the cleaned text again
        changes nothing.
    """
    if text.isascii() and not _ASCII_TRACE.search(text) and not any(step(text) for step in _BY_WORDS):
        return NormalText(text, text)
    current, offsets, taken = text, None, []
    for _ in range(MAX_ROUNDS):
        before = current
        for name, step in STEPS.items():
            edits = step(current)
            if edits:
                offsets = follow(offsets, len(current), edits)
                current = apply_edits(current, edits)
                taken.append(Step(name))
                if name in DECODERS:
                    break
        if current == before:
            break
    if current == text:
        return NormalText(text, text)
    return NormalText(text, current, tuple(taken), _frozen(offsets))


def replay(raw: str, taken: Iterable[Step]) -> str:
    """Make the same steps again: `replay(n.raw, n.steps) == n.cleaned`.

    Raises:
        KeyError: if a step's name is not known.
    """
    for step in taken:
        raw = apply_edits(raw, STEPS[step.name](raw))
    return raw


def _frozen(offsets: Offsets | None) -> Offsets | None:
    if offsets is not None:
        for part in offsets:
            part.flags.writeable = False
    return offsets
