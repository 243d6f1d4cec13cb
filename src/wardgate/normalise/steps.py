"""The steps that look at characters and words. Each is a pure function from a text to the edits it would make."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from wardgate.normalise.confusables import LOOKALIKES
from wardgate.normalise.edits import Edit
from wardgate.normalise.lexicon import known_words
from wardgate.normalise.tables import INVISIBLE, LEET, MARKS, OVERLAYS, SQUARED

_CONTROL_RUN = re.compile(r"[\b\x7f]+")


def backspace(text: str) -> list[Edit]:
    """Carry out backspaces, so that a letter typed over reads as it shows. One with nothing to delete is dropped."""
    edits: list[Edit] = []
    floor = 0
    for match in _CONTROL_RUN.finditer(text):
        start = max(floor, match.start() - len(match[0]))
        # Deleting back over a stretch that is itself deleted already would cross the edit before.
        owed = len(match[0]) - (match.start() - start)
        while owed > 0 and edits:
            previous = edits.pop()
            start = max(edits[-1].end if edits else 0, previous.start - owed)
            owed -= previous.start - start
        edits.append(Edit(start, match.end(), ""))
        floor = match.end()
    return edits


_INVISIBLE_RUN = re.compile(f"[{INVISIBLE}]+")
_TAGS = range(0xE0020, 0xE007F)
_FLAG, _CANCEL_TAG = "\U0001f3f4", "\U000e007f"
_JOINERS = "\u200c\u200d"
# Scripts where a joiner changes how letters are written: Arabic, and Brahmic scripts from Devanagari to Sinhala,
# Myanmar, Khmer, Mongolian.
_JOINING = re.compile(r"[\u0600-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u18af]")


def invisible(text: str) -> list[Edit]:
    """Drop characters that show nothing; spell out tag characters, which smuggle ASCII.

    Kept are joiners inside emoji and in scripts that need them, variation selectors on symbols, and the tag
    sequences of flags.
    """
    edits = []
    for match in _INVISIBLE_RUN.finditer(text):
        start, end = match.span()
        before = text[start - 1] if start else ""
        after = text[end] if end < len(text) else ""
        replacement = _kept(match[0], before, after)
        if replacement != match[0]:
            edits.append(Edit(start, end, replacement))
    return edits


def _kept(run: str, before: str, after: str) -> str:
    if before == _FLAG and run.endswith(_CANCEL_TAG) and all(ord(c) in _TAGS for c in run[:-1]):
        return run
    if len(run) <= 2 and _is_symbol(before) and run[0] == "\ufe0f" and (run[1:] == "" or _is_symbol(after)):
        return run if run[1:] in ("", "\u200d") else "\ufe0f"
    if run == "\u200d" and _is_symbol(before) and _is_symbol(after):
        return run
    if len(run) == 1 and run in _JOINERS and _JOINING.match(before) and (run == "\u200d" or _JOINING.match(after)):
        return run
    return "".join(chr(ord(c) - 0xE0000) for c in run if ord(c) in _TAGS)


def _is_symbol(char: str) -> bool:
    """Emoji, keycap bases and other signs that variation selectors and joiners belong to."""
    return bool(char) and (unicodedata.category(char) in ("So", "Sk", "Sm", "Po", "Mn") or char in "#*0123456789‼⁉")


_STACK = re.compile(f"[{MARKS}]{{3,}}|[{OVERLAYS}]+")


def stacks(text: str) -> list[Edit]:
    """Drop stacks of three and more combining marks, and marks that strike letters through."""
    return [Edit(m.start(), m.end(), "") for m in _STACK.finditer(text)]


def nfkc(text: str) -> list[Edit]:
    """Unicode compatibility normalisation (UAX 15), one cluster at a time so that spans can be followed."""
    if text.isascii() or unicodedata.is_normalized("NFKC", text):
        return []
    chars = set(text)
    folded = {c: f for c in chars if not c.isascii() and (f := unicodedata.normalize("NFKC", c)) != c}
    tail = [c for c in chars if unicodedata.combining(c) or "\u1160" <= c <= "\u11ff" or c in "\u3099\u309a"]
    # A cluster is a starter with what may compose with it; a lone folded character is a cluster too.
    pattern = "|".join(
        part
        for part in (
            f"(?s:.)[{''.join(map(re.escape, tail))}]+" if tail else "",
            f"[{''.join(map(re.escape, folded))}]" if folded else "",
        )
        if part
    )
    if not pattern:
        return []
    edits = []
    for match in re.finditer(pattern, text):
        new = folded.get(match[0]) or unicodedata.normalize("NFKC", match[0])
        if new != match[0]:
            edits.append(Edit(match.start(), match.end(), new))
    return edits


_WORD = re.compile(r"[^\W\d_]+")
_SQUARED_RUN = re.compile(f"[{''.join(map(chr, SQUARED))}\U0001f170\U0001f171\U0001f17e\U0001f17f]{{3,}}")
_INDICATORS = re.compile("(?:[\U0001f1e6-\U0001f1ff][ \u2009]?){3,}")
_ANY_LOOKALIKE = re.compile(f"[{''.join(re.escape(chr(c)) for c in LOOKALIKES)}]")
_ASCII_WORD = re.compile(r"[A-Za-z]{3,}")


def lookalikes(text: str) -> list[Edit]:
    """Fold look-alike letters (Unicode TR39) where they stand among Latin ones.

    A word is folded when it mixes Latin letters with look-alikes, or is made of look-alikes alone in a text that
    is otherwise in Latin letters. Ordinary Russian or Greek is left as it is, and so is a word that holds a letter
    which looks like nothing Latin.
    """
    if text.isascii():
        return []
    edits = [Edit(m.start(), m.end(), m[0].translate(_BLOCK_LETTERS)) for m in _SQUARED_RUN.finditer(text)]
    if _ANY_LOOKALIKE.search(text):
        latin_around = len(_ASCII_WORD.findall(text[:4000])) >= 2
        edits += [e for m in _WORD.finditer(text) if (e := _folded_word(m, latin=latin_around))]
    return sorted(edits)


_BLOCK_LETTERS = SQUARED | {0x1F170: "a", 0x1F171: "b", 0x1F17E: "o", 0x1F17F: "p"}


def _folded_word(match: re.Match[str], *, latin: bool) -> Edit | None:
    word = match[0]
    if word.isascii():
        return None
    new = word.translate(LOOKALIKES)
    if new == word or not all(c.isascii() or _is_latin(c) for c in new):
        return None
    has_latin = any(c.isascii() for c in word)
    greek_in_a_term = has_latin and sum(_is_greek(c) for c in word) == 1 and (_is_greek(word[0]) or _is_greek(word[-1]))
    if greek_in_a_term or not (has_latin or (latin and len(word) > 2)):
        return None
    return Edit(match.start(), match.end(), new)


def _is_latin(char: str) -> bool:
    return "\u00c0" <= char <= "\u024f" or "\u1e00" <= char <= "\u1eff"


def _is_greek(char: str) -> bool:
    return "\u0370" <= char <= "\u03ff"


# Single letters with one and the same mark or space between them; a wider space parts words.
_LETTER = r"(?<![^\W_])[^\W\d_](?![^\W_])"
_SPACED = re.compile(rf"{_LETTER}(?:([ .\-_*/|·•,+~]){_LETTER})(?:(?:\1|(?: {{2,4}})){_LETTER}){{2,}}")
_GAP = re.compile(r" {2,4}")


def spaced(text: str) -> list[Edit]:
    """Join letters that were pulled apart: `k i l l` reads `kill`.

    At least four letters with the same sign between them; the alphabet itself, initials with dots, and letters
    outside alphabets (one character can be a word in Chinese) stay as they are.
    """
    edits = []
    for match in _SPACED.finditer(text):
        words = [re.sub(r"[\W_]", "", part) for part in (_GAP.split(match[0]) if match[1] == " " else [match[0]])]
        letters = "".join(words)
        if _is_listing(letters) or not all(_alphabetic(c) for c in letters):
            continue
        if match[1] in ".," and letters.isupper() and len(letters) <= 6:
            continue
        edits.append(Edit(match.start(), match.end(), " ".join(words)))
    return edits


def _is_listing(letters: str) -> bool:
    """Whether the letters run through the alphabet, or are two letters again and again, as in lists and grids."""
    if len(set(letters.lower())) < 3:
        return True
    steps = [ord(b) - ord(a) for a, b in zip(letters.lower(), letters.lower()[1:], strict=False)]
    return sum(step in (0, 1) for step in steps) >= len(steps) / 2


def _alphabetic(char: str) -> bool:
    return char < "\u0590" or "\u1e00" <= char <= "\u1fff"


_LEET_TOKEN = re.compile(r"[a-zA-Z\u00c0-\u024f013457@$!€]{3,}")
_INSIDE = re.compile(r"[a-z\u00c0-\u024f][013457@$!€]+(?=[a-z\u00c0-\u024f])", re.IGNORECASE)


def leet(text: str) -> list[Edit]:
    """Read digits and signs as letters where they stand in for them: `k1ll` reads `kill`.

    In a text with few such words only those are read that hold two substitutes between letters or make a known
    word; where a quarter of the words has one, all are. Codes such as mp3, b2b, h264, log4j or i18n stay as they are.
    """
    candidates = [m for m in _LEET_TOKEN.finditer(text) if _maybe_leet(text, m)]
    if not candidates:
        return []
    words = len(text.split())
    widespread = len(candidates) >= 2 and len(candidates) * 4 >= words
    edits = []
    for match in candidates:
        core = match[0].rstrip("!")
        new = core.translate(LEET)
        if new != core and (widespread or len(_INSIDE.findall(match[0])) >= 2 or _spells_a_word(core, new)):
            edits.append(Edit(match.start(), match.start() + len(core), new))
    return edits


def _spells_a_word(core: str, new: str) -> bool:
    """A known word of which two thirds are written in letters (l10n is no lion)."""
    return sum(c.isalpha() for c in core) * 3 >= len(core) * 2 and new.lower() in known_words()


def _maybe_leet(text: str, match: re.Match[str]) -> bool:
    """A whole token of letters and substitutes, more letters than substitutes allow a code to have."""
    start, end = match.span()
    if (start and (text[start - 1].isalnum() or text[start - 1] in "_#@/\\=.:-")) or (
        end < len(text) and (text[end].isalnum() or text[end] in "_@/\\=:-")
    ):
        return False
    if text[end : end + 1] == "." and text[end + 1 : end + 2].isalnum():
        return False  # the name of a host or file
    core = match[0].rstrip("!")
    letters = sum(c.isalpha() for c in core)
    return bool(_INSIDE.search(core)) and core[0] not in "@$" and letters * 2 >= len(core) and not core[:-1].isupper()


_LOWER, _UPPER = "a-z\u00df-\u00f6\u00f8-\u00ff", "A-Z\u00c0-\u00d6\u00d8-\u00de"
_L, _U = f"[{_LOWER}]", f"[{_UPPER}]"
_HUMP = re.compile(_L + _U)
_SMALL = {ord(c): c.lower() for c in map(chr, range(0xDF)) if re.match(_U, c)}
_CASED_WORD = re.compile(f"[{_LOWER}{_UPPER}]{{2,}}")
_PARTS = re.compile(f"{_U}*{_L}+|{_U}+")
_ORDINARY_CASE = re.compile(
    # Sentences, acronyms, HTMLparser; camelCase, userID, CamelCase.
    f"{_U}?{_L}+|{_U}+s?|{_U}{{2,}}{_L}{{2,}}"
    f"|{_L}+(?:{_U}{_L}{{2,}})+(?:{_U}{{2,3}})?|{_L}{{2,}}{_U}{{2,3}}|(?:{_U}{_L}{{2,}})+"
)


def casing(text: str) -> list[Edit]:
    """Lower the letters of a text whose case was turned at random: `hElLo WorLD` reads `hello world`.

    Only where three words or more, and a third of all, have a case that neither sentences nor acronyms nor
    identifiers have.
    """
    if not _HUMP.search(text):
        return []
    words = _CASED_WORD.findall(text)
    odd = sum(n for word, n in Counter(words).items() if _oddly_cased(word))
    if odd < 3 or odd * 3 < len(words):
        return []
    return [Edit(0, len(text), text.translate(_SMALL))]


def _oddly_cased(word: str) -> bool:
    """A case that no word, acronym or identifier has, or that of an identifier whose parts are none (`cReate`)."""
    if not _ORDINARY_CASE.fullmatch(word):
        return True
    if not _HUMP.search(word) or word.lower() not in known_words():
        return False
    return any(len(part) >= 4 and part.lower() not in known_words() for part in _PARTS.findall(word))
