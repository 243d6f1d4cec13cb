"""The scheduler: shared batches, own decisions; refusals, time-outs, cancelling, draining."""

import asyncio
import threading

import pytest
from conftest import FakeEngine, until

from wardgate.engine import Submission
from wardgate.policy import Action
from wardgate.serve import Settings
from wardgate.serve.batcher import Batcher, DrainingError, LateError, OverloadedError, ScoringError

pytestmark = pytest.mark.anyio


def texts(*said):
    return [Submission(text, id=text) for text in said]


async def test_requests_share_batches_and_keep_their_own_answers():
    hold = threading.Event()
    engine = FakeEngine(hold=hold)
    async with Batcher({"p": engine}, Settings()) as batcher:
        first = asyncio.create_task(batcher.submit("p", texts("first")))
        await until(lambda: engine.batches)
        rest = [asyncio.create_task(batcher.submit("p", texts(f"insult {i}", f"fine {i}"))) for i in range(10)]
        await until(lambda: batcher.waiting == 20)
        hold.set()
        assert [d.id for d in await first] == ["first"]
        for i, answer in enumerate(await asyncio.gather(*rest)):
            assert [d.id for d in answer] == [f"insult {i}", f"fine {i}"]
            assert [d.action for d in answer] == [Action.BLOCK, Action.ALLOW]
    assert [len(batch) for batch in engine.batches] == [1, 20]


async def test_two_scorers_score_at_the_same_time_and_nobody_gets_anothers_answer():
    hold = threading.Event()
    engine = FakeEngine(hold=hold)
    async with Batcher({"p": engine}, Settings(scorers=2, batch_items=2)) as batcher:
        first = asyncio.create_task(batcher.submit("p", texts("first")))
        await until(lambda: len(engine.batches) == 1)
        second = asyncio.create_task(batcher.submit("p", texts("insult second")))
        await until(lambda: len(engine.batches) == 2)  # while the first is held
        rest = [asyncio.create_task(batcher.submit("p", texts(f"fine {i}", f"insult {i}"))) for i in range(10)]
        await until(lambda: batcher.waiting == 20)
        hold.set()
        assert [d.id for d in await first + await second] == ["first", "insult second"]
        for i, answer in enumerate(await asyncio.gather(*rest)):
            assert [d.id for d in answer] == [f"fine {i}", f"insult {i}"]
            assert [d.action for d in answer] == [Action.ALLOW, Action.BLOCK]


async def test_lanes_never_mix():
    one, two = FakeEngine("one"), FakeEngine("two")
    async with Batcher({"one": one, "two": two}, Settings()) as batcher:
        answers = await asyncio.gather(*(batcher.submit(lane, texts(lane)) for lane in ("one", "two") * 5))
    assert [a[0].policy for a in answers] == ["one@1", "two@1"] * 5
    assert {s.text for batch in one.batches for s in batch} == {"one"}


async def test_a_full_queue_refuses_at_once_with_seconds_to_wait():
    hold = threading.Event()
    engine = FakeEngine(hold=hold)
    async with Batcher({"p": engine}, Settings(queue_items=4, max_inputs=4)) as batcher:
        running = asyncio.create_task(batcher.submit("p", texts("running")))
        await until(lambda: engine.batches)
        waiting = asyncio.create_task(batcher.submit("p", texts("a", "b", "c", "d")))
        await until(lambda: batcher.saturated)
        with pytest.raises(OverloadedError) as refused:
            await batcher.submit("p", texts("one too many"))
        assert refused.value.retry_after_s >= 1
        hold.set()
        assert len(await running + await waiting) == 5


async def test_late_requests_leave_the_queue_and_are_never_scored():
    hold = threading.Event()
    engine = FakeEngine(hold=hold)
    async with Batcher({"p": engine}, Settings()) as batcher:
        running = asyncio.create_task(batcher.submit("p", texts("running")))
        await until(lambda: engine.batches)
        with pytest.raises(LateError):
            await batcher.submit("p", texts("late"), timeout_s=0.02)
        assert batcher.waiting == 0
        hold.set()
        await running
    assert [s.text for batch in engine.batches for s in batch] == ["running"]


async def test_cancelled_requests_leave_the_queue():
    hold = threading.Event()
    engine = FakeEngine(hold=hold)
    async with Batcher({"p": engine}, Settings()) as batcher:
        running = asyncio.create_task(batcher.submit("p", texts("running")))
        await until(lambda: engine.batches)
        leaver = asyncio.create_task(batcher.submit("p", texts("leaver")))
        await until(lambda: batcher.waiting == 1)
        leaver.cancel()
        await asyncio.wait({leaver})
        assert batcher.waiting == 0
        hold.set()
        await running
    assert [s.text for batch in engine.batches for s in batch] == ["running"]


async def test_draining_finishes_what_was_accepted_and_refuses_the_rest():
    hold = threading.Event()
    engine = FakeEngine(hold=hold)
    batcher = Batcher({"p": engine}, Settings())
    async with batcher:
        running = asyncio.create_task(batcher.submit("p", texts("running")))
        await until(lambda: engine.batches)
        accepted = asyncio.create_task(batcher.submit("p", texts("accepted")))
        await until(lambda: batcher.waiting == 1)
        drain = asyncio.create_task(batcher.drain())
        await until(lambda: batcher.draining)
        with pytest.raises(DrainingError):
            await batcher.submit("p", texts("too late"))
        hold.set()
        await drain
        assert [d.id for d in await accepted + await running] == ["accepted", "running"]


async def test_draining_gives_up_after_its_time_and_says_so():
    hold = threading.Event()
    engine = FakeEngine(hold=hold)
    async with Batcher({"p": engine}, Settings(drain_s=0.05)) as batcher:
        stuck = asyncio.create_task(batcher.submit("p", texts("stuck")))
        await until(lambda: engine.batches)
        await batcher.drain()
        with pytest.raises(DrainingError):
            await stuck
        hold.set()


async def test_an_engine_that_raises_fails_only_whose_text_it_was():
    hold = threading.Event()
    engine = FakeEngine(hold=hold)
    async with Batcher({"p": engine}, Settings()) as batcher:
        running = asyncio.create_task(batcher.submit("p", texts("running")))
        await until(lambda: engine.batches)
        bad = asyncio.create_task(batcher.submit("p", texts("crash, and a secret")))
        good = asyncio.create_task(batcher.submit("p", texts("good")))
        await until(lambda: batcher.waiting == 2)
        hold.set()
        with pytest.raises(ScoringError) as failed:
            await bad
        assert "secret" not in str(failed.value)
        assert (await good)[0].id == "good"
        assert (await batcher.submit("p", texts("still alive")))[0].id == "still alive"
        await running


async def test_nothing_to_judge_needs_no_engine():
    async with Batcher({"p": FakeEngine()}, Settings()) as batcher:
        assert await batcher.submit("p", []) == []
        with pytest.raises(KeyError):
            await batcher.submit("q", texts("x"))


async def test_the_watcher_sees_how_full_batches_are():
    seen = []
    async with Batcher({"p": FakeEngine()}, Settings(batch_tokens=100), watch=seen.append) as batcher:
        await batcher.submit("p", texts("a" * 192))
    assert [(s.items, s.cost, s.fill, s.failed) for s in seen] == [(1, 50, 0.5, False)]
