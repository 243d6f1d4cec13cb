"""Batches while the machine fails them. Kills are in tests/batch/test_kill.py."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BATCH = HERE.parent / "batch" / "kill_me.py"
MIB = 1 << 20


def run(*args, limits=(), code=None):
    """Run in a process of its own, under resource limits."""

    def limited():
        for what, value in limits:
            resource.setrlimit(what, (value, value))

    environment = os.environ | {"PYTHONPATH": str(HERE.parent / "support"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *(["-c", code] if code else []), *map(str, args)]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=120, preexec_fn=limited
    )


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"n": i, "text": f"{i} words"}) + "\n" for i in range(2000)))
    return path


@pytest.mark.parametrize("room", [64 << 10, 300 << 10])
def test_a_full_disk_stops_a_run_that_goes_on_when_there_is_room(source, tmp_path, room):
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    assert run(BATCH, source, whole).returncode == 0
    full = run(BATCH, source, out, limits=[(resource.RLIMIT_FSIZE, room)])
    assert full.returncode == 1
    assert "BatchError: cannot write" in full.stderr.splitlines()[-1]
    assert "--resume goes on" in full.stderr
    assert not out.exists()
    assert run(BATCH, source, out).returncode == 0
    assert out.read_bytes() == whole.read_bytes()


PEAK = """
import resource, runpy, sys
sys.argv = sys.argv[1:]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
runpy.run_path(sys.argv[0], run_name="__main__")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_rows_without_end_do_not_fill_the_memory(tmp_path):
    ordinary, endless = tmp_path / "ordinary.jsonl", tmp_path / "endless.jsonl"
    ordinary.write_text('{"text": "a"}\n')
    with endless.open("wb") as out:
        for _ in range(200):
            out.write(b"a" * MIB)
        out.write(b'\n{"text": "b"}\n')
    peaks = {}
    for path in (ordinary, endless):
        done = run(BATCH, path, tmp_path / f"{path.stem}.out.jsonl", code=PEAK)
        assert done.returncode == 0, done.stderr
        peaks[path] = int(done.stdout) * 1024
    assert peaks[endless] - peaks[ordinary] < 100 * MIB
    (bad,) = [json.loads(line) for line in (tmp_path / "endless.out.jsonl.bad.jsonl").read_text().splitlines()]
    assert (bad["line"], bad["reason"]) == (1, "longer than 16 MiB")
    assert len((tmp_path / "endless.out.jsonl").read_text().splitlines()) == 1


HEAVY = """
import os, resource, runpy, sys
sys.argv = sys.argv[1:]
import wardgate.batch.running as running
from hash_engine import HashEngine
def check_many(self, texts, before=HashEngine.check_many):
    if self.asked and (room := int(os.environ.get("ROOM", 0))):
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))
        os.environ["ROOM"] = "0"
    held = bytearray(64 << 20)
    return before(self, texts)
HashEngine.check_many = check_many
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_run_without_memory_goes_on_when_there_is_some(source, tmp_path, monkeypatch):
    """The judge needs 64 MiB a chunk; after the first chunk the process may only take 16 more."""
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    assert run(BATCH, source, whole).returncode == 0
    monkeypatch.setenv("ROOM", str(16 * MIB))
    poor = run(BATCH, source, out, code=HEAVY)
    assert poor.returncode == 1
    assert poor.stderr.splitlines()[-1].endswith("out of memory; what is done is kept, --resume goes on")
    assert not out.exists()
    monkeypatch.delenv("ROOM")
    assert run(BATCH, source, out, code=HEAVY).returncode == 0
    assert out.read_bytes() == whole.read_bytes()


def test_an_input_that_shrinks_is_told(source, tmp_path):
    out = tmp_path / "out.jsonl"
    full = run(BATCH, source, out, limits=[(resource.RLIMIT_FSIZE, 300 << 10)])
    assert full.returncode == 1
    source.write_bytes(source.read_bytes()[:500])
    again = run(BATCH, source, out)
    assert again.returncode == 1
    assert "the input changed since" in again.stderr
