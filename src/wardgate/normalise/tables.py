"""Character tables of the normaliser, each with its source."""

from __future__ import annotations

# Default-ignorable characters (Unicode DerivedCoreProperties) and other marks that show nothing: soft hyphen,
# grapheme joiner, Hangul fillers, Mongolian separators, zero-width and bidi controls, word joiner and invisible
# operators, deprecated format characters, variation selectors, BOM, interlinear annotations, tags.
_INVISIBLE_RANGES = (
    (0x00AD, 0x00AD),
    (0x034F, 0x034F),
    (0x061C, 0x061C),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x200B, 0x200F),
    (0x202A, 0x202E),
    (0x2060, 0x206F),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0),
    (0xFFF9, 0xFFFB),
    (0xE0000, 0xE0FFF),
)
INVISIBLE = "".join(f"{chr(a)}-{chr(b)}" if a != b else chr(a) for a, b in _INVISIBLE_RANGES)
"""Body of a regular-expression class."""

MARKS = "\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
"""Combining marks that no script needs more than two of: the five "Combining …" blocks."""

OVERLAYS = "\u0334-\u0338\u20d2\u20d3\u20d8-\u20da\u20e5\u20e6\u20ea\u20eb"
"""Combining marks that strike a letter through."""

LEET = str.maketrans("013457@$!€", "oieastasie")
"""Digits and signs read as letters. 2, 6, 8 and 9 are left out: codes use them more than people do."""

_BLOOD_TYPES_AND_PARKING = {0x1F170, 0x1F171, 0x1F17E, 0x1F17F}  # ordinary emoji
SQUARED = {
    base + i: chr(ord("a") + i)
    for base in (0x1F150, 0x1F170)
    for i in range(26)
    if base + i not in _BLOOD_TYPES_AND_PARKING
}
"""Negative circled and squared letters, which NFKC leaves alone."""
