"""What can be seen from outside: metrics, logs, traces, shadows; and that no text a caller sent is in any of it."""

import asyncio
import json
import logging
import math

import pytest
from conftest import FakeEngine, serving
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from wardgate.hazards import Hazard
from wardgate.serve import create_app, logs
from wardgate.serve.drift import Drift, histogram, stability_index
from wardgate.serve.shadow import to_file

PRIVATE = "zanzibar"


SHADOWED = "wardgate_shadow_total"


def samples(page):
    families = text_string_to_metric_families(page.text)
    return {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}


async def traffic(client):
    await client.post("/v1/check", json={"input": [f"an insult {PRIVATE}", f"fine {PRIVATE}"]})
    await client.post("/v1/check", json={"input": f"crash {PRIVATE}"})
    await client.post("/v1/check", json={"input": "x", "policy": PRIVATE, PRIVATE: 1})
    await client.get(f"/{PRIVATE}?{PRIVATE}={PRIVATE}", headers={"x-other": PRIVATE})


@pytest.mark.anyio
async def test_metrics_count_decisions_batches_and_requests(client):
    await traffic(client)
    page = await client.get("/metrics")
    assert PRIVATE not in page.text
    seen = samples(page)
    assert seen["wardgate_decisions_total", ("action", "block"), ("policy", "fake")] == 1
    assert seen["wardgate_flagged_total", ("action", "block"), ("name", "hate"), ("policy", "fake")] == 1
    guard = ("wardgate_guard_runs_total", ("guard", "fakeguard"), ("status", "ok"), ("tier", "1"))
    assert seen[guard] == 2
    assert seen["wardgate_requests_total", ("path", "/v1/check"), ("status", "200")] == 1
    assert seen["wardgate_requests_total", ("path", "/v1/check"), ("status", "503")] == 1
    assert seen["wardgate_requests_total", ("path", "other"), ("status", "404")] == 1
    assert seen["wardgate_batch_failures_total",] == 1
    assert seen["wardgate_batch_texts_sum",] == 3
    assert seen["wardgate_queue_texts",] == 0


@pytest.mark.anyio
async def test_logs_are_json_lines_without_any_text_a_caller_sent(capsys):
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logs.configure()
    try:
        async with serving(create_app(FakeEngine())) as client:
            await traffic(client)
        logging.getLogger("uvicorn.error").error("oops", exc_info=ValueError(PRIVATE))
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    written = capsys.readouterr().err
    assert PRIVATE not in written
    rows = [json.loads(line) for line in written.splitlines()]
    requests = [row for row in rows if row["event"] == "request"]
    assert [row["status"] for row in requests] == [200, 503, 422, 404]
    assert set(requests[0]) >= {"path", "method", "ms", "caller", "request_id", "timestamp", "level"}
    assert rows[-1]["exception"] == "ValueError"


@pytest.mark.anyio
async def test_a_failure_of_ours_is_500_with_headers_a_metric_and_no_details():
    def explode(*_):
        raise RuntimeError(PRIVATE)

    async with serving(create_app(FakeEngine(), observers=[explode])) as client:
        answer = await client.post("/v1/moderations", json={"input": PRIVATE})
        assert (answer.status_code, answer.json()["error"]["type"]) == (500, "server_error")
        assert PRIVATE not in answer.text
        assert "x-request-id" in answer.headers
        seen = samples(await client.get("/metrics"))
        assert seen["wardgate_requests_total", ("path", "/v1/moderations"), ("status", "500")] == 1


@pytest.fixture(scope="module")
def spans():
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.mark.anyio
async def test_traces_join_the_callers_and_hold_numbers_only(client, spans):
    spans.clear()
    parent = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    await client.post("/v1/check", json={"input": [f"an insult {PRIVATE}", "fine"]}, headers=parent)
    (span,) = spans.get_finished_spans()
    assert format(span.context.trace_id, "032x") == "0af7651916cd43dd8448eb211c80319c"
    assert dict(span.attributes) == {
        "wardgate.policy": "fake",
        "wardgate.texts": 2,
        "wardgate.not_allowed": 1,
    }
    spans.clear()
    await client.post("/v1/check", json={"input": f"crash {PRIVATE}"})
    assert PRIVATE not in spans.get_finished_spans()[0].to_json()


