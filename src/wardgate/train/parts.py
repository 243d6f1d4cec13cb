"""Long readings, kept part by part, so that an interrupted one goes on."""

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


def in_parts(texts: Sequence[str], folder: Path, read: Callable[[Sequence[str], int], NDArray[Any]]) -> NDArray[Any]:
    """What `read` makes of texts; parts that stand in `folder` are not read again.

    A part is told by its texts, so that other texts in the same folder are read anew.

    Args:
        texts: what is read.
        folder: where the parts are written, as NumPy files; one folder for each way of reading.
        read: called with the texts of a part and how many came before; gives a row a text.

    Returns:
        The rows, in the order of the texts.
    """
    folder.mkdir(exist_ok=True)
    parts: list[NDArray[Any]] = []
    for start in range(0, len(texts), PART):
        part = texts[start : start + PART]
        digest = hashlib.sha256("\0".join(part).encode("utf-8", "surrogatepass")).hexdigest()
        path = folder / f"{start // PART}-{digest[:16]}.npy"
        if not path.exists():
            with path.with_suffix(".new").open("wb") as file:
                np.save(file, read(part, start))
            path.with_suffix(".new").replace(path)
        parts.append(np.load(path))
    return np.concatenate(parts)
