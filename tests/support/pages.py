"""What a page takes for granted: files that its reader has, made before its blocks are run."""

from __future__ import annotations

import json
from random import Random
from typing import TYPE_CHECKING

from stores import record, user
from wardgate.policy import Action, Keep
from wardgate.store import Cipher, Judgement, keep, new_key, open_store, queue, verdicts

if TYPE_CHECKING:
    from pathlib import Path


_TEXTS = ("How do I bake bread number {}?", "I will find you and hurt you, {}.")


def prepare(page: str, folder: Path) -> None:
    """Make what a page needs; most need nothing."""
    for make in _NEEDED.get(page, ()):
        make(folder)


def _labelled(folder: Path) -> None:
    rows = [{"text": text.format(i), "unsafe": unsafe} for i in range(60) for unsafe, text in enumerate(_TEXTS)]
    (folder / "labelled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _traffic(folder: Path) -> None:
    rows = [{"text": f"Where is the {word} station?"} for word in ("next", "old", "main", "last")] * 10
    (folder / "traffic.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _judged(folder: Path) -> None:
    """A store with 400 automatic decisions, all of which a person found right."""
    key = new_key()
    (folder / "store.key").write_text(key + "\n")
    (folder / "store.key").chmod(0o600)
    store = open_store(str(folder / "wardgate.db"), cipher=Cipher.from_text([key]))
    rita, all_looked_at = user(store, "rita"), Keep("always", sample=1.0)
    for number in range(400):
        action, unsafe = (Action.BLOCK, 0.99) if number % 2 else (Action.ALLOW, 0.01)
        text = _TEXTS[number % 2].format(number)
        told = record(str(number), text, keep=all_looked_at, action=action, unsafe=unsafe)
        keep(store, [told], draw=Random(number))
        item = queue.claim(store, rita)
        said = Judgement("unsafe", ("hate",)) if number % 2 else Judgement("safe")
        verdicts.judge(store, rita, item.id, item.claim, said)
    store.close()


_NEEDED = {
    "docs/calibration.md": (_labelled, _traffic),
    "docs/review.md": (_judged,),
    "docs/store.md": (_judged,),
}
