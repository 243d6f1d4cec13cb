"""The attacks: disguises as pure functions, each beside the steps that undo it.

`evaluate/` measures with them and `train/` plays with them. A disguise takes a text, a budget in its own unit
(a share of letters, layers of encoding, turns of talk) and a seed; the same three give the same text, a budget of
0 gives the text as it came, and no text makes it fail. What carries no harm into it carries none out of it.
"""

from __future__ import annotations

import base64 as b64
import codecs
import re
import zlib
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from wardgate.normalise.confusables import LOOKALIKES
from wardgate.normalise.covers import FILLER, FRAMES, SWITCHES, TURNS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Change = Callable[[str, float, Random], str]


@dataclass(frozen=True, slots=True)
class Disguise:
    """One attack.

    Attributes:
        name: key of `DISGUISES`.
        change: makes it: a text, a budget and a source of chance give the disguised text.
        budget: the usual amount, in `unit`.
        unit: what the budget counts.
        undone_by: the steps of `normalise` that take it off; empty when only the guard itself can withstand it.
    """

    name: str
    change: Change
    budget: float
    unit: str
    undone_by: tuple[str, ...] = ()

    def __call__(self, text: str, *, budget: float | None = None, seed: int = 0) -> str:
        """Disguise a text.

        Args:
            text: any text.
            budget: how much, in `unit`; the usual amount if None.
            seed: chooses among the ways there are. Each text has its own draw.

        Raises:
            ValueError: if the budget is negative.
        """
        amount = self.budget if budget is None else budget
        if amount < 0:
            raise ValueError(f"a budget cannot be negative: {amount}")
        if amount == 0:
            return text
        own = zlib.crc32(_utf8(text), zlib.crc32(self.name.encode()))
        return self.change(text, amount, Random((seed << 32) | own))  # noqa: S311 - a repeatable draw, not a secret


def disguise(text: str, name: str, *, budget: float | None = None, seed: int = 0) -> str:
    """Disguise a text by the attack's name; see `DISGUISES`.

    Raises:
        KeyError: if there is no such attack.
        ValueError: if the budget is negative.
    """
    return DISGUISES[name](text, budget=budget, seed=seed)


# --- letters ---------------------------------------------------------------------------------------------------

_LETTERS: dict[str, list[str]] = {}
for _foreign, _ascii in LOOKALIKES.items():
    _LETTERS.setdefault(chr(_ascii), []).append(chr(_foreign))


def homoglyph(text: str, budget: float, chance: Random) -> str:
    """Replace a share of the letters by look-alikes of other alphabets."""
    return "".join(chance.choice(_LETTERS[c]) if c in _LETTERS and chance.random() < budget else c for c in text)


_FULLWIDTH = {i: i + 0xFEE0 for i in range(0x21, 0x7F)}
_BOLD = {ord("A") + i: 0x1D400 + i for i in range(26)} | {ord("a") + i: 0x1D41A + i for i in range(26)}
_CIRCLED = {ord("A") + i: 0x24B6 + i for i in range(26)} | {ord("a") + i: 0x24D0 + i for i in range(26)}


def fancy(text: str, budget: float, chance: Random) -> str:
    """Write a share of the letters in another style: fullwidth, mathematical bold or circled."""
    style = chance.choice((_FULLWIDTH, _BOLD, _CIRCLED))
    return "".join(c.translate(style) if c.isalnum() and chance.random() < budget else c for c in text)


_ZERO_WIDTH = "\u200b\u200c\u2060\ufeff\u00ad"
_INSIDE_WORD = re.compile(r"(?<=[A-Za-z])(?=[A-Za-z])")


def zero_width(text: str, budget: float, chance: Random) -> str:
    """Put characters that show nothing into a share of the gaps between letters."""
    return _INSIDE_WORD.sub(lambda _: chance.choice(_ZERO_WIDTH) if chance.random() < budget else "", text)


def strike(text: str, budget: float, chance: Random) -> str:
    """Strike a share of the letters through with combining marks."""
    return re.sub(r"[A-Za-z]", lambda m: m[0] + ("\u0336" if chance.random() < budget else ""), text)


