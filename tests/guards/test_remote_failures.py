"""Guards behind a real HTTP server on this machine that is slow, wrong, overloaded or gone; and how it is spared."""

import threading
import time

import numpy as np
import pytest

from far_guard import JUDGED, card, p
from far_server import chat, serving

pytest.importorskip("httpx")

from wardgate.guards import Status, View
from wardgate.guards.card import CardError
from wardgate.guards.client import Breaker, Waiting
from wardgate.guards.remote import Remote


def test_a_passing_failure_is_retried(open_guard):
    answers = iter([(503, {}), (429, {}), (200, chat(JUDGED))])
    with serving(lambda _b: next(answers)) as (server, url):
        scores = open_guard(url, retries=2).score([View("hello")])
    assert scores.status == (Status.OK,)
    assert len(server.seen) == 3


def test_retries_wait_with_jitter_and_heed_the_server():
    waited = []
    waiting = Waiting(sleep=waited.append, draw=lambda _low, high: high)
    for attempt in range(7):
        waiting.before_retry(attempt, None)
    waiting.before_retry(0, "3")
    waiting.before_retry(0, "3600")
    waiting.before_retry(0, "Wed, 21 Oct 2026 07:28:00 GMT")
    assert waited == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 3.0, 5.0, 0.2])


def test_a_slow_server_is_a_timeout():
    gone = threading.Event()

    def reply(_body):
        gone.wait(5)
        return 200, chat(JUDGED)

    with serving(reply) as (_, url):
        guard = Remote.load(card(url, retries=0).model_copy(update={"timeout": 0.1}))
        started = time.perf_counter()
        scores = guard.score([View("hello")])
        took = time.perf_counter() - started
        gone.set()
        guard.close()
    assert scores.status == (Status.TIMEOUT,)
    assert "within 0.1 s" in scores.reasons[0]
    assert took < 4
    assert np.isnan(scores.logits).all()


def test_a_server_that_is_gone_is_a_failure(open_guard):
    with serving(lambda _b: (200, {})) as (_, url):
        pass
    scores = open_guard(url, retries=1).score([View("hello")])
    assert scores.status == (Status.FAILED,)
    assert "cannot reach" in scores.reasons[0]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((200, b"<html>not JSON</html>"), "not an OpenAI completion"),
        ((200, {"choices": []}), "not an OpenAI completion"),
        ((200, {"choices": [{"message": {"content": None}}]}), "not an OpenAI completion"),
        ((200, [1, 2]), "not an OpenAI completion"),
        (
            (200, {"choices": [{"message": {"content": "x"}, "logprobs": {"content": [{"token": "x"}]}}]}),
            "not an OpenAI",
        ),
        ((200, chat([("I cannot help with that.", {})])), "not in its format"),
        ((401, {}), "key is missing or wrong"),
        ((404, {}), "no such model"),
        ((500, {}), "answered 500"),
    ],
)
def test_a_wrong_answer_is_a_failure_that_quotes_nothing(open_guard, answer, says):
    with serving(lambda _b: answer) as (_, url):
        scores = open_guard(url, retries=0).score([View("a private message")])
    assert scores.status == (Status.FAILED,)
    assert says in scores.reasons[0]
    assert "private" not in scores.reasons[0]
    assert "cannot help" not in scores.reasons[0]


def test_one_bad_row_spoils_no_other(open_guard):
    def reply(body):
        return (200, chat(JUDGED)) if "good" in body["messages"][1]["content"] else (200, {"choices": []})

    with serving(reply) as (_, url):
        scores = open_guard(url).score([View("good 1"), View("bad"), View("good 2")])
    assert scores.status == (Status.OK, Status.FAILED, Status.OK)


def test_the_circuit_opens_and_the_server_is_left_alone(open_guard):
    with serving(lambda _b: (503, {})) as (server, url):
        guard = open_guard(url, retries=0, breaker_failures=3, concurrency=1)
        scores = guard.score([View(str(i)) for i in range(10)])
    assert len(server.seen) == 3
    assert scores.status == (Status.FAILED,) * 10
    assert "not asked again" in scores.reasons[9]


def test_the_circuit_lets_one_trial_through_and_closes_when_it_succeeds():
    now = [0.0]
    breaker = Breaker(2, 10, lambda: now[0])
    breaker.failed()
    assert breaker.allow()
    breaker.failed()
    assert not breaker.allow()
    now[0] = 10.0
    assert breaker.allow()
    assert not breaker.allow(), "the others wait for how the trial ends"
    breaker.succeeded()
    assert breaker.allow()
    breaker.failed()
    assert breaker.allow(), "successes start the count anew"


def test_no_more_calls_at_once_than_allowed_and_order_is_kept(open_guard):
    gate = threading.Barrier(3, timeout=10)

    def reply(body):
        gate.wait()
        said = body["messages"][1]["content"]
        share = 0.1 + 0.1 * int(said[-2])
        return 200, chat([('{"flag":', {}), (" true", {" true": share, " false": 1 - share})])

    with serving(reply) as (server, url):
        scores = open_guard(url, concurrency=3).score([View(str(i)) for i in range(6)])
    assert server.most_busy == 3
    assert [round(p(scores, "flag", i), 3) for i in range(6)] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]


def test_identical_views_are_asked_once(open_guard):
    with serving(lambda _b: (200, chat(JUDGED))) as (server, url):
        scores = open_guard(url).score([View("same")] * 4)
    assert len(server.seen) == 1
    assert len(scores) == 4


def test_an_empty_batch_asks_nothing(open_guard):
    with serving(lambda _b: (200, chat(JUDGED))) as (server, url):
        assert open_guard(url).score([]).logits.shape == (0, 6)
    assert server.seen == []


def test_the_key_comes_from_the_environment(open_guard, monkeypatch):
    monkeypatch.setenv("FAR_KEY", "secret")
    with serving(lambda _b: (200, chat(JUDGED))) as (server, url):
        open_guard(url, api_key_env="FAR_KEY").score([View("hello")])
    assert server.keys == ["Bearer secret"]
    monkeypatch.delenv("FAR_KEY")
    with pytest.raises(CardError, match="FAR_KEY is not set"):
        Remote.load(card("http://localhost/v1", api_key_env="FAR_KEY"))


def test_asking_for_a_label_the_format_lacks_is_an_error():
    with pytest.raises(CardError, match="'hat' is not a label of shieldgemma"):
        Remote.load(card("http://localhost/v1", "shieldgemma", ask=("hat",)))
