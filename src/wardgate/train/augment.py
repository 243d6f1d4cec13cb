"""How the built-in guard is shown its training texts: mistyped, wrapped, attacked, joined, cut to a window, batched."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import torch

from wardgate.guards.batching import plan_batches
from wardgate.normalise.disguise import DISGUISES, disguise
from wardgate.train.written import wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from wardgate.train.mini import Settings, Split


TOGETHER = 480
"""Letters of two texts joined: about what a window of 160 tokens holds."""


def augmented(
    index: int, split: Split, rng: random.Random, attacks: float
) -> tuple[str, NDArray[np.float32], NDArray[np.float32]]:
    """One training text, sometimes with typing slips, wrapped, under an attack, or beside a harmless neighbour.

    A harmful text stays harmful beside a harmless one, and a harmless one harmless.
    """
    text, value, weight = split.texts[index], split.values[index], split.weights[index]
    roll = rng.random()
    if roll < 0.12:
        text = _beside(text, split, rng)
    elif roll < 0.20:
        text = rng.choice((str.lower, str.upper, str.title, str.swapcase))(text)
    elif roll < 0.27:
        text = _typing_slips(text, rng)
    elif roll < 0.32:
        text = text.rstrip(".!? ")
    elif roll < 0.42:
        text = wrapped(text, rng)
    elif roll < 0.42 + attacks:
        text = attacked(text, rng, safe=value[-1] == 0)
    return text, value, weight


def _beside(text: str, split: Split, rng: random.Random) -> str:
    """A text before or after a harmless one, of which as much as fits into a window is kept, next to the text."""
    drawn = [rng.randrange(len(split.texts)) for _ in range(rng.choice((1, 6)))]
    harmless = [split.texts[i] for i in drawn if split.values[i, -1] == 0 and split.weights[i, -1] == 1]
    room = TOGETHER - len(text)
    if not harmless or room < 60:
        return text
    other = max(harmless, key=len)  # of one or of six: a long text with a short request at its end is common
    pair = [text, other[:room]] if rng.random() < 0.5 else [other[-room:], text]
    return rng.choice(("\n", " ", "\n\n")).join(pair)


def attacked(text: str, rng: random.Random, *, safe: bool) -> str:
    """One attack of the suite, at its usual budget.

    What the normaliser takes off is shown on safe texts alone: an unsafe one is caught in its cleaned view, and its raw
    view could only teach that garble is unsafe. Swapped letters are shown on both: it leaves a few of them as slips.
    """
    names = [d.name for d in DISGUISES.values() if safe or not d.undone_by or d.name == "char_swap"]
    return disguise(text, rng.choice(names), seed=rng.getrandbits(16))


def _typing_slips(text: str, rng: random.Random) -> str:
    chars = list(text)
    for _ in range(max(1, len(chars) // 25)):
        i = rng.randrange(len(chars)) if chars else 0
        if i + 1 < len(chars) and chars[i].isalpha() and chars[i + 1].isalpha():
            kind = rng.random()
            if kind < 0.4:
                chars[i], chars[i + 1] = chars[i + 1], chars[i]
            elif kind < 0.7:
                chars[i] = ""
            else:
                chars[i] *= 2
    return "".join(chars)


def batches(
    split: Split, tokenizer: Tokenizer, settings: Settings, epoch: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Padded batches of one epoch, grouped by length under the token budget, in an order that the seed fixes."""
    rng = random.Random(f"{settings.seed}:{epoch}")  # noqa: S311 - sampling, not secrets
    order = list(range(len(split.texts)))
    rng.shuffle(order)
    for start in range(0, len(order), 4096):
        chosen = order[start : start + 4096]
        rows = [augmented(i, split, rng, settings.attacks) for i in chosen]
        ids = [
            _window(e.ids, tokenizer, split.texts[i], settings.max_tokens, rng, unsafe=bool(value[-1] == 1))
            for e, i, (_, value, _) in zip(tokenizer.encode_batch([r[0] for r in rows]), chosen, rows, strict=True)
        ]
        groups = plan_batches([len(i) for i in ids], settings.batch_tokens)
        rng.shuffle(groups)
        for group in groups:
            width = max(len(ids[i]) for i in group)
            tokens = torch.tensor([ids[i] + [1] * (width - len(ids[i])) for i in group])
            values = torch.from_numpy(np.stack([rows[i][1] for i in group]))
            weights = torch.from_numpy(np.stack([rows[i][2] for i in group]))
            yield tokens, (tokens != 1).long(), values, weights


def _window(
    ids: list[int], tokenizer: Tokenizer, plain: str, most: int, rng: random.Random, *, unsafe: bool
) -> list[int]:
    """At most `most` tokens of a text: any stretch of a safe one, only the start of an unsafe one.

    What makes a long text unsafe may be outside a stretch from its middle, or pushed out by what an augmentation put in
    front; shown anyway, it would teach that ordinary passages are unsafe. So an unsafe text that outgrew the window is
    shown as it was.
    """
    if len(ids) <= most:
        return ids
    start = 1
    if unsafe:
        ids = tokenizer.encode(plain).ids
    elif rng.random() > 0.6:
        start = rng.randrange(1, len(ids) - most + 2)
    return [ids[0], *ids[start : start + most - 2], ids[-1]] if len(ids) > most else ids