def backspaces(text: str, budget: float, chance: Random) -> str:
    """Type a wrong letter before a share of the letters, and take it back with a backspace."""
    wrong = "aeioulnrst"
    return re.sub(r"[A-Za-z]", lambda m: (chance.choice(wrong) + "\b" if chance.random() < budget else "") + m[0], text)


def tags(text: str, budget: float, chance: Random) -> str:
    """Write a share of the words in tag characters, which show nothing and which models still read."""
    return re.sub(r"[!-~]+", lambda m: _as_tags(m[0]) if chance.random() < budget else m[0], text)


def _as_tags(word: str) -> str:
    return "".join(chr(0xE0000 + ord(c)) for c in word)


_LEET = {"o": "0", "i": "1", "e": "3", "a": "4@", "s": "5$", "t": "7"}
_LEET_LETTER = re.compile(r"(?<=[A-Za-z])[oieastOIEAST](?=[A-Za-z])")


def leet(text: str, budget: float, chance: Random) -> str:
    """Write a share of the letters inside words as the digits and signs that look like them."""
    # A letter at a word's edge is kept: "4 kill3r" reads worse than "a k1ller", and people write the latter.
    return _LEET_LETTER.sub(
        lambda m: chance.choice(_LEET[m[0].lower()]) if chance.random() < budget else m[0],
        text,
    )


_WORD = re.compile(r"[^\W\d_]{4,}")


def spacing(text: str, budget: float, chance: Random) -> str:
    """Pull the letters of a share of the words (of four letters and more) apart."""
    sign = chance.choice(" .-_*")
    spread = _WORD.sub(lambda m: _apart(m[0], sign) if chance.random() < budget else m[0], text)
    return spread if spread == text or sign != " " else spread.strip()


def _apart(word: str, sign: str) -> str:
    # With spaces between letters, words are told apart by wider spaces, as people write it.
    return f" {sign.join(word)} " if sign == " " else sign.join(word)


_INNER = re.compile(r"[^\W\d_]{4,}")


def char_swap(text: str, budget: float, chance: Random) -> str:
    """Swap two neighbouring letters inside a share of the words (of four letters and more)."""
    return _INNER.sub(lambda m: _swapped(m[0], chance) if chance.random() < budget else m[0], text)


def _swapped(word: str, chance: Random) -> str:
    i = chance.randrange(1, len(word) - 2)
    return word[:i] + word[i + 1] + word[i] + word[i + 2 :]


def casing(text: str, budget: float, chance: Random) -> str:
    """Turn the case of a share of the letters."""
    return "".join(c.swapcase() if chance.random() < budget else c for c in text)


_EMOJI = ("🙂", "🌻", "✨", "🎈", "🚀", "🐢", "🍀", "👀", "🔥", "📎")


def emoji(text: str, budget: float, chance: Random) -> str:
    """Put emoji into a share of the gaps between words."""
    return re.sub(r"\s+", lambda m: f" {chance.choice(_EMOJI)} " if chance.random() < budget else m[0], text)


# --- encodings -------------------------------------------------------------------------------------------------


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _base64(text: str) -> str:
    return b64.b64encode(_utf8(text)).decode("ascii")


def _percent(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in _utf8(text))


def _hex(text: str) -> str:
    return _utf8(text).hex()


def base64(text: str, budget: float, _: Random) -> str:
    """Encode the whole text in base64, layer upon layer."""
    return _layers(text, budget, (_base64,))


def percent(text: str, budget: float, _: Random) -> str:
    """Percent-encode every byte, layer upon layer."""
    return _layers(text, budget, (_percent,))


def hexadecimal(text: str, budget: float, _: Random) -> str:
    """Write every byte as two hexadecimal digits, layer upon layer."""
    return _layers(text, budget, (_hex,))


def rot13(text: str, _budget: float, _: Random) -> str:
    """Turn the Latin letters by 13 places. Twice would undo it, so there is only one layer."""
    return codecs.encode(text, "rot13")


def nested(text: str, budget: float, chance: Random) -> str:
    """Encode the whole text in one encoding after another, in a random order."""
    return _layers(text, budget, chance.sample((_base64, _percent, _hex), 3))


