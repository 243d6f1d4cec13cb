from __future__ import annotations

import itertools
import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from machine import slowness
from wardgate.normalise import normalise, replay
from wardgate.normalise.edits import Edit, apply_edits, follow
from wardgate.normalise.normaliser import STEPS

CASES = Path(__file__).parent / "cases"


def cases(name):
    return [pytest.param(c, id=c["label"]) for c in json.loads((CASES / f"{name}.json").read_text("utf-8"))]


@pytest.mark.parametrize("case", cases("negative"))
def test_ordinary_text_is_left_alone(case):
    assert normalise(case["text"]).cleaned == case["text"]


@pytest.mark.parametrize("case", cases("synthetic"))
def test_disguise_is_taken_off(case):
    assert normalise(case["text"]).cleaned == case["cleaned"]


# Letters, and everything that some step cares about.
TRICKY = st.text(
    alphabet=st.one_of(
        st.sampled_from("abcehiklortABC 0134579%@$!._-\b\x7f\x00\ud800"),
        st.sampled_from(
            "\u200b\u200d\u2066\u00ad\ufe0f\u0336\u0301\u0315аеоαοкд❤👩🏴ｋ𝐤ﬁ½한\u1161हमِ\U000e0068\U000e007f"
        ),
        st.characters(),
    ),
    max_size=60,
)
WRAPPED = st.sampled_from(
    ["aG93IHRvIGJha2UgYSBjYWtl", "%68%65%6c%6c%6f", "686f7720746f2062616b65", "b r e a d", "ch33s3"]
)
TEXTS = st.lists(st.one_of(TRICKY, WRAPPED), max_size=4).map("".join)


@given(TEXTS)
@settings(max_examples=600, deadline=None)
def test_normal_text_keeps_its_promises(text):
    n = normalise(text)
    assert n.raw == text
    assert replay(text, n.steps) == n.cleaned
    assert normalise(n.cleaned).cleaned == n.cleaned
    assert n.changed == (n.offsets is not None)
    for i in range(len(n.cleaned)):
        start, end = n.raw_span(i, i + 1)
        assert 0 <= start <= end <= len(text)
    if n.offsets is not None:
        starts, ends = n.offsets
        assert len(starts) == len(ends) == len(n.cleaned)
        assert all(a <= b for a, b in itertools.pairwise(starts))


@given(TEXTS, st.data())
def test_characters_that_no_step_touched_map_to_themselves(text, data):
    n = normalise(text)
    if not n.cleaned:
        return
    i = data.draw(st.integers(0, len(n.cleaned) - 1))
    start, end = n.raw_span(i, i + 1)
    if end - start == 1 and not {"nfkc", "lookalikes", "leet", "rot13", "invisible", "casing", "swapped"} & {
        s.name for s in n.steps
    }:
        assert text[start] == n.cleaned[i]


@given(
    st.text("abcdef", max_size=20),
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3), st.text("XY", max_size=3))),
)
def test_offsets_follow_edits_like_a_slow_reference(text, raw):
    edits, at = [], 0
    for start, length, new in sorted(raw):
        if start >= at and start + length <= len(text) and length:
            edits.append(Edit(start, start + length, new))
            at = start + length
    expected = []
    at = 0
    for e in edits:
        expected += [(i, i + 1) for i in range(at, e.start)]
        same = len(e.replacement) == e.end - e.start
        expected += [(e.start + j, e.start + j + 1) if same else (e.start, e.end) for j in range(len(e.replacement))]
        at = e.end
    expected += [(i, i + 1) for i in range(at, len(text))]
    starts, ends = follow(None, len(text), edits)
    assert list(zip(starts.tolist(), ends.tolist(), strict=True)) == expected
    assert len(apply_edits(text, edits)) == len(expected)


MEGABYTE = 1_000_000
_LETTERS = str.maketrans("0123456789", "ghijklmnop")
HOSTILE = {
    "backspaces": "a\b" * (MEGABYTE // 2),
    "all backspaces last": "a" * (MEGABYTE // 2) + "\b" * (MEGABYTE // 2),
    "zero width": "a\u200b" * (MEGABYTE // 4),
    "marks": "a" + "\u0301" * (MEGABYTE // 2),
    "marked letters": "e\u0301" * (MEGABYTE // 3),
    "look-alikes": "kе " * (MEGABYTE // 4),
    "one word of look-alikes": "kе" * (MEGABYTE // 3),
    "spaced letters": "a k " * (MEGABYTE // 4),
    "dots": "." * MEGABYTE,
    "leet": "k1ll " * (MEGABYTE // 5),
    "digits": "1a" * (MEGABYTE // 2),
    "percent": "%41" * (MEGABYTE // 3),
    "nested percent": "%" + "25" * (MEGABYTE // 2) + "41",
    "broken percent": "%4" * (MEGABYTE // 2),
    "base64 runs": "aG93IHRvIGJha2UgYSBjYWtl " * (MEGABYTE // 25),
    "base64 alphabet": "Ab1" * (MEGABYTE // 3),
    "hex": "41" * (MEGABYTE // 2),
    "hex spaced": "41 " * (MEGABYTE // 3),
    "nfkc": "ﬁ" * (MEGABYTE // 3),
    "mathematical": "𝐤" * (MEGABYTE // 4),
    "words": "the people " * (MEGABYTE // 11),
    "rot13": "gur crbcyr " * (MEGABYTE // 11),
    "url": "https://" + "a%41" * (MEGABYTE // 4),
    "tags": "\U000e0041" * (MEGABYTE // 4),
    "case": "aBcDe " * (MEGABYTE // 6),
    "one word of turned case": "aB" * (MEGABYTE // 2),
    "swapped letters": "bkae berda plesae " * (MEGABYTE // 18),
    "unknown words": " ".join(f"{i:x}".translate(_LETTERS).ljust(24, "q") for i in range(MEGABYTE // 25)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_megabyte_takes_under_two_seconds(name):
    text = HOSTILE[name]
    spent = []
    for _ in range(2):  # the better of two: a shared machine can only slow a run down
        started = time.process_time()
        normalise(text)
        spent.append(time.process_time() - started)
    # At most 1.2 seconds on a quiet core (docs/normalise.md); a neighbour on its other half doubles that, and a step
    # that is not linear takes minutes.
    assert min(spent) < 2.5 * slowness()


@pytest.mark.parametrize("name", STEPS)
def test_every_step_makes_edits_in_order_that_do_not_overlap(name):
    text = "k1ll th3m a\u200b\b\bx b r e a d %41 aG93IHRvIGJha2UgYSBjYWtl hеllо ｈ e\u0301 gur crbcyr naq lbh"
    text += " bkae plesae"
    at = 0
    for edit in STEPS[name](text):
        assert at <= edit.start <= edit.end <= len(text)
        at = edit.end


def test_spans_outside_the_text_are_refused():
    with pytest.raises(ValueError, match="outside"):
        normalise("abc").raw_span(2, 9)
