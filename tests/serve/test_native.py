"""`POST /v1/check`: every shape of input, policies, idempotency, every refusal as problem+json."""

import asyncio
import threading

import pytest
from conftest import FakeEngine, serving, until

from wardgate.serve import Settings, create_app

pytestmark = pytest.mark.anyio


def actions(response):
    assert response.status_code == 200, response.text
    return [row["action"] for row in response.json()["results"]]


async def test_one_text_gives_the_fields_of_the_command_line(client):
    answer = await client.post("/v1/check", json={"input": "an insult"})
    (row,) = answer.json()["results"]
    assert list(row)[:10] == [
        *(
            "id",
            "action",
            "unsafe",
            "hazards",
            "flagged",
            "rule",
            "policy",
            "guards",
            "normalised",
            "language",
        )
    ]
    assert (row["action"], row["flagged"], row["hazards"]["hate"]) == ("block", ["hate"], 0.9)
    assert row["guards"][0]["scores"]["hate"] == 1.0


@pytest.mark.parametrize(
    ("given", "judged"),
    [
        ("a text", [("a text", None)]),
        (["a", "b"], [("a", None), ("b", None)]),
        ({"text": "p", "response": "r"}, [("p", "r")]),
        (["a", {"text": "p", "response": ""}], [("a", None), ("p", "")]),
        ({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]}, [("u", None)]),
        (
            {
                "messages": [
                    {"role": "user", "content": "u1"},
                    {"role": "assistant", "content": "a1"},
                    {"role": "user", "content": [{"type": "text", "text": "u2"}]},
                    {"role": "tool", "content": "t2"},
                    {"role": "assistant", "content": "a2"},
                ]
            },
            [("u2\n\nt2", "a2")],
        ),
        (
            {
                "turns": "all",
                "messages": [
                    {"role": "user", "content": "u1"},
                    {"role": "assistant", "content": "a1"},
                    {"role": "user", "content": "u2"},
                ],
            },
            [("u1\n\nu2", None)],
        ),
    ],
)
async def test_every_shape_of_input_is_judged_as_said(client, engine, given, judged):
    answer = await client.post("/v1/check", json={"input": given})
    assert len(actions(answer)) == len(judged)
    assert [(s.text, s.response) for s in engine.batches[0]] == judged


@pytest.mark.parametrize(
    ("given", "history"),
    [
        ({"text": "x", "history": ["one", "two"]}, ("one", "two")),
        ({"messages": [{"role": "user", "content": "u1"}]}, ()),
        (
            {
                "messages": [
                    {"role": "system", "content": "s"},
                    {"role": "user", "content": "u1"},
                    {"role": "assistant", "content": "a1"},
                    {"role": "user", "content": "u2"},
                    {"role": "assistant", "content": "a2"},
                ]
            },
            ("u1", "a1"),
        ),
        (
            {
                "turns": "all",
                "messages": [{"role": "user", "content": "u1"}, {"role": "user", "content": "u2"}],
            },
            (),
        ),
    ],
)
async def test_the_turns_before_reach_the_engine(client, engine, given, history):
    assert len(actions(await client.post("/v1/check", json={"input": given}))) == 1
    assert engine.batches[0][0].history == history


async def test_history_is_given_in_one_way_only_and_in_measure(client):
    twice = {"messages": [{"role": "user", "content": "u"}], "history": ["before"]}
    assert (await client.post("/v1/check", json={"input": twice})).status_code == 422
    long = {"text": "x", "history": ["before"] * 257}
    assert (await client.post("/v1/check", json={"input": long})).status_code == 422


async def test_ids_language_and_context_reach_the_engine(client, engine):
    item = {"text": "x", "id": "mine", "language": "de", "context": {"age": 12, "new": True}}
    answer = await client.post("/v1/check", json={"input": [item, "y"]})
    assert [row["id"] for row in answer.json()["results"]] == ["mine", "1"]
    sent = engine.batches[0][0]
    assert (sent.language, dict(sent.context)) == ("de", {"age": 12, "new": True})


async def test_policies_are_chosen_by_name():
    app = create_app(FakeEngine("default"), others={"strict": FakeEngine("strict")})
    async with serving(app) as client:
        asked = await client.post("/v1/check", json={"input": "x", "policy": "strict"})
        assert asked.json()["results"][0]["policy"] == "strict@1"
        unknown = await client.post("/v1/check", json={"input": "x", "policy": "no such"})
        assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_model")
        listed = (await client.get("/v1/policies")).json()
        assert listed["default"] == "default"
        assert [p["name"] for p in listed["policies"]] == ["default", "strict"]


async def test_what_no_guard_can_see_is_null_and_listed(client, engine):
    engine.unseen = frozenset({"privacy"})
    row = (await client.post("/v1/check", json={"input": "x"})).json()["results"][0]
    assert row["hazards"]["privacy"] is None
    guards = (await client.get("/v1/guards")).json()["guards"]
    assert guards[0]["name"] == "fakeguard"
    assert "hate" in guards[0]["sees"]


async def test_a_failed_guard_is_review_with_nulls_and_never_zero(client):
    row = (await client.post("/v1/check", json={"input": "broken"})).json()["results"][0]
    assert (row["action"], row["unsafe"], set(row["hazards"].values())) == ("review", None, {None})
    assert row["guards"][0]["status"] == "failed"


