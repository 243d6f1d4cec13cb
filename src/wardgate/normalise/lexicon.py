"""The words that some steps know."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

WORD = re.compile(r"(?<![^\W_])[A-Za-z\u00c0-\u024f]{4,24}(?![^\W_])")
"""Words in Latin letters that are long enough to be told apart by their letters."""


@cache
def known_words() -> frozenset[str]:
    """Frequent words of four letters and more, in small letters, of English and six other languages in Latin letters.

    `scripts/list_words.py` makes the list.
    """
    return frozenset((files("wardgate.normalise") / "words.txt").read_text("utf-8").split())
