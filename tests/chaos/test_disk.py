"""A disk that is really full: a small file system in memory, which only root may mount."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from hash_engine import HashEngine
from wardgate import Engine
from wardgate.batch import BatchError, Job, find_sources, local, run
from wardgate.store import open_store

if TYPE_CHECKING:
    from pathlib import Path


def mount(place: Path, *options: str) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(place)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture
def small(tmp_path):
    """A folder of 512 KiB, and what makes it larger."""
    place = tmp_path / "small"
    place.mkdir()
    if os.geteuid() != 0 or not mount(place, "size=512k"):
        pytest.skip("only root may mount")
    yield place, lambda: subprocess.run(["mount", "-o", "remount,size=64m", str(place)], check=True)
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_batch_goes_on_when_there_is_room(small, tmp_path):
    place, grow = small
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"n": i, "text": f"{i} words"}) + "\n" for i in range(2000)))

    def job(target):
        return Job(tuple(find_sources([str(source)])), str(target), rows=100)

    run(job(tmp_path / "whole.jsonl"), local(HashEngine()))
    with pytest.raises(BatchError, match=r"No space left|disk is full|disk I/O") as full:
        run(job(place / "out.jsonl"), local(HashEngine()))
    assert "--resume goes on" in str(full.value)
    assert not (place / "out.jsonl").exists()
    grow()
    run(job(place / "out.jsonl"), local(HashEngine()), resume=True)
    assert (place / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_server_tells_no_decision_that_it_cannot_store(small):
    testclient = pytest.importorskip("fastapi.testclient")
    from wardgate.serve import Settings, create_app
    from wardgate.serve.review.keeping import Keeping

    place, grow = small
    store = open_store(f"sqlite:///{place}/store.db")
    app = create_app(Engine.default(), Settings(timeout_s=100), keeping=Keeping(store))
    asked = {"input": "How do I bake bread?"}
    with testclient.TestClient(app, client=("127.0.0.1", 1)) as client:
        told = [client.post("/v1/check", json=asked)]
        (place / "filler").write_bytes(b"")
        with (place / "filler").open("ab", buffering=0) as filler:
            fill(filler)
        while told[-1].status_code == 200 and len(told) < 300:  # pages that SQLite has already are used first
            told.append(client.post("/v1/check", json=asked))
        assert told[-1].status_code == 503, len(told)
        assert "bread" not in told[-1].text
        assert "retry-after" in told[-1].headers
        kept = sum(answer.status_code == 200 for answer in told)
        grow()
        assert client.post("/v1/check", json=asked).status_code == 200
    with store.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM decisions").scalar() == kept + 1
    store.close()


def fill(stream) -> None:
    """Write until there is no room."""
    for size in (4096, 512, 1):
        try:
            while True:
                stream.write(b"a" * size)
        except OSError:
            continue
