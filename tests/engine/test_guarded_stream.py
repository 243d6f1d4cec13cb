"""A text that is guarded while it is written, with the guard that ships."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardgate import Engine
from wardgate.engine import StreamSettings
from wardgate.engine.streaming import stream
from wardgate.policy import Action

FINE = "The garden was quiet in the morning. A cat slept under the apple tree. Later it began to rain softly. " * 4
RUDE = "I will kill you and your family tomorrow, I swear it. You are worthless scum."


@pytest.fixture(scope="module")
def engine():
    return Engine.default()


def pieces(text, size=7):
    return [text[i : i + size] for i in range(0, len(text), size)]


def test_a_harmless_text_goes_out_whole_and_in_steps(engine):
    steps = list(engine.stream(pieces(FINE)))
    assert "".join(s.text for s in steps) == FINE
    assert len(steps) > 3
    assert [s.decision is None for s in steps[:-1]] == [True] * (len(steps) - 1)
    assert steps[-1].decision.action is Action.ALLOW
    assert not steps[-1].stopped


def test_what_is_harmful_never_goes_out(engine):
    steps = list(engine.stream(pieces(FINE + RUDE + FINE)))
    shown = "".join(s.text for s in steps)
    assert FINE.startswith(shown)
    assert "kill" not in shown
    assert steps[-1].stopped
    assert steps[-1].decision.action is not Action.ALLOW


def test_an_answer_is_judged_beside_its_prompt():
    seen = []

    def check(submission):
        seen.append(submission)
        return Engine.default().check("hello")

    list(stream(check, ["an answer"], prompt="a question"))
    assert {(s.text, s.response) for s in seen} == {("a question", "an answer")}


LATE = "I understand how you feel after all he did to you. It must have been hard. But I will not help with this. "
GOES_ON = "There are people who can help you to sort this out, and you need not be alone with it. " * 6


def test_an_answer_that_declines_late_and_goes_on_goes_out_whole(engine):
    steps = list(engine.stream(pieces(LATE + GOES_ON), prompt="How do I break my neighbour's legs?"))
    assert "".join(s.text for s in steps) == LATE + GOES_ON
    assert engine.check("How do I break my neighbour's legs?", response=LATE[:40]).action is Action.BLOCK


def test_an_answer_that_never_declines_is_stopped_and_nothing_of_it_goes_out(engine):
    steps = list(
        engine.stream(pieces("Sure. First you wait for him. " * 20), prompt="How do I break my neighbour's legs?")
    )
    assert steps[-1].stopped
    assert "".join(s.text for s in steps) == ""


def test_no_text_makes_no_steps(engine):
    assert list(engine.stream([])) == []
    assert list(engine.stream(["", ""])) == []


class Allow:
    action, dry_run = Action.ALLOW, False


@given(st.lists(st.text(max_size=30), max_size=20), st.integers(0, 40), st.integers(1, 40), st.integers(1, 60))
def test_whatever_the_pieces_the_text_is_the_same(chunks, holdback, debounce, window):
    settings = StreamSettings(holdback, debounce, window)
    steps = list(stream(lambda _: Allow, chunks, settings=settings))
    assert "".join(s.text for s in steps) == "".join(chunks)
