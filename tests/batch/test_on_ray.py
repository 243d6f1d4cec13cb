"""The same batch on a local Ray of two workers, one of which is killed."""

from __future__ import annotations

import gc
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from hash_engine import DyingOnce, HashEngine
from wardgate.batch import Job, UsageError, find_sources, local, run

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's own warnings


@pytest.fixture(scope="module")
def cluster():
    support = str(Path(__file__).parent.parent / "support")
    environment = {"PYTHONPATH": support, "OMP_NUM_THREADS": "1"}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": environment})
    from wardgate.batch.on_ray import Cluster

    yield Cluster(fewest=2, most=2)
    ray.shutdown()
    gc.collect()  # Ray does not wait for its processes: Python warns of each, here and not at the end of the suite


@pytest.fixture
def sources(tmp_path):
    for name in ("a", "b"):
        rows = [{"n": i, "text": f"{name} {i % 90}"} for i in range(400)] + [{"text": None}]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tuple(find_sources([str(tmp_path / "*.jsonl")]))


def test_a_cluster_writes_the_same_bytes_though_a_worker_is_killed(cluster, sources, tmp_path):
    from wardgate.batch.on_ray import on_ray

    run(Job(sources, str(tmp_path / "local.out.jsonl"), rows=32, remember=0), local(HashEngine()))
    marker = tmp_path / "killed"
    judge = on_ray((), "default", cluster, load=partial(DyingOnce, marker, "b 30"))
    progress = run(Job(sources, str(tmp_path / "ray.out.jsonl"), rows=32, remember=0), judge)
    assert marker.exists()
    assert (progress.rows, progress.bad) == (802, 2)
    assert (tmp_path / "ray.out.jsonl").read_bytes() == (tmp_path / "local.out.jsonl").read_bytes()
    bad = (tmp_path / "ray.out.jsonl.bad.jsonl").read_text()
    assert bad == (tmp_path / "local.out.jsonl.bad.jsonl").read_text()


def test_a_broken_run_goes_on_on_a_cluster(cluster, sources, tmp_path, monkeypatch):
    from wardgate.batch.on_ray import on_ray

    class StopError(Exception):
        pass

    def told(progress, _chunk):
        if progress.rows > 450:
            raise StopError

    monkeypatch.setattr("wardgate.batch.running.CHECKPOINT_S", 0.0)
    job = Job(sources, str(tmp_path / "ray.out.jsonl"), rows=32, remember=0)
    judge = on_ray((), "default", cluster, load=HashEngine)
    with pytest.raises(StopError):
        run(job, judge, told=told)
    growing = on_ray((), "default", replace(cluster, fewest=1), load=HashEngine)
    run(job, growing, resume=True)
    run(Job(sources, str(tmp_path / "local.out.jsonl"), rows=32, remember=0), local(HashEngine()))
    assert (tmp_path / "ray.out.jsonl").read_bytes() == (tmp_path / "local.out.jsonl").read_bytes()


def test_a_cluster_does_not_read_standard_input(cluster, tmp_path):
    from wardgate.batch.on_ray import on_ray

    with pytest.raises(UsageError, match="standard input"):
        run(Job(tuple(find_sources(["-"])), str(tmp_path / "o.jsonl")), on_ray((), "default", cluster))
