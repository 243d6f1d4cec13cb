"""Long readings, kept part by part, so that an interrupted one goes on."""

from __future__ import annotations

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

    Args:
        texts: what is read.
        folder: where the parts are written, as NumPy files.
        read: called with the texts of a part and how many came before; gives a row a text.

    Returns:
        The rows, in the order of the texts.
    """
    folder.mkdir(exist_ok=True)
    parts: list[NDArray[Any]] = []
    for start in range(0, len(texts), PART):
        path, part = folder / f"{start // PART}.npy", texts[start : start + PART]
        kept = np.load(path) if path.exists() else None
        if kept is None or len(kept) != len(part):
            kept = read(part, start)
            with path.with_suffix(".new").open("wb") as file:
                np.save(file, kept)
            path.with_suffix(".new").replace(path)
        parts.append(kept)
    return np.concatenate(parts)