def _layers(text: str, budget: float, encoders: Sequence[Callable[[str], str]]) -> str:
    for layer in range(round(budget)):
        text = encoders[layer % len(encoders)](text)
    return text


# --- surroundings ----------------------------------------------------------------------------------------------


def padding_before(text: str, budget: float, chance: Random) -> str:
    """Put harmless sentences before the text."""
    return "\n".join((*_filler(budget, chance), text))


def padding_after(text: str, budget: float, chance: Random) -> str:
    """Put harmless sentences after the text."""
    return "\n".join((text, *_filler(budget, chance)))


def _filler(budget: float, chance: Random) -> list[str]:
    return [chance.choice(FILLER) for _ in range(round(budget))]


def many_shot(text: str, budget: float, chance: Random) -> str:
    """Put turns of harmless questions and answers before the text."""
    shots = [chance.choice(TURNS) for _ in range(round(budget))]
    return "".join(f"User: {question}\nAssistant: {answer}\n" for question, answer in shots) + f"User: {text}"


def role_play(text: str, budget: float, chance: Random) -> str:
    """Wrap the text in frames of fiction or play, one in another."""
    for _ in range(round(budget)):
        text = chance.choice(FRAMES).replace("{}", text)
    return text


def code_switch(text: str, budget: float, chance: Random, *, table: Mapping[str, Sequence[str]] | None = None) -> str:
    """Put a share of the known words into another language, one language a text.

    Args:
        text: the text.
        budget: share of the known words, 0 to 1.
        chance: where the draws come from.
        table: word in lower case to its counterparts, one per language in a fixed order; an English school
            vocabulary in French, Spanish and German if None.
    """
    known = SWITCHES if table is None else table
    language = chance.randrange(min(map(len, known.values()), default=1))

    def switched(match: re.Match[str]) -> str:
        found = known.get(match[0].lower())
        return match[0] if found is None or chance.random() >= budget else found[language]

    return re.sub(r"[^\W\d_]+", switched, text)


_OF_LETTERS, _OF_WORDS = "share of letters", "share of words"

DISGUISES: Mapping[str, Disguise] = {
    d.name: d
    for d in (
        Disguise("homoglyph", homoglyph, 0.3, _OF_LETTERS, ("lookalikes", "nfkc")),
        Disguise("fancy", fancy, 0.8, _OF_LETTERS, ("nfkc",)),
        Disguise("zero_width", zero_width, 0.5, "share of gaps between letters", ("invisible",)),
        Disguise("strike", strike, 0.8, _OF_LETTERS, ("stacks",)),
        Disguise("backspaces", backspaces, 0.3, _OF_LETTERS, ("backspace",)),
        Disguise("tags", tags, 0.5, _OF_WORDS, ("invisible",)),
        Disguise("leet", leet, 0.7, "share of letters with a look-alike sign", ("leet",)),
        Disguise("spacing", spacing, 0.7, _OF_WORDS, ("spaced",)),
        Disguise("char_swap", char_swap, 0.5, _OF_WORDS, ("swapped",)),
        Disguise("casing", casing, 0.4, _OF_LETTERS, ("casing",)),
        Disguise("emoji", emoji, 0.5, "share of gaps between words"),
        Disguise("base64", base64, 1, "layers", ("base64",)),
        Disguise("percent", percent, 1, "layers", ("percent",)),
        Disguise("hexadecimal", hexadecimal, 1, "layers", ("hexadecimal",)),
        Disguise("rot13", rot13, 1, "layers", ("rot13",)),
        Disguise("nested", nested, 2, "layers", ("base64", "percent", "hexadecimal")),
        Disguise("padding_before", padding_before, 4, "sentences"),
        Disguise("padding_after", padding_after, 4, "sentences"),
        Disguise("many_shot", many_shot, 8, "turns"),
        Disguise("role_play", role_play, 1, "frames"),
        Disguise("code_switch", code_switch, 0.6, "share of known words"),
    )
}
"""Every attack by name. Budgets are chosen so that a person still reads the text without trouble; an encoding's
reader is a model that is asked to decode."""
