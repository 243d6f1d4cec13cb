"""What only shows on a real socket: slow and endless senders, callers that leave, SIGTERM."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from urllib.parse import urlsplit

import httpx
import pytest
from conftest import FakeEngine

from live_server import live
from wardgate.serve import Settings


def connect(url):
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=5)


def wait_for(condition):
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


REQUEST = b"POST /v1/check HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


def test_headers_that_do_not_come_are_waited_for_only_so_long():
    with live(FakeEngine(), Settings(header_timeout_s=0.1)) as url, connect(url) as silent:
        assert silent.recv(100).startswith(b"HTTP/1.1 408")
        assert silent.recv(100) == b""
        assert httpx.get(f"{url}/healthz").status_code == 200


def test_headers_that_drip_are_waited_for_only_so_long():
    with live(FakeEngine(), Settings(header_timeout_s=0.1)) as url, connect(url) as slow:
        slow.sendall(b"POST /v1/check HTTP/1.1\r\nhost: x\r\n")
        assert slow.recv(100).startswith(b"HTTP/1.1 408")


def test_a_kept_connection_is_timed_for_each_request():
    with live(FakeEngine(), Settings(header_timeout_s=0.3)) as url, connect(url) as kept:
        body = b'{"input":"x"}'
        for _ in range(2):
            kept.sendall(REQUEST % len(body) + body)
            assert kept.recv(65536).startswith(b"HTTP/1.1 200")
        kept.sendall(b"GET /healthz HTTP/1.1\r\n")
        assert kept.recv(100).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("size", [1, 300_000])
def test_a_body_that_comes_after_its_refusal_leaves_the_connection_as_it_was(size):
    with live(FakeEngine(), Settings(header_timeout_s=0.2)) as url, connect(url) as kept:
        body = b'{"input":"%s"}' % (b"x" * size)
        wrong = REQUEST.replace(b"application/json", b"text/plain") % len(body)
        kept.sendall(wrong)
        assert kept.recv(65536).startswith(b"HTTP/1.1 415")
        kept.sendall(body)
        kept.settimeout(0.6)
        with pytest.raises(TimeoutError):  # no 408 that nobody asked for
            kept.recv(100)
        kept.settimeout(5)
        kept.sendall(REQUEST % len(body) + body)
        assert kept.recv(65536).startswith(b"HTTP/1.1 200")


def test_the_rest_of_a_refused_body_is_waited_for_only_so_long():
    with live(FakeEngine(), Settings(header_timeout_s=0.2)) as url, connect(url) as slow:
        slow.sendall(REQUEST.replace(b"application/json", b"text/plain") % 1000)
        assert slow.recv(65536).startswith(b"HTTP/1.1 415")
        slow.sendall(b"{")
        assert slow.recv(100).startswith(b"HTTP/1.1 408")


def test_headers_without_end_are_refused():
    with live(FakeEngine(), Settings(max_header_bytes=10_000)) as url, connect(url) as endless:
        endless.sendall(b"GET / HTTP/1.1\r\n" + b"x-padding: yes\r\n" * 2000)
        assert endless.recv(100).startswith(b"HTTP/1.1 431")


def test_a_body_that_drips_is_waited_for_only_so_long():
    with live(FakeEngine(), Settings(body_timeout_s=0.1)) as url, connect(url) as slow:
        slow.sendall(REQUEST % 1000 + b'{"inp')
        answer = slow.recv(65536)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"body_timeout" in answer


def test_fifty_megabytes_are_refused_before_they_are_read():
    with live(FakeEngine()) as url, connect(url) as large:
        large.sendall(REQUEST % (50 << 20) + b'{"input":"')
        began = time.monotonic()
        answer = large.recv(65536)
        assert answer.startswith(b"HTTP/1.1 413")
        assert time.monotonic() - began < 1
        assert httpx.get(f"{url}/healthz").status_code == 200


def test_a_caller_that_leaves_leaves_the_queue():
    engine = FakeEngine(hold=threading.Event())
    with live(engine) as url:
        batcher = url.app.state.batcher
        running = threading.Thread(target=httpx.post, args=(f"{url}/v1/check",), kwargs={"json": {"input": "x"}})
        running.start()
        wait_for(lambda: engine.batches)
        body = b'{"input":"gone"}'
        with connect(url) as leaver:
            leaver.sendall(REQUEST % len(body) + body)
            wait_for(lambda: batcher.waiting == 1)
        wait_for(lambda: batcher.waiting == 0)
        engine.hold.set()
        running.join()
    assert [s.text for batch in engine.batches for s in batch] == ["x"]


SERVER = textwrap.dedent(
    """
    import sys
    sys.path.insert(0, {tests!r})
    from conftest import FakeEngine
    from wardgate.serve import Settings, create_app
    from wardgate.serve.server import server
    settings = Settings()
    running = server(create_app(FakeEngine(seconds=0.5), settings), settings, host="127.0.0.1", port={port})
    running.run()
    """
)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_sigterm_finishes_what_was_accepted_and_exits_cleanly():
    port = free_port()
    code = SERVER.format(tests=os.path.dirname(__file__), port=port)  # noqa: PTH120
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(transport=httpx.HTTPTransport(retries=20)) as client:
            client.get(f"{url}/readyz").raise_for_status()
            answers = []

            def ask():
                answers.append(httpx.post(f"{url}/v1/check", json={"input": "an insult"}, timeout=10))

            threads = [threading.Thread(target=ask) for _ in range(4)]
            for thread in threads:
                thread.start()
            time.sleep(0.3)  # all four are in: the first is being scored, which takes half a second
            process.send_signal(signal.SIGTERM)
            for thread in threads:
                thread.join()
        assert [answer.status_code for answer in answers] == [200] * 4
        assert process.wait(10) == -signal.SIGTERM  # it ended by the signal, after it was done
