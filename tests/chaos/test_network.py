"""The network is cut in a namespace of its own: the interface goes down, and up again. Needs root on Linux."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHILD = """
import subprocess, sys
from pathlib import Path
from far_server import serving
from test_upstream import decided, engine_for, right

def link(state):
    subprocess.run(["ip", "link", "set", "lo", state], check=True)

link("up")
with serving(right) as (_, url):
    engine = engine_for(url, Path(sys.argv[1]))
    for state in ("up", "down", "up", "down", "up"):
        link(state)
        actions, statuses, _ = decided(engine)
        print(state, *sorted(a.value for a in actions), *sorted(statuses), flush=True)
    engine.guards["far"].guard.close()
"""


def may_unshare() -> bool:
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    return subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not may_unshare(), reason="no network namespaces here")
def test_a_judge_behind_a_cut_network(tmp_path):
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here.parent / "support")])
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", CHILD, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    told = [line.split() for line in done.stdout.splitlines()]
    assert [(state, action) for state, action, *_ in told] == [
        ("up", "allow"),
        ("down", "review"),
        ("up", "allow"),
        ("down", "review"),
        ("up", "allow"),
    ]
    assert all(set(statuses) <= {"failed", "timeout"} for state, _, *statuses in told if state == "down")
