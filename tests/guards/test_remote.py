"""Guards behind a real HTTP server on this machine: every format, as it is asked and as it is read."""

import logging
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from far_guard import JUDGED, p
from far_server import chat, serving

pytest.importorskip("httpx")

from wardgate.guards import Link, Status, View
from wardgate.guards.verdicts import HARD, VERDICTS, Token, VerdictError, masses

# Formats --------------------------------------------------------------------------------------------------


def test_a_judge_is_read_at_its_flag_with_every_spelling_summed(open_guard):
    with serving(lambda _b: (200, chat(JUDGED))) as (server, url):
        scores = open_guard(url).score([View("hello")])
    assert scores.status == (Status.OK,)
    assert scores.link is Link.SIGMOID
    assert p(scores, "flag") == pytest.approx(0.7, abs=1e-6)
    floor, named = 0.1, 0.5 + 0.3 + 0.1
    total = named + 2 * floor
    assert p(scores, "harassment") == pytest.approx(0.7 * 0.5 / total, abs=1e-6)
    assert p(scores, "hate_speech") == pytest.approx(0.7 * 0.3 / total, abs=1e-6)
    assert scores.details[0]["calibrated"] is True
    assert scores.details[0]["emitted_confidence"] == 0.95
    assert "confidence" not in scores.details[0]
    sent = server.seen[0]
    assert [m["role"] for m in sent["messages"]] == ["system", "user"]
    assert sent["messages"][1]["content"] == 'Message to judge: "hello"'
    assert (sent["temperature"], sent["logprobs"], sent["top_logprobs"]) == (0, True, 20)


def test_a_judge_that_allows_scores_no_category(open_guard):
    pieces = [('{"flag":', {}), (" false", {" false": 0.9, " true": 0.1}), (', "category": "benign"}', {})]
    with serving(lambda _b: (200, chat(pieces))) as (_, url):
        scores = open_guard(url).score([View("hello")])
    assert p(scores, "flag") == pytest.approx(0.1, abs=1e-6)
    assert np.isnan(scores.logits[0, 1:]).all()


def test_a_server_that_continues_a_turn_is_teacher_forced(open_guard):
    def reply(body):
        opening = body["messages"][-1]["content"]
        assert body["messages"][-1]["role"] == "assistant"
        assert body["continue_final_message"] is True
        assert body["max_tokens"] == 1
        if opening == '{"flag":':
            return 200, chat([(" false", {" false": 0.75, " true": 0.25})])
        return 200, chat([("viol", {"viol": 0.8, "tox": 0.2})])

    with serving(reply) as (_, url):
        scores = open_guard(url, prefill=True).score([View("hello")])
    assert p(scores, "flag") == pytest.approx(0.25, abs=1e-6)
    assert p(scores, "violence") > p(scores, "toxicity") > 0
    assert not np.isnan(scores.logits).any()


@pytest.mark.parametrize("view", [View("a question"), View("a question", "an answer")])
def test_llama_guard(open_guard, view):
    pieces = [
        ("\n\n", {}),
        ("un", {"un": 0.8, "safe": 0.2}),
        ("safe", {}),
        ("\n", {}),
        ("S", {}),
        ("10", {"10": 0.5, "1": 0.5}),
    ]
    with serving(lambda _b: (200, chat(pieces))) as (server, url):
        scores = open_guard(url, "llama-guard").score([view])
    assert p(scores, "unsafe") == pytest.approx(0.8, abs=1e-6)
    assert p(scores, "S10") == pytest.approx(0.8 * 0.999 * 0.5, abs=1e-3)
    assert np.isnan(scores.logits[0, scores.labels.index("S1")])
    roles = [m["role"] for m in server.seen[0]["messages"]]
    assert roles == ["user", "assistant"][: 1 + (view.response is not None)]


def test_llama_guard_safe(open_guard):
    with serving(lambda _b: (200, chat([("safe", {"safe": 0.97, "unsafe": 0.02, "un": 0.01})]))) as (_, url):
        scores = open_guard(url, "llama-guard").score([View("hello")])
    assert p(scores, "unsafe") == pytest.approx(0.03, abs=1e-6)
    assert np.isnan(scores.logits[0, 1:]).all()


def test_qwen3guard_has_three_severities(open_guard):
    pieces = [
        ("Safety", {}),
        (":", {}),
        (" Cont", {" Cont": 0.5, " Unsafe": 0.3, " Safe": 0.2}),
        ("roversial", {}),
        ("\nCategories: ", {}),
        ("Violent", {"Violent": 0.9, "P": 0.1}),
        (", PII", {}),
    ]
    with serving(lambda _b: (200, chat(pieces))) as (_, url):
        scores = open_guard(url, "qwen3guard").score([View("hello")])
    assert p(scores, "Unsafe") == pytest.approx(0.3, abs=1e-6)
    assert p(scores, "Controversial") == pytest.approx(0.5, abs=1e-6)
    assert p(scores, "Violent") == pytest.approx(0.8 * 0.9, abs=1e-4)
    assert p(scores, "PII") == pytest.approx(0.8 * 0.999, abs=1e-2)
    assert np.isnan(scores.logits[0, scores.labels.index("Non-violent Illegal Acts")])


