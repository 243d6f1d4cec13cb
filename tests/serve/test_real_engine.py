"""The server around the real engine: several policies, one copy of the guards; explanations; the command."""

import os
import subprocess
import sys

import pytest
from conftest import serving
from test_replay import Words

from wardgate.engine import Engine
from wardgate.serve import Settings, create_app
from wardgate.serve.loading import batch_size, engines, scorer_threads, share_cores

POLICY = """
policy: {name}
version: "1"
tiers:
  - guards: [{guard}]
on_failure: review
rules:
  - name: unsafe
    when: {{ unsafe: 0.6 }}
    action: block
otherwise: allow
"""


@pytest.mark.anyio
async def test_the_real_engine_behind_the_server():
    engine = Engine.load([Words()], policy="default")
    async with serving(create_app(engine)) as client:
        answer = await client.post("/v1/check", json={"input": ["fine", "b\u200bad"], "explain": True})
        fine, bad = answer.json()["results"]
        assert (fine["action"], bad["action"]) == ("allow", "block")
        assert bad["normalised"] is True
        assert bad["explanation"]["text"]["changes"] == [{"start": 1, "end": 2, "reads": ""}]
        assert bad["explanation"]["guards"][0]["probabilities"]["unsafe"] == pytest.approx(0.880797, abs=1e-5)
        assert (await client.get("/v1/policies")).json()["policies"][0]["name"] == "default"
        assert (await client.get("/v1/guards")).json()["guards"][0]["labels"][-1] == "unsafe"


@pytest.mark.anyio
async def test_a_policy_with_a_window_reads_the_turns_before(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.format(name="talk", guard="words") + "window: 3\n")
    engine = Engine.load([Words()], policy=path)
    async with serving(create_app(engine)) as client:
        asked = [{"text": "fine"}, {"text": "fine", "history": ["bad"]}]
        alone, after = (await client.post("/v1/check", json={"input": asked})).json()["results"]
        assert alone["unsafe"] < 0.5 < after["unsafe"]


def test_policies_share_one_copy_of_the_guards(tmp_path):
    paths = []
    for name in ("one", "two"):
        paths.append(tmp_path / f"{name}.yaml")
        paths[-1].write_text(POLICY.format(name=name, guard="words"))
    made = engines([Words()], [str(path) for path in paths])
    assert list(made) == ["one", "two"]
    assert made["one"].guards["words"] is made["two"].guards["words"]


def test_what_is_read_at_the_first_text_is_read_before_anyone_asks():
    code = """
import time
from wardgate.serve.loading import engines
(engine,) = engines(["nano"], ["default"]).values()
took = []
for _ in range(2):
    began = time.thread_time()
    engine.check("Good morning to you all.")
    took.append(time.thread_time() - began)
print(took[0] < 20 * took[1] + 0.02)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "True"


def test_batches_are_small_where_guards_gain_nothing_from_large_ones(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.format(name="p", guard="a-checkpoint"))
    small, large = batch_size([], ["default"]), batch_size([], [str(path)])
    assert small == batch_size(["mini", "rules"], [str(path)]) < large
    assert large == (Settings().batch_tokens, Settings().batch_items) == batch_size(["mini", "a.yaml"], ["default"])


def test_built_in_guards_score_on_all_cores_at_once_and_others_as_they_like(tmp_path, monkeypatch):
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.format(name="p", guard="a-checkpoint"))
    for cores, threads in (("1", 1), ("2", 2), ("16", 4)):
        monkeypatch.setenv("OMP_NUM_THREADS", cores)
        assert scorer_threads([], ["default"]) == scorer_threads(["mini", "rules"], [str(path)]) == threads
        assert scorer_threads([], [str(path)]) == scorer_threads(["mini", "a.yaml"], ["default"]) == 1


@pytest.mark.parametrize(("cores", "scorers", "each"), [("2", 2, "1"), ("16", 4, "4"), ("2", 8, "1"), ("2", 1, "2")])
def test_scorers_share_the_cores(monkeypatch, cores, scorers, each):
    monkeypatch.setenv("OMP_NUM_THREADS", cores)
    share_cores(scorers)
    assert os.environ["OMP_NUM_THREADS"] == each


def test_the_collector_does_not_look_at_what_is_loaded():
    code = """
import gc
from wardgate.serve.loading import engines, settle
made = engines(["nano"], ["default"])
settle()
print(gc.get_freeze_count() > 10_000, len(gc.get_objects()) < 1_000, made["default"].check("Good morning.").action)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["True", "True", "allow"]


def test_a_policy_without_any_guard_is_refused(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(POLICY.format(name="p", guard="no-such-guard"))
    with pytest.raises(ValueError, match="no guard that can run"):
        engines([], [str(path)])


def serve(*options):
    command = [sys.executable, "-m", "wardgate.cli", "serve", *options]
    code = f"from wardgate.cli import main; import sys; sys.argv = {command[2:]!r}; main()"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--policy", "no-such-policy"], "no-such-policy"),
        (["--guard", "no-such-guard"], "no-such-guard"),
        (["--queue-items", "1"], "queue_items"),
    ],
)
def test_bad_options_are_one_line_and_exit_code_2(options, told):
    done = serve(*options)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
