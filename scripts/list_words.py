"""Write the words that the normaliser knows (`src/wardgate/normalise/words.txt`).

    python scripts/list_words.py --data POOL

POOL holds the training pool's `*.jsonl.gz`. Words of four letters and more are taken from the written requests of this
package (twice in English, once in other languages in Latin letters), from the pieces of `mini`'s tokenizer that are
whole words, and from the pool, where at least six texts have them. A rare word that is twenty times as frequent with
two neighbouring letters exchanged is a slip of the pen and left out.
"""

from __future__ import annotations

import argparse
from collections import Counter
from importlib.resources import files
from pathlib import Path

from tokenizers import Tokenizer

from wardgate.data.pool import read_pool
from wardgate.normalise.lexicon import WORD
from wardgate.normalise.swapping import twins
from wardgate.train.written import requests

OUT = Path(__file__).parents[1] / "src/wardgate/normalise/words.txt"
LATIN = frozenset(["en", "de", "fr", "es", "it", "pt", "nl"])
IN_POOL = 6
"""Texts of the pool that have a word before it counts."""
RARE, SLIP = 12, 20
"""A slip of the pen is in fewer texts than this, and a twin of it in so many times as many."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    given = parser.parse_args()
    written, elsewhere, pool = Counter[str](), Counter[str](), Counter[str]()
    for example in requests():
        if example.language in LATIN:
            (written if example.language == "en" else elsewhere).update(_words(example.text))
    for example in read_pool(given.data):
        if example.language in LATIN:
            pool.update(_words(example.text))
    tokenizer = Tokenizer.from_file(str(files("wardgate") / "bundles/mini/tokenizer.json"))
    pieces = {word for piece in tokenizer.get_vocab() if piece[:1] == "▁" for word in _words(piece[1:])}
    often = written + elsewhere + pool
    known = pieces | {w for w in often if written[w] >= 2 or elsewhere[w] or pool[w] >= IN_POOL}
    slips = {w for w in known if often[w] < RARE and any(often[t] > SLIP * often[w] for t in twins(w))}
    kept = sorted(known - slips)
    OUT.write_text("\n".join(kept) + "\n", "utf-8")
    print(f"{len(kept)} words, {OUT.stat().st_size / 1e6:.2f} MB; {len(slips)} slips left out")


def _words(text: str) -> set[str]:
    return set(WORD.findall(text.lower()))


if __name__ == "__main__":
    main()
