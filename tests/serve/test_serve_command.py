"""`wardgate serve` as a person starts it: shadows beside it, replicas on Ray."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time

import httpx
import pytest

MILD = "All of them are vermin and should be thrown out of our country."
START = "import sys; from wardgate.cli import main; sys.argv = ['wardgate', 'serve', *sys.argv[1:]]; main()"


@contextlib.contextmanager
def started(*options, patience=60, env=None):
    """The command, ready; gives the process and a client."""
    command = [sys.executable, "-c", START, "--port", "0", "--no-access-log", *options]
    environment = {**os.environ, **(env or {})}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            said = ""
            while not (port := re.search(r"^wardgate: http://127.0.0.1:(\d+)$", said, re.MULTILINE)):
                line = process.stderr.readline()
                assert line, said
                said += line
            with httpx.Client(
                base_url=f"http://127.0.0.1:{port[1]}", transport=httpx.HTTPTransport(retries=20), timeout=patience
            ) as client:
                yield process, client
        finally:
            process.terminate()
            process.communicate(timeout=patience)


def test_a_shadow_guard_decides_nothing_and_its_differences_are_kept(tmp_path):
    log = tmp_path / "differences.jsonl"
    options = ["--guard", "nano", "--shadow-guard", "rules", "--shadow-log", str(log)]
    with started(*options) as (_, client):
        (row,) = client.post("/v1/check", json={"input": MILD}).json()["results"]
        assert [guard["name"] for guard in row["guards"]] == ["nano"]
        assert row["action"] != "allow"
        deadline = time.monotonic() + 20
        while 'shadow="guard:rules"' not in client.get("/metrics").text:
            assert time.monotonic() < deadline
    (found,) = map(json.loads, log.read_text().splitlines())
    assert [guard["name"] for guard in found["live"]["guards"]] == ["nano"]
    assert [guard["name"] for guard in found["shadow"]["guards"]] == ["rules"]
    assert (found["live"]["action"], found["shadow"]["action"]) == (row["action"], "allow")
    assert "vermin" not in log.read_text()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--workers", "2", "--shadow-guard", "nano"], "--workers 1"),
        (["--shadow-guard", "no-such-guard"], "no-such-guard"),
        (["--guard", "nano", "--shadow-guard", "nano", "--shadow-guard", "nano"], "two shadows"),
        (["--ray", "--shadow-guard", "nano"], "without --ray"),
        (["--ray", "--guard", "no-such-guard"], "no-such-guard"),
    ],
)
def test_what_does_not_go_together_is_one_line_and_exit_code_2(options, told):
    done = subprocess.run(
        [sys.executable, "-c", START, *options], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_replicas_on_ray_answer_ask_for_keys_and_end_in_order(tmp_path):
    pytest.importorskip("ray")
    keys = tmp_path / "keys.json"
    made = subprocess.run(
        [sys.executable, "-c", START, "keys", "create", "--name", "test", "--keys", str(keys)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    options = ["--ray", "--workers", "2", "--guard", "nano", "--keys", str(keys), "--timeout-s", "60"]
    with started(*options, patience=180, env={"RAY_ADDRESS": ""}) as (process, client):
        assert client.post("/v1/check", json={"input": MILD}).status_code == 401
        client.headers["x-api-key"] = made.stdout.strip()
        asked = [{"input": {"text": MILD, "id": str(i)}} for i in range(20)]
        rows = [client.post("/v1/check", json=body).raise_for_status().json() for body in asked]
        assert [row["results"][0]["id"] for row in rows] == [str(i) for i in range(20)]
        assert {row["results"][0]["action"] for row in rows} - {"allow"}
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
        assert process.returncode == 0
