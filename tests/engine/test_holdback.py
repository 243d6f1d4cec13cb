"""The state of a stream: nothing goes out before it was judged, all of it does in the end, and work stays linear."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardgate.engine.holdback import HoldBack


@given(
    st.lists(st.text(alphabet="ab .!\n", max_size=60), max_size=40),
    st.integers(0, 50),
    st.integers(1, 50),
    st.integers(1, 100),
)
def test_a_stream_goes_out_whole_and_never_ahead_of_the_judge(chunks, holdback, debounce, window):
    state = HoldBack(holdback=holdback, debounce=debounce, window=window)
    whole, out, read, covered = "".join(chunks), "", 0, 0
    for chunk in [*chunks, None]:
        if chunk is None:
            state.complete = True
        else:
            state.add(chunk)
        while state.due:
            piece = state.piece()
            assert piece.start <= covered <= piece.end  # no character is jumped over
            assert whole[piece.start : piece.end] == piece.text
            assert len(piece.text) <= 2 * window
            covered = piece.end
            read += len(piece.text)
            out += state.passed(piece)
            assert len(out) <= max(0, covered - holdback)
        assert whole.startswith(out)
    assert state.pending == 0
    assert out + state.finish() == whole
    scorings = len(whole) / min(debounce, window) + 1
    assert read <= scorings * 2 * window + len(whole)


def test_context_starts_with_a_sentence():
    state = HoldBack(holdback=0, debounce=1, window=20)
    state.add("One is long enough. Two. Three")
    while state.due:
        state.passed(state.piece())
    state.add(" four")
    assert state.piece().text == "Two. Three four"


def test_nothing_is_finished_before_all_was_judged():
    state = HoldBack(holdback=0, debounce=10, window=10)
    state.add("abc")
    with pytest.raises(ValueError, match="judged"):
        state.finish()


@given(
    st.lists(st.text(alphabet="ab .\n", max_size=60), max_size=30), st.integers(1, 50), st.integers(1, 100), st.data()
)
def test_what_may_not_pass_within_the_opening_is_scored_again_with_more(chunks, debounce, window, data):
    opening = data.draw(st.integers(0, 150))
    state = HoldBack(holdback=0, debounce=debounce, window=window, opening=opening)
    known, out, read = min(opening, window), "", 0
    whole = "".join(chunks)
    for chunk in [*chunks, None]:
        if chunk is None:
            state.complete = True
        else:
            state.add(chunk)
        while state.due:
            piece = state.piece()
            read += len(piece.text)
            begun = f"{whole[:known]}\n" if piece.start and known else ""
            assert piece.text == begun + whole[piece.start : piece.end]
            if data.draw(st.booleans()):
                out += state.passed(piece)
                assert out == whole[: piece.end]
            elif not state.put_off(piece):
                assert state.complete or piece.end >= known
                return
            else:
                assert piece.end < known
    assert out == whole
    assert read <= (len(whole) / min(debounce, window) + 2) * (2 * window + known + 1)


def test_without_a_prompt_nothing_is_put_off():
    state = HoldBack(holdback=0, debounce=1, window=10)
    state.add("abc")
    assert not state.put_off(state.piece())
