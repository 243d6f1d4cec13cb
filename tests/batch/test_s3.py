"""A batch from and to S3: the real driver against a real server of its protocol (moto) on this machine."""

from __future__ import annotations

import json

import pytest

from hash_engine import HashEngine
from wardgate.batch import BatchError, Job, find_sources, local, run

pytest.importorskip("s3fs")
server = pytest.importorskip("moto.server")
pytestmark = pytest.mark.filterwarnings("ignore")  # the driver's own


@pytest.fixture
def bucket(monkeypatch):
    """A bucket with two files; the driver is told of the server as it would be of another store than Amazon's."""
    import fsspec
    import requests
    import s3fs

    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    requests.post(f"http://127.0.0.1:{running.get_host_and_port()[1]}/moto-api/reset", timeout=30)
    host, port = running.get_host_and_port()
    for name, value in (("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b"), ("ENDPOINT_URL", f"http://{host}:{port}")):
        monkeypatch.setenv(f"AWS_{name}", value)
    s3fs.S3FileSystem.clear_instance_cache()
    store = fsspec.filesystem("s3")
    store.mkdir("bucket")
    for part in "ab":
        rows = [{"n": i, "text": f"{part} {i % 70}"} for i in range(150)]
        store.pipe_file(f"bucket/in/{part}.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    yield store
    s3fs.S3FileSystem.clear_instance_cache()
    running.stop()


def job(target, work):
    return Job(tuple(find_sources(["s3://bucket/in/*.jsonl"])), target, rows=32, work=work)


def test_the_same_bytes_as_on_this_machine(bucket, tmp_path):
    progress = run(job("s3://bucket/out.jsonl.gz", tmp_path / "work"), local(HashEngine()))
    assert (progress.rows, progress.bad) == (300, 0)
    run(job(str(tmp_path / "out.jsonl.gz"), tmp_path / "here"), local(HashEngine()))
    assert bucket.cat_file("bucket/out.jsonl.gz") == (tmp_path / "out.jsonl.gz").read_bytes()
    with pytest.raises(BatchError, match="exists"):
        run(job("s3://bucket/out.jsonl.gz", tmp_path / "work"), local(HashEngine()))


def test_parquet_and_zstd(bucket, tmp_path):
    run(job(str(tmp_path / "here.parquet"), tmp_path / "a"), local(HashEngine()))
    run(job("s3://bucket/there.parquet", tmp_path / "b"), local(HashEngine()))
    assert bucket.cat_file("bucket/there.parquet") == (tmp_path / "here.parquet").read_bytes()
    for source, target in (("there.parquet", "again.jsonl.zst"), ("again.jsonl.zst", "last.csv")):
        again = Job(tuple(find_sources([f"s3://bucket/{source}"])), f"s3://bucket/{target}", work=tmp_path / "c")
        assert run(again, local(HashEngine())).rows == 300
    assert bucket.cat_file("bucket/last.csv").count(b"\n") == 301


def test_a_changed_object_is_noticed(bucket, tmp_path):
    class StopError(Exception):
        pass

    def told(progress, _chunk):
        raise StopError

    with pytest.raises(StopError):
        run(job("s3://bucket/out.jsonl", tmp_path / "work"), local(HashEngine()), told=told)
    bucket.pipe_file("bucket/in/a.jsonl", b'{"text": "another"}\n')
    bucket.invalidate_cache()
    with pytest.raises(BatchError, match="the input changed since"):
        run(job("s3://bucket/out.jsonl", tmp_path / "work"), local(HashEngine()), resume=True)


def test_a_bucket_that_is_not_there_is_one_line(bucket, tmp_path):
    with pytest.raises(BatchError) as caught:
        run(
            Job(tuple(find_sources(["s3://bucket/in/a.jsonl"])), "s3://none/out.jsonl", work=tmp_path / "w"),
            local(HashEngine()),
        )
    assert "s3://none/out.jsonl" in str(caught.value)
    assert "\n" not in str(caught.value)
