"""How many threads the built-in guard takes: its share, where it has been given one."""

from __future__ import annotations

import os

import pytest

from wardgate.engine.bundle import BUILT_IN
from wardgate.guards.encoder import _session


@pytest.mark.parametrize(("told", "threads"), [("1", 1), ("3", 3), ("", None), ("0", None), ("many", None)])
def test_the_runtime_takes_its_share(monkeypatch, told, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    found = _session(BUILT_IN / "mini" / "model.onnx", 0).get_session_options().intra_op_num_threads
    assert found == (threads or len(os.sched_getaffinity(0)))


def test_settings_go_before(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert _session(BUILT_IN / "mini" / "model.onnx", 2).get_session_options().intra_op_num_threads == 2