async def shadowed(client):
    seen = samples(await client.get("/metrics"))
    assert all(key[2:] == (("other", "allow"), ("shadow", "candidate")) for key in seen if key[0] == SHADOWED)
    return {key[1]: count for key, count in seen.items() if key[0] == SHADOWED}


@pytest.mark.anyio
async def test_a_shadow_sees_the_same_texts_decides_nothing_and_its_differences_are_kept(tmp_path):
    path = tmp_path / "differences.jsonl"
    shadow = FakeEngine("candidate", unseen=frozenset({Hazard.HATE}))
    app = create_app(FakeEngine(), shadows={"candidate": {"fake": shadow}}, differs=to_file(path))
    async with serving(app) as client:
        answer = await client.post("/v1/check", json={"input": [f"an insult {PRIVATE}", "fine"]})
        assert [row["action"] for row in answer.json()["results"]] == ["block", "allow"]
        await client.post("/v1/moderations", json={"input": "crash"})
        expected = {("live", "block"): 1, ("live", "allow"): 1}
        async with asyncio.timeout(5):
            while await shadowed(client) != expected:  # noqa: ASYNC110 - no event crosses the thread
                await asyncio.sleep(0.001)
    (row,) = map(json.loads, path.read_text().splitlines())
    assert (row["live"]["action"], row["shadow"]["action"]) == ("block", "allow")
    assert PRIVATE not in path.read_text()


@pytest.mark.anyio
async def test_a_shadow_looks_only_at_texts_of_the_policies_it_runs_under(tmp_path):
    path = tmp_path / "differences.jsonl"
    engine, strict, shadow = (
        FakeEngine("fake"),
        FakeEngine("strict"),
        FakeEngine("fake", unseen=frozenset({Hazard.HATE})),
    )
    app = create_app(engine, others={"strict": strict}, shadows={"guard:x": {"fake": shadow}}, differs=to_file(path))
    async with serving(app) as client:
        await client.post("/v1/check", json={"input": "an insult", "policy": "strict"})
        await client.post("/v1/check", json={"input": "an insult"})
    assert len(path.read_text().splitlines()) == 1
    assert [len(batch) for batch in shadow.batches] == [1]


@pytest.mark.anyio
async def test_a_broken_shadow_harms_nobody_and_is_counted():
    broken = FakeEngine("candidate")
    broken.check_many = lambda texts: texts["no such"]
    async with serving(create_app(FakeEngine(), shadows={"candidate": {"fake": broken}})) as client:
        answer = await client.post("/v1/check", json={"input": "x"})
        assert answer.status_code == 200
        async with asyncio.timeout(5):
            while 'wardgate_shadow_dropped_total{shadow="candidate"} 1.0' not in await page(client):  # noqa: ASYNC110
                await asyncio.sleep(0.001)


async def page(client):
    return (await client.get("/metrics")).text


@given(st.lists(st.floats(0, 1), max_size=50), st.lists(st.floats(0, 1), max_size=50))
def test_the_stability_index_is_zero_for_equal_and_positive_for_others(one, two):
    same = stability_index(histogram(one), histogram(one))
    assert same == pytest.approx(0)
    assert stability_index(histogram(one), histogram(two)) >= 0
    assert sum(histogram(one)) == len(one)


def test_the_stability_index_by_hand():
    # Ten bins with half a count added to each: 8.5 and nine 0.5 of 13 against 0.5, 8.5 and eight 0.5 of 13.
    expected = 2 * (8 / 13) * math.log(17)
    assert stability_index([8, *[0] * 9], [0, 8, *[0] * 8]) == pytest.approx(expected)


def test_drift_waits_for_two_full_windows():
    drift = Drift(window=10)
    for _ in range(19):
        drift.saw(0.1)
    assert drift.index() is None
    drift.saw(0.1)
    assert drift.index() == pytest.approx(0)
    for _ in range(10):
        drift.saw(0.9)
    assert drift.index() > 0.25