async def test_the_same_key_gets_the_same_answer_once_computed(client, engine):
    headers = {"Idempotency-Key": "k1"}
    first = await client.post("/v1/check", json={"input": "x"}, headers=headers)
    again = await client.post("/v1/check", json={"input": "x"}, headers=headers)
    assert first.content == again.content
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert len(engine.batches) == 1
    other = await client.post("/v1/check", json={"input": "y"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")


async def test_the_same_key_at_the_same_moment_is_computed_once():
    engine = FakeEngine(hold=threading.Event())
    async with serving(create_app(engine)) as client:
        calls = [client.post("/v1/check", json={"input": "x"}, headers={"Idempotency-Key": "k"}) for _ in range(5)]
        running = asyncio.gather(*calls)
        await until(lambda: engine.batches)
        engine.hold.set()
        answers = await running
    assert len({answer.content for answer in answers}) == 1
    assert len(engine.batches) == 1


async def test_an_error_is_not_kept_for_the_key(client, engine):
    headers = {"Idempotency-Key": "k"}
    engine.check_many, real = lambda _: 1 / 0, engine.check_many
    assert (await client.post("/v1/check", json={"input": "x"}, headers=headers)).status_code == 503
    engine.check_many = real
    assert (await client.post("/v1/check", json={"input": "x"}, headers=headers)).status_code == 200


BAD = {
    "no json": (b"{", 400, "invalid_json"),
    "not utf-8": (b'{"input":"\xff"}', 400, "invalid_json"),
    "lone surrogate": (rb'{"input":"\ud800"}', 400, "invalid_json"),
    "not a number": (b'{"input":{"text":"x","context":{"a":NaN}}}', 400, "invalid_json"),
    "deep": (b'{"input":' + b"[" * 5000 + b"]" * 5000 + b"}", 400, "invalid_json"),
    "nothing": (b"", 422, "invalid_request"),
    "wrong type": (b'{"input":7}', 422, "invalid_request"),
    "typo": (b'{"inputs":"x"}', 422, "invalid_request"),
    "empty list": (b'{"input":[]}', 422, "empty_input"),
    "nothing said": (b'{"input":{}}', 422, "invalid_request"),
    "said twice": (b'{"input":{"text":"x","messages":[]}}', 422, "invalid_request"),
    "no messages": (b'{"input":{"messages":[]}}', 422, "empty_input"),
    "an image": (
        b'{"input":{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"u"}}]}]}}',
        400,
        "text_only",
    ),
    "unknown policy": (b'{"input":"x","policy":"nope"}', 404, "unknown_model"),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_bodies_are_refused_as_problem_json(client, name):
    body, status, code = BAD[name]
    answer = await client.post("/v1/check", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert "Traceback" not in answer.text


async def test_no_error_repeats_what_was_sent(client):
    private = "a-very-private-sentence"
    for body in (
        {"input": private, "policy": private},
        {"input": {"text": 1, "id": private * 9}},
        {private: private},
    ):
        answer = await client.post("/v1/check", json=body)
        assert answer.status_code in {404, 422}
        assert private not in answer.text
    crash = await client.post("/v1/check", json={"input": f"crash {private}"})
    assert (crash.status_code, crash.json()["code"]) == (503, "guard_failed")
    assert private not in crash.text


async def test_too_many_inputs_and_too_large_bodies():
    async with serving(create_app(FakeEngine(), Settings(max_inputs=3, max_body_bytes=1000))) as client:
        many = await client.post("/v1/check", json={"input": ["x"] * 4})
        assert (many.status_code, many.json()["code"]) == (413, "too_many_inputs")
        large = await client.post("/v1/check", json={"input": "x" * 2000})
        assert (large.status_code, large.json()["code"]) == (413, "body_too_large")

        async def chunks():
            for _ in range(100):
                yield b" " * 100

        headers = {"content-type": "application/json"}
        chunked = await client.post("/v1/check", content=chunks(), headers=headers)
        assert (chunked.status_code, chunked.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", ""]
)
async def test_content_types_are_strict(client, kind):
    answer = await client.post("/v1/check", content=b'{"input":"x"}', headers={"content-type": kind})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


async def test_a_full_server_says_429_and_when_to_come_back():
    engine = FakeEngine(hold=threading.Event())
    async with serving(create_app(engine, Settings(queue_items=1, max_inputs=1))) as client:
        running = [asyncio.create_task(client.post("/v1/check", json={"input": "x"}))]
        await until(lambda: engine.batches)
        running.append(asyncio.create_task(client.post("/v1/check", json={"input": "x"})))
        await until(lambda: client._transport.app.state.batcher.saturated)
        refused = await client.post("/v1/check", json={"input": "x"})
        assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        engine.hold.set()
        assert [answer.status_code for answer in await asyncio.gather(*running)] == [200, 200]


async def test_a_request_that_takes_too_long_is_a_504():
    engine = FakeEngine(hold=threading.Event())
    async with serving(create_app(engine, Settings(timeout_s=0.05))) as client:
        late = await client.post("/v1/check", json={"input": "x"})
        assert (late.status_code, late.json()["code"]) == (504, "timeout")
        engine.hold.set()


async def test_addresses_and_methods_that_do_not_exist(client):
    assert (await client.get("/nope")).json()["code"] == "not_found"
    assert (await client.get("/v1/check")).json()["code"] == "method_not_allowed"


async def test_health_and_headers(client):
    for path in ("/healthz", "/readyz", "/health"):
        answer = await client.get(path)
        assert answer.status_code == 200
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "access-control-allow-origin" not in answer.headers
    named = await client.get("/healthz", headers={"x-request-id": "abc-1"})
    assert named.headers["x-request-id"] == "abc-1"
    odd = await client.get("/healthz", headers={"x-request-id": "a b\tc"})
    assert odd.headers["x-request-id"] != "a b\tc"


async def test_a_draining_server_is_not_ready():
    app = create_app(FakeEngine())
    async with serving(app) as client:
        await app.state.batcher.drain()
        assert (await client.get("/readyz")).status_code == 503
        refused = await client.post("/v1/check", json={"input": "x"})
        assert (refused.status_code, refused.json()["code"]) == (503, "draining")
