"""Long readings, kept part by part, so that an interrupted one goes on, and none is done twice."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

PART = 16_384
"""Texts whose reading is kept together."""


def in_parts(
    texts: Sequence[str], folder: Path, reader: str, read: Callable[[Sequence[str], int, int], NDArray[Any]]
) -> NDArray[Any]:
    """What `read` makes of texts. Texts that this reader has read into `folder` before are not read again.

    Args:
        texts: what is read.
        folder: where parts are kept, as NumPy files.
        reader: tells ways of reading apart, as a digest of the model and its settings does.
        read: called with the texts of a part, how many came before, and how many there are to read; gives a row a text.

    Returns:
        The rows, in the order of the texts.
    """
    folder.mkdir(exist_ok=True)
    names = [hashlib.sha256(f"{reader}\0{t}".encode("utf-8", "surrogatepass")).hexdigest()[:32] for t in texts]
    missing, kept = dict(zip(names, texts, strict=True)), []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as part:
            found = part["names"].tolist()
        if not missing.keys().isdisjoint(found):
            kept.append(path)
            for name in found:
                missing.pop(name, None)
    todo = list(missing)
    for start in range(0, len(todo), PART):
        some = todo[start : start + PART]
        path = folder / f"{some[0][:16]}-{len(some)}.npz"
        with path.with_suffix(".new").open("wb") as file:
            np.savez(file, names=some, rows=read([missing[name] for name in some], start, len(todo)))
        kept.append(path.with_suffix(".new").replace(path))
    return _gathered(kept, names)


def _gathered(paths: Sequence[Path], names: Sequence[str]) -> NDArray[Any]:
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name, []).append(place)
    out: NDArray[Any] | None = None
    for path in paths:
        with np.load(path) as part:
            rows = part["rows"]
            pairs = [(at, i) for i, name in enumerate(part["names"].tolist()) for at in places.get(name, ())]
        if out is None:
            out = np.empty((len(names), *rows.shape[1:]), rows.dtype)
        to, of = zip(*pairs, strict=True)
        out[list(to)] = rows[list(of)]
    if out is None:
        raise ValueError("there are no texts to read")
    return out
