"""Which policy a stored decision names, while another one is taken up, also in another process."""

import threading
import time
from types import SimpleNamespace

import pytest
from conftest import FakeEngine
from sqlalchemy import select
from test_replay import Words

from stores import user
from wardgate.engine import Engine, Submission
from wardgate.policy import Action
from wardgate.serve.recorder import StoreRecorder
from wardgate.serve.remote_engine import connect, listen
from wardgate.serve.review.live import LiveEngine
from wardgate.store import open_store, proposals
from wardgate.store.schema import decisions

pytestmark = pytest.mark.anyio


class Changing(FakeEngine):
    """An engine that can take up another policy."""

    def take_up(self, version):
        self.policy = SimpleNamespace(name=self.name, version=version, sha256=version * 64)

    def _decision(self, *given):
        made = super()._decision(*given)
        object.__setattr__(made, "policy", f"{self.policy.name}@{self.policy.version}")
        return made


@pytest.fixture
def store(tmp_path):
    opened = open_store(str(tmp_path / "store.db"))
    yield opened
    opened.close()


def stored(store):
    with store.reading() as connection:
        rows = connection.execute(select(decisions.c.policy, decisions.c.policy_sha256))
        return {policy: sha256[:1] for policy, sha256 in rows}


@pytest.fixture
def elsewhere(tmp_path):
    """An engine that scores behind a socket, and what an HTTP process holds of it."""
    engine, address, key = Changing("one"), str(tmp_path / "s"), b"k" * 32
    threading.Thread(target=listen, args=({"one": engine}, address, key), daemon=True).start()
    deadline = time.monotonic() + 10
    while True:  # the socket is there a moment before it listens
        try:
            return engine, connect(address, key)["one"]
        except (FileNotFoundError, ConnectionRefusedError):
            assert time.monotonic() < deadline


def test_an_http_process_learns_of_a_policy_with_the_first_batch_it_decided(elsewhere):
    engine, here = elsewhere
    here.check_many([Submission("fine")])
    assert (here.policy.version, here.policy.sha256) == ("1", "0" * 64)
    engine.take_up("2")
    assert here.check_many([Submission("fine")])[0].policy == "one@2"
    assert (here.policy.version, here.policy.sha256) == ("2", "2" * 64)


async def test_decisions_of_before_and_after_name_their_own_policy(store, elsewhere):
    engine, here = elsewhere
    recorder = StoreRecorder(store, {"one": here})
    items = [Submission("an insult")]
    try:
        before = here.check_many(items)
        engine.take_up("2")
        after = here.check_many(items)
        await recorder.keep("one", "-", items, after)
        await recorder.keep("one", "-", items, before)  # it was on its way meanwhile
    finally:
        recorder.stop()
    assert stored(store) == {"one@1": "0", "one@2": "2"}


BREAKING = """
policy: careful
version: "{version}"
tiers:
  - guards: [words]
rules:
  - name: unsafe
    when: {{ unsafe: {threshold} }}
    action: block
breaker: {{ per_day: {per_day}, then: review }}
"""


def approve(store, live, text):
    base = live.policy.sha256
    made = proposals.propose(store, policy="careful", base_sha256=base, text=text, changes={}, effect={}, actor="test")
    proposals.decide(store, user(store, f"lead {made.id}", "lead"), made.id, approve=True)


def test_a_days_actions_stay_spent_when_a_policy_is_taken_up(store, tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text(BREAKING.format(version=1, threshold=0.6, per_day=2))
    live = LiveEngine(Engine.load([Words()], policy=path), store, every_s=0.0)
    assert [one.action for one in live.check_many(["bad"])] == [Action.BLOCK]
    approve(store, live, BREAKING.format(version=2, threshold=0.7, per_day=2))
    assert [one.action for one in live.check_many(["bad", "bad"])] == [Action.BLOCK, Action.REVIEW]
    assert live.policy.version == "2"
    approve(store, live, BREAKING.format(version=3, threshold=0.7, per_day=3))
    assert [one.rule for one in live.check_many(["bad"])] == ["unsafe"]  # another limit, another count