def test_shieldgemma_asks_one_question_a_policy(open_guard):
    def reply(body):
        hate = "No Hate Speech" in body["chat_template_kwargs"]["guideline"]
        return 200, chat([("Yes" if hate else "No", {"Yes": 0.9 if hate else 0.1, "No": 0.1 if hate else 0.9})])

    with serving(reply) as (server, url):
        scores = open_guard(url, "shieldgemma").score([View("hello")])
        only = open_guard(url, "shieldgemma", ask=("harassment",)).score([View("hello")])
    assert len(server.seen) == 5
    assert [round(p(scores, label), 3) for label in scores.labels] == [0.1, 0.1, 0.9, 0.1]
    assert np.isnan(only.logits[0]).tolist() == [True, False, True, True]


@pytest.mark.parametrize("wrap", [("", ""), ("<think>\n</think>\n<score> ", " </score>")])
def test_granite_guardian(open_guard, wrap):
    def reply(body):
        risk = body["chat_template_kwargs"]["guardian_config"]["risk_name"]
        share = {"harm": 0.7, "jailbreak": 0.2}[risk]
        said = "Yes" if share > 0.5 else "No"
        parts = [(wrap[0], {}), (said, {"Yes": share, "No": 1 - share}), (wrap[1], {})]
        return 200, chat([part for part in parts if part[0]])

    with serving(reply) as (_, url):
        scores = open_guard(url, "granite-guardian").score([View("hello", "an answer")])
    assert p(scores, "harm") == pytest.approx(0.7, abs=1e-6)
    assert p(scores, "jailbreak") == pytest.approx(0.2, abs=1e-6)
    assert np.isnan(scores.logits[0, scores.labels.index("violence")])


def test_wildguard_speaks_through_plain_completions(open_guard):
    pieces = [
        ("Harmful request:", {"Harmful request:": 0.99, "?": 0.01}),
        (" yes", {" yes": 0.6, " no": 0.4}),
        ("\nResponse refusal: n/a\nHarmful response:", {"\n": 0.9, "?": 0.1}),
        (" no", {" no": 0.8, " yes": 0.2}),
    ]
    answer = {
        "choices": [
            {
                "text": "".join(text for text, _ in pieces),
                "logprobs": {
                    "tokens": [text for text, _ in pieces],
                    "token_logprobs": [0.0] * len(pieces),
                    "top_logprobs": [{k: math.log(v) for k, v in top.items()} for _, top in pieces],
                },
            }
        ]
    }
    with serving(lambda _b: (200, answer)) as (server, url):
        scores = open_guard(url, "wildguard").score([View("how are you {response}?", "fine {text}")])
    assert server.paths == ["/v1/completions"]
    assert "Human user:\nhow are you {response}?\n\nAI assistant:\nfine {text}\n" in server.seen[0]["prompt"]
    assert p(scores, "harmful request") == pytest.approx(0.6, abs=1e-6)
    assert p(scores, "harmful response") == pytest.approx(0.2, abs=1e-6)
    assert np.isnan(scores.logits[0, 2])


def test_every_format_names_what_its_labels_mean():
    for verdict in VERDICTS.values():
        assert any(m.unsafe and not m.hazards for m in verdict.labels.meanings.values()) or verdict.separate


# Without logprobs -----------------------------------------------------------------------------------------


def test_a_server_without_logprobs_is_reported_once_and_its_scores_marked(open_guard, caplog):
    with serving(lambda _b: (200, chat(JUDGED, logprobs=False))) as (_, url):
        guard = open_guard(url)
        with caplog.at_level(logging.WARNING, "wardgate.guards"):
            scores = guard.score([View("hello"), View("hey")])
            guard.score([View("hi")])
    assert [d["calibrated"] for d in scores.details] == [False, False]
    assert scores.logits[0, 0] == pytest.approx(HARD)
    assert len([r for r in caplog.records if "no logprobs" in r.message]) == 1
    assert "hello" not in caplog.text


def test_a_server_that_refuses_logprobs_is_asked_without(open_guard):
    def reply(body):
        if "logprobs" in body:
            return 400, {"error": {"message": "logprobs is not supported by this model"}}
        return 200, chat(JUDGED, logprobs=False)

    with serving(reply) as (server, url):
        guard = open_guard(url)
        first, second = guard.score([View("hello")]), guard.score([View("hey")])
    assert first.status == second.status == (Status.OK,)
    assert first.details[0]["calibrated"] is False
    assert len(server.seen) == 3, "refused once, then never asked for again"


# Words ----------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0.01, 1), min_size=4, max_size=4))
def test_spellings_are_summed(shares):
    total = sum(shares)
    a, b, c, d = (share / total for share in shares)
    token = Token(" true", {" true": math.log(a), "True": math.log(b), "fal": math.log(c), '"false': math.log(d)})
    yes, no = masses(token, ("true", "false"))
    assert math.exp(yes) == pytest.approx(a + b)
    assert math.exp(no) == pytest.approx(c + d)


def test_first_pieces_that_collide_are_an_error():
    with pytest.raises(VerdictError, match="two of the words"):
        masses(Token("un", {"un": -0.1, "x": -3.0}), ("unsafe", "unknown"))


def test_a_word_that_is_not_listed_is_bounded_by_the_least_likely():
    assert masses(Token("yes", {"yes": -0.01, "maybe": -6.0}), ("yes", "no")) == [-0.01, -6.0]
