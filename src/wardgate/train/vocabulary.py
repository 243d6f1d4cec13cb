"""Trims a Unigram tokenizer to the pieces that the served languages need."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SPECIAL = 4
"""XLM-R's first four pieces are special: <s>, <pad>, </s>, <unk>."""

_SCRIPT_SHARE = {"ARABIC": 0.07, "CYRILLIC": 0.1, "DEVANAGARI": 0.03, "CJK": 0.12, "HIRAGANA": 0.01, "KATAKANA": 0.01}
_SCRIPT_SHARE |= {"HANGUL": 0.045, "GREEK": 0.005, "THAI": 0.03}
"""Places that a script has at least, whatever the texts use: a language that the training texts have little of would
else be read letter by letter. The rest is Latin."""


def script_of(piece: str) -> str:
    """The script of the first letter of a piece, as Unicode names it; empty for pieces without letters."""
    for char in piece.lstrip("▁"):
        if char.isalpha():
            return unicodedata.name(char, "?").split(maxsplit=1)[0].split("-", 1)[0]
    return ""


def choose_pieces(tokenizer: Tokenizer, texts: Iterable[str], size: int) -> list[int]:
    """Choose the token ids to keep: special pieces, what the texts use, single letters, and each script's likeliest.

    Pieces of a Unigram model carry log-probabilities, so "likeliest" is read off the model itself. What the texts use
    but once comes after each script's share.

    Args:
        tokenizer: the full tokenizer.
        texts: training texts.
        size: how many pieces to keep in all.

    Returns:
        `size` old ids in ascending order.
    """
    used: Counter[int] = Counter()
    batch = list(texts)
    for start in range(0, len(batch), 2048):
        for encoding in tokenizer.encode_batch(batch[start : start + 2048]):
            used.update(encoding.ids)
    vocabulary = json.loads(tokenizer.to_str())["model"]["vocab"]
    scripts = [script_of(piece) for piece, _ in vocabulary]
    ranked = sorted(range(SPECIAL, len(vocabulary)), key=lambda i: -vocabulary[i][1])
    keep = dict.fromkeys(range(SPECIAL))
    keep |= dict.fromkeys(i for i, count in used.most_common() if count > 1)
    keep |= dict.fromkeys(i for i in ranked if len(vocabulary[i][0]) == 1 and scripts[i] in {"LATIN", *_SCRIPT_SHARE})
    have = Counter(scripts[i] for i in list(keep)[:size])
    for script, share in _SCRIPT_SHARE.items():
        likeliest = (i for i in ranked if scripts[i] == script and i not in keep)
        keep |= dict.fromkeys(islice(likeliest, max(0, int(size * share) - have[script])))
    keep |= dict.fromkeys(used)
    keep |= dict.fromkeys(i for i in ranked if scripts[i] in {"LATIN", ""})
    return sorted(islice(keep, size))


def trimmed(tokenizer: Tokenizer, keep: list[int]) -> Tokenizer:
    """The same tokenizer with only the kept pieces, renumbered in the order given."""
    spec = json.loads(tokenizer.to_str())
    vocabulary = spec["model"]["vocab"]
    new_id = {old: new for new, old in enumerate(keep)}
    spec["model"]["vocab"] = [vocabulary[old] for old in keep]
    spec["model"]["unk_id"] = new_id[spec["model"]["unk_id"]]
    for added in spec["added_tokens"]:
        added["id"] = new_id[added["id"]]
    for special in spec["post_processor"]["special_tokens"].values():
        special["ids"] = [new_id[i] for i in special["ids"]]
    spec["truncation"] = spec["padding"] = None
    return Tokenizer.from_str(json.dumps(spec))


def save_compact(tokenizer: Tokenizer, path: Path) -> None:
    """Write the tokenizer as JSON without white space, scores to four decimals."""
    spec = json.loads(tokenizer.to_str())
    spec["model"]["vocab"] = [[piece, round(score, 4)] for piece, score in spec["model"]["vocab"]]
    path.write_text(json.dumps(spec, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
