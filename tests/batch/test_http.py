"""A batch that reads from a web server, with and without ranges."""

from __future__ import annotations

import functools
import gzip
import http.server
import json
import threading

import pytest

from hash_engine import HashEngine
from wardgate.batch import BatchError, Job, find_sources, local, run

pytest.importorskip("aiohttp")
pytestmark = pytest.mark.filterwarnings("ignore")  # the driver's own
ROWS = "".join(json.dumps({"n": i, "text": f"{i % 70}"}) + "\n" for i in range(300)).encode()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; knows no ranges, so that files come as streams."""

    def log_message(self, *_args):
        pass


@pytest.fixture
def address(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(ROWS)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(ROWS))
    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path))
    thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{serving.server_port}"
    serving.shutdown()
    thread.join()
    serving.server_close()


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_file_from_the_web_is_the_file(address, tmp_path, name):
    run(Job(tuple(find_sources([f"{address}/{name}"])), str(tmp_path / "web.jsonl"), rows=64), local(HashEngine()))
    run(Job(tuple(find_sources([str(tmp_path / name)])), str(tmp_path / "here.jsonl"), rows=64), local(HashEngine()))
    assert (tmp_path / "web.jsonl").read_bytes() == (tmp_path / "here.jsonl").read_bytes()


def test_what_is_not_there_is_one_line(address, tmp_path):
    with pytest.raises(BatchError) as caught:
        find_sources([f"{address}/none.jsonl"])
    assert "none.jsonl" in str(caught.value)
    assert "\n" not in str(caught.value)
