"""`/v1/check/stream` on a real socket: server-sent events and WebSocket."""

import asyncio
import json
from types import SimpleNamespace
from urllib.parse import urlsplit

import httpx
import pytest
import websockets
from conftest import FakeEngine

from live_server import live
from wardgate.policy import Action
from wardgate.serve import Settings
from wardgate.serve.auth import Caller
from wardgate.serve.streaming import Done, Session, Stop

pytestmark = pytest.mark.anyio

QUICK = Settings(holdback_chars=10, debounce_chars=5, debounce_ms=20, window_chars=30, stream_idle_s=5)
NDJSON = {"content-type": "application/x-ndjson"}


@pytest.fixture(scope="module")
def engine():
    return FakeEngine()


@pytest.fixture(scope="module")
def url(engine):
    with live(engine, QUICK) as base:
        yield base


def line(**message):
    return json.dumps(message).encode() + b"\n"


async def posted(url, *messages, headers=NDJSON):
    async def body():
        for message in messages:
            yield message
            await asyncio.sleep(0)

    async with httpx.AsyncClient() as client:
        return await client.post(f"{url}/v1/check/stream", content=body(), headers=headers)


def events(answer):
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    blocks = [block.split("\n") for block in answer.text.strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


def released(found):
    return "".join(data["text"] for name, data in found if name == "release")


async def test_a_harmless_answer_comes_out_whole(url):
    words = [f"word{i} " for i in range(40)]
    found = events(await posted(url, *(line(type="text", text=w) for w in words), line(type="end")))
    assert released(found) == "".join(words)
    name, data = found[-1]
    assert (name, data["released"]) == ("done", len("".join(words)))
    assert data["decision"]["action"] == "allow"


async def test_nothing_of_a_hazard_comes_out(url):
    text = "this begins well and goes on for a while, then comes an insult and more"
    found = events(await posted(url, *(line(type="text", text=c) for c in text)))
    name, data = found[-1]
    assert name == "stop"
    assert data["decision"]["flagged"] == ["hate"]
    assert data["released"] == len(released(found))
    assert text.startswith(released(found))
    assert "insult" not in released(found)


async def test_text_is_released_while_more_is_still_to_come(url):
    async with websockets.connect(f"ws{url[4:]}/v1/check/stream") as socket:
        await socket.send(json.dumps({"type": "text", "text": "a first part that is long enough"}))
        first = json.loads(await asyncio.wait_for(socket.recv(), 5))
        assert first["type"] == "release"
        assert "a first part that is long enough".startswith(first["text"])
        await socket.send(json.dumps({"type": "text", "text": " and a second"}))
        await socket.send(json.dumps({"type": "end"}))
        rest = [json.loads(message) async for message in socket]
    assert rest[-1]["type"] == "done"
    whole = first["text"] + "".join(m["text"] for m in rest if m["type"] == "release")
    assert whole == "a first part that is long enough and a second"


async def test_server_sent_events_come_while_the_request_is_still_being_sent(url):
    """By hand: few HTTP clients read an answer before they are done with their question."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = "POST /v1/check/stream HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n"
    writer.write(f"{head}transfer-encoding: chunked\r\n\r\n".encode())
    writer.write(chunk(line(type="text", text="a first part that is long enough")))
    async with asyncio.timeout(5):
        assert b"event: release" in await reader.readuntil(b"event: release")
        writer.write(chunk(line(type="end")) + chunk(b""))
        assert b"event: done" in await reader.readuntil(b"event: done")
    writer.close()
    await writer.wait_closed()


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


async def test_the_prompt_is_judged_with_the_answer(url, engine):
    engine.batches.clear()
    found = events(await posted(url, line(type="start", prompt="about a weapon"), line(type="text", text="x" * 9)))
    assert found[-1][0] == "stop"
    assert {s.text for batch in engine.batches for s in batch} == {"about a weapon"}


async def test_an_answer_whose_beginning_may_not_pass_is_stopped_when_it_does_not_go_on_to_decline():
    for rest, end in ((" what I won't do.", Done), (" what you do first.", Stop)):
        said, judged = [], asyncio.Event()

        async def judge(submission, said=said, judged=judged):
            said.append(submission.response)
            judged.set()
            return SimpleNamespace(
                action=Action.ALLOW if "won't" in submission.response else Action.BLOCK, dry_run=False
            )

        async def incoming(rest=rest, judged=judged):
            yield "This is"
            await judged.wait()
            yield rest

        found = [event async for event in Session(QUICK, judge, prompt="a question").run(incoming())]
        assert (type(found[-1]), found[-1].released) == (end, 24 if end is Done else 0)
        assert said[0] == "This is"


async def test_scoring_does_not_start_again_at_each_token(url, engine):
    engine.batches.clear()
    text = "tokens keep coming here. " * 40
    found = events(await posted(url, *(line(type="text", text=text[i : i + 2]) for i in range(0, len(text), 2))))
    assert found[-1][0] == "done"
    sizes = [len(s.text) for batch in engine.batches for s in batch]
    assert max(sizes[:-1]) <= 2 * QUICK.window_chars  # all but the last look on the whole
    assert sizes[-1] == len(text)
    assert len(sizes) <= len(text) / QUICK.debounce_chars + 2


async def test_an_empty_stream_is_done(url):
    assert events(await posted(url, line(type="end"))) == [("done", {"released": 0, "decision": None})]


@pytest.mark.parametrize(
    "messages",
    [
        [b"{\n"],
        [b'{"type":"text"}\n'],
        [line(type="other")],
        [line(type="text", text="x"), line(type="start")],
        [line(type="start", policy="no such policy")],
        [line(type="text", text="crash")],
    ],
)
async def test_what_goes_wrong_is_an_error_event_and_nothing_is_released(url, messages):
    found = events(await posted(url, *messages))
    assert [name for name, _ in found] == ["error"]
    assert set(found[0][1]) == {"code", "detail"}


async def test_another_content_type_is_refused(url):
    answer = await posted(url, b"x", headers={"content-type": "text/plain"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


async def test_streams_have_an_end():
    with live(FakeEngine(), Settings(max_stream_chars=100)) as url:
        found = events(await posted(url, *(line(type="text", text="x" * 30) for _ in range(9))))
        assert found[-1] == ("error", {"code": "body_too_large", "detail": "the stream is too long"})
    with live(FakeEngine(), Settings(stream_idle_s=0.05)) as url:
        async with websockets.connect(f"ws{url[4:]}/v1/check/stream") as socket:
            assert json.loads(await socket.recv())["code"] == "body_timeout"


class Keys:
    def verify(self, secret):
        return Caller("k1", frozenset({"check"})) if secret == "right" else None  # noqa: S105 - a fake


async def test_sockets_need_a_key_and_the_same_site():
    with live(FakeEngine(), QUICK, keys=Keys()) as url:
        address = f"ws{url[4:]}/v1/check/stream"
        for headers, status in (
            ({}, 401),
            ({"authorization": "Bearer wrong"}, 401),
            ({"authorization": "Bearer right", "origin": "https://elsewhere.example"}, 403),
        ):
            with pytest.raises(websockets.InvalidStatus) as refused:
                await websockets.connect(address, additional_headers=headers)
            assert refused.value.response.status_code == status
        async with websockets.connect(address, additional_headers={"authorization": "Bearer right"}) as socket:
            await socket.send('{"type":"end"}')
            assert json.loads(await socket.recv())["type"] == "done"
