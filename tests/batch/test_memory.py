"""What a batch remembers: the index against a plain dictionary, and the memory of a run over many checkpoints."""

from __future__ import annotations

import hashlib
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardgate.batch.formats import BatchError
from wardgate.batch.index import Index
from wardgate.batch.state import Progress, State
from wardgate.batch.verdicts import Verdict


def key(word: int) -> bytes:
    return hashlib.blake2b(str(word).encode(), digest_size=16).digest()


def verdict(word: int) -> Verdict:
    return Verdict(b'{"word": %d}' % word, "allow", complete=True)


@given(
    added=st.lists(st.lists(st.integers(0, 60), unique=True, max_size=12), max_size=30),
    asked=st.lists(st.integers(0, 80), unique=True, max_size=40),
    remembered=st.integers(1, 50),
)
def test_the_index_finds_what_a_dictionary_finds(added, asked, remembered):
    index, plain, count = Index(), {}, 0
    for words in added:
        new = [word for word in words if word not in plain or plain[word] < count - remembered]
        numbers = list(range(count, count + len(new)))
        plain |= dict(zip(new, numbers, strict=True))
        count += len(new)
        index.add([key(word) for word in new], numbers, count - remembered)
    oldest = count - remembered
    expected = sorted(plain[word] for word in asked if word in plain and plain[word] >= oldest)
    assert index.find([key(word) for word in asked], oldest) == expected


def test_the_index_does_not_grow_with_what_is_forgotten():
    index, longest = Index(), 0
    for start in range(0, 200_000, 1000):
        numbers = range(start, start + 1000)
        index.add([key(n) for n in numbers], numbers, oldest=start + 1000 - 10_000)
        longest = max(longest, len(index))
    assert longest <= 30_000


def test_another_key_with_the_same_first_bytes_is_told_apart(tmp_path):
    first, second = b"12345678" + b"a" * 8, b"12345678" + b"b" * 8
    with State(tmp_path / "state.sqlite", 10) as state:
        state.remember({first: verdict(1)})
        state.save(Progress())
        assert state.recall([second]) == {}
        assert state.recall([first, second]) == {first: verdict(1)}


@given(
    steps=st.lists(st.tuples(st.lists(st.integers(0, 30), max_size=8), st.sampled_from(["", "save", "kill"]))),
    remembered=st.integers(0, 20),
)
@settings(deadline=None)  # it waits for the disk
def test_neither_checkpoints_nor_kills_change_what_is_remembered(tmp_path_factory, steps, remembered):
    """Told by a list of the newest distinct texts; a kill goes back to the last checkpoint."""
    path = tmp_path_factory.mktemp("state") / "state.sqlite"
    order: list[int] = []
    saved: list[int] = []
    state = State(path, remembered)
    for words, then in steps:
        live = order[-remembered:] if remembered else []
        assert state.recall(map(key, words)) == {key(word): verdict(word) for word in words if word in live}
        new = [word for word in dict.fromkeys(words) if word not in live]
        state.remember({key(word): verdict(word) for word in new})
        order += new if remembered else []
        if then == "save":
            state.save(Progress())
            saved = list(order)
        if then == "kill":
            state.__exit__()
            order = list(saved)
            state = State(path, remembered)
    state.__exit__()


def test_a_damaged_memory_is_told_in_one_line(tmp_path):
    path = tmp_path / "state.sqlite"
    with State(path, 10_000) as state:
        state.remember({key(n): verdict(n) for n in range(5000)})
        state.save(Progress(rows=5000))
    data = bytearray(path.read_bytes())
    data[8192:-4096] = b"\xff" * (len(data) - 12288)
    path.write_bytes(data)
    with pytest.raises(BatchError, match="damaged"):
        State(path, 10_000)


def test_what_was_forgotten_is_deleted(tmp_path):
    path = tmp_path / "state.sqlite"
    with State(path, 80) as state:
        for start in range(0, 1000, 20):
            state.remember({key(n): verdict(n) for n in range(start, start + 20)})
            state.save(Progress())
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM seen").fetchone()[0] <= 80 + 80 // 8 + 20
