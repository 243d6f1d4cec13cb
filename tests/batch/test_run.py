from __future__ import annotations

import csv
import gzip
import json
import random
import sqlite3

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from hash_engine import HashEngine
from wardgate.batch import BatchError, Fields, FinishedError, Format, Job, UsageError, find_sources, local, run
from wardgate.batch.running import CHECKPOINT_S
from wardgate.batch.verdicts import COLUMNS

TEXTS = [f"text {i % 37} {'x' * (i % 11)}" for i in range(500)]


def rows(n=500):
    return [{"n": i, "text": TEXTS[i % 500], "score": i / 7, "meta": {"tags": ["a", i]}} for i in range(n)]


def write_jsonl(path, lines):
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def do(sources, target, *, engine=None, resume=False, overwrite=False, **options):
    job = Job(tuple(find_sources([str(s) for s in sources])), str(target), **options)
    return run(job, local(engine or HashEngine()), resume=resume, overwrite=overwrite)


def read_jsonl(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def expected(text):
    return HashEngine().check_many([text])[0].action.value


def test_rows_keep_order_columns_and_bytes(tmp_path):
    lines = [b'{"text": "a",  "big": 123456789012345678901234567890, "f": 1.50, "u": "\\u00e9"}', b'{"text":"b"}']
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(lines))
    progress = do([tmp_path / "in.jsonl"], tmp_path / "out.jsonl")
    got = (tmp_path / "out.jsonl").read_bytes().splitlines()
    assert got[0].startswith(lines[0][:-1] + b', "wardgate": {"id": "1", ')
    assert got[1].startswith(b'{"text":"b", "wardgate": {"id": "2", ')
    assert (progress.rows, progress.bad, sum(progress.actions.values())) == (2, 0, 2)


def test_a_decision_has_the_fields_of_check_but_no_times(tmp_path):
    do([write_jsonl(tmp_path / "in.jsonl", rows(3))], tmp_path / "out.jsonl")
    fields = HashEngine().check_many([TEXTS[0]])[0].as_dict() | {"id": "1"}
    del fields["guards"][0]["ms"]
    assert read_jsonl(tmp_path / "out.jsonl")[0]["wardgate"] == fields


def test_every_row_is_decided_on_its_own_text(tmp_path):
    do([write_jsonl(tmp_path / "in.jsonl", rows())], tmp_path / "out.jsonl", rows=64)
    got = read_jsonl(tmp_path / "out.jsonl")
    assert [r["n"] for r in got] == list(range(500))
    assert all(r["wardgate"]["action"] == expected(r["text"]) for r in got)
    assert [r["wardgate"]["id"] for r in got] == [str(i) for i in range(1, 501)]


def test_identical_texts_are_scored_once(tmp_path):
    engine = HashEngine()
    progress = do([write_jsonl(tmp_path / "in.jsonl", rows())], tmp_path / "out.jsonl", engine=engine, rows=32)
    assert sorted(engine.asked) == sorted(set(TEXTS))
    assert progress.scored == len(set(TEXTS))


def test_forgetting_changes_the_work_and_not_the_output(tmp_path):
    source = write_jsonl(tmp_path / "in.jsonl", rows())
    engine = HashEngine()
    do([source], tmp_path / "a.jsonl", rows=16)
    do([source], tmp_path / "b.jsonl", rows=16, remember=20, engine=engine)
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert len(engine.asked) > len(set(TEXTS))


def test_bad_rows_go_to_the_side_file(tmp_path):
    (tmp_path / "in.jsonl").write_bytes(b'{"text": "a"}\noops \xff\n{"text": 5}\n{"text": "b"}\n')
    progress = do([tmp_path / "in.jsonl"], tmp_path / "out.jsonl")
    bad = read_jsonl(tmp_path / "out.jsonl.bad.jsonl")
    assert [(b["line"], b["reason"]) for b in bad] == [(2, "not UTF-8"), (3, "field 'text' is not a string")]
    assert bad[0]["row"] == "oops \\xff"
    assert (progress.rows, progress.bad, progress.clean) == (4, 2, False)
    assert [r["wardgate"]["id"] for r in read_jsonl(tmp_path / "out.jsonl")] == ["1", "4"]


def test_good_rows_leave_no_side_file_and_no_work_folder(tmp_path):
    do([write_jsonl(tmp_path / "in.jsonl", rows(5))], tmp_path / "out.jsonl")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz", "out.jsonl.zst"])
def test_compressed_output_reads_back(tmp_path, name):
    do([write_jsonl(tmp_path / "in.jsonl.gz", rows())], tmp_path / name, rows=50)
    data = (tmp_path / name).read_bytes()
    if name.endswith(".gz"):
        data = gzip.decompress(data)
    elif name.endswith(".zst"):
        data = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
    assert [json.loads(line)["n"] for line in data.splitlines()] == list(range(500))


def test_csv_in_csv_out(tmp_path):
    (tmp_path / "in.csv").write_text('id,text\n1,"a ""quoted"", one\nof two"\n2,b\n3\n', encoding="utf-8")
    do([tmp_path / "in.csv"], tmp_path / "out.csv", fields=Fields(id="id"))
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as lines:
        got = list(csv.DictReader(lines))
    assert [r["text"] for r in got] == ['a "quoted", one\nof two', "b"]
    assert [r["wardgate_id"] for r in got] == ["1", "2"]
    assert list(got[0]) == ["id", "text", *COLUMNS]
    assert read_jsonl(tmp_path / "out.csv.bad.jsonl")[0]["line"] == 5


def test_parquet_keeps_types(tmp_path):
    table = pa.table(
        {
            "text": TEXTS,
            "when": pa.array(range(500), pa.timestamp("us")),
            "nested": [{"a": [i], "b": "x"} for i in range(500)],
            "wide": pa.array(TEXTS, pa.large_string()),
        }
    )
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=90)
    do([tmp_path / "in.parquet"], tmp_path / "out.parquet", rows=64)
    got = pq.read_table(tmp_path / "out.parquet")
    assert got.select(table.schema.names).equals(table)
    assert got["wardgate_action"].to_pylist() == [expected(t) for t in TEXTS]
    assert got["wardgate_hate"].null_count == 500


def test_json_to_parquet_finds_types(tmp_path):
    mixed = [{"text": "a", "i": 1, "f": 1, "m": 1}, {"text": "b", "f": 2.5, "m": "x", "late": True, "d": {"a": 1}}]
    do([write_jsonl(tmp_path / "in.jsonl", mixed)], tmp_path / "out.parquet")
    got = pq.read_table(tmp_path / "out.parquet").select(["text", "i", "f", "m", "late", "d"]).to_pydict()
    assert got == {
        "text": ["a", "b"],
        "i": [1, None],
        "f": [1.0, 2.5],
        "m": ["1", '"x"'],
        "late": [None, True],
        "d": [None, '{"a": 1}'],
    }


def test_a_lone_surrogate_survives_json_and_does_not_break_a_table(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"text": "a\\ud800b"}\n')
    do([tmp_path / "in.jsonl"], tmp_path / "out.jsonl")
    assert read_jsonl(tmp_path / "out.jsonl")[0]["text"] == "a\ud800b"
    for name in ("out.csv", "out.parquet"):
        do([tmp_path / "in.jsonl"], tmp_path / name)
        assert (tmp_path / name).exists()


def test_parquet_to_jsonl(tmp_path):
    pq.write_table(pa.table({"text": ["a"], "t": pa.array([0], pa.timestamp("s"))}), tmp_path / "in.parquet")
    do([tmp_path / "in.parquet"], tmp_path / "out.jsonl")
    assert read_jsonl(tmp_path / "out.jsonl")[0]["t"] == "1970-01-01T00:00:00"


def test_globs_are_read_in_name_order_and_numbered_through(tmp_path):
    for i in (2, 0, 1):
        write_jsonl(tmp_path / f"part-{i}.jsonl", rows(10)[i * 3 : i * 3 + 3])
    do([tmp_path / "part-*.jsonl"], tmp_path / "out.jsonl", rows=2)
    got = read_jsonl(tmp_path / "out.jsonl")
    assert [r["n"] for r in got] == list(range(9))
    assert [r["wardgate"]["id"] for r in got] == [str(i) for i in range(1, 10)]


def test_urls_go_through_fsspec(tmp_path):
    memory = fsspec.filesystem("memory")
    memory.pipe("/in/a.jsonl", b'{"text": "a"}\n')
    memory.pipe("/in/b.jsonl", b'{"text": "b"}\n')
    job = Job(tuple(find_sources(["memory://in/*.jsonl"])), "memory://out.jsonl.gz", work=tmp_path / "w")
    run(job, local(HashEngine()))
    assert len(gzip.decompress(memory.cat("/out.jsonl.gz")).splitlines()) == 2


class KilledError(Exception):
    """The run ends here."""


class Dying(HashEngine):
    """Dies after some texts."""

    def __init__(self, after):
        super().__init__()
        self.left = after

    def check_many(self, texts):
        self.left -= 1
        if self.left < 0:
            raise KilledError
        return super().check_many(texts)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("in.jsonl", "out.jsonl"),
        ("in.jsonl", "out.jsonl.gz"),
        ("in.jsonl", "out.jsonl.zst"),
        ("in.jsonl", "out.csv"),
        ("in.jsonl", "out.parquet"),
        ("in.parquet", "out.parquet"),
    ],
)
@pytest.mark.parametrize("every_s", [0.0, 1e9])
def test_broken_and_resumed_gives_the_same_bytes(tmp_path, monkeypatch, source, name, every_s):
    monkeypatch.setattr("wardgate.batch.running.CHECKPOINT_S", every_s)
    lines = rows() + [{"text": 1}] * 3
    random.Random(1).shuffle(lines)
    write_jsonl(tmp_path / "in.jsonl", lines)
    pq.write_table(pa.table({"text": TEXTS, "n": range(500)}), tmp_path / "in.parquet")
    sources = [tmp_path / source] * 2
    do(sources, tmp_path / f"whole-{name}", rows=30)
    out = tmp_path / name
    for die_after in (1, 2, 0, 7):
        with pytest.raises(KilledError):
            do(sources, out, rows=30, engine=Dying(die_after), resume=True, remember=100)
        assert not out.exists()
    progress = do(sources, out, rows=30, resume=True, remember=100)
    whole = tmp_path / f"whole-{name}"
    assert out.read_bytes() == whole.read_bytes()
    assert progress.rows == 2 * (500 if source == "in.parquet" else 503)
    side, whole_side = tmp_path / f"{name}.bad.jsonl", tmp_path / f"whole-{name}.bad.jsonl"
    assert side.exists() == whole_side.exists()
    assert not side.exists() or side.read_bytes() == whole_side.read_bytes()


def test_a_memory_that_is_resumed_knows_the_texts(tmp_path, monkeypatch):
    monkeypatch.setattr("wardgate.batch.running.CHECKPOINT_S", 0.0)
    source = write_jsonl(tmp_path / "in.jsonl", rows())
    first, second = Dying(3), HashEngine()
    with pytest.raises(KilledError):
        do([source], tmp_path / "out.jsonl", rows=30, engine=first)
    do([source], tmp_path / "out.jsonl", rows=30, engine=second, resume=True)
    assert sorted([*first.asked, *second.asked]) == sorted(set(TEXTS))


def broken(tmp_path):
    source = write_jsonl(tmp_path / "in.jsonl", rows())
    with pytest.raises(KilledError):
        do([source], tmp_path / "out.jsonl", rows=30, engine=Dying(3))
    return source


def test_a_broken_run_is_not_overwritten_by_chance(tmp_path):
    source = broken(tmp_path)
    with pytest.raises(UsageError, match="--resume"):
        do([source], tmp_path / "out.jsonl")
    do([source], tmp_path / "out.jsonl", overwrite=True)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"fields": Fields("n")}, "the fields"),
        ({"rows": 31}, "the rows"),
        ({"identity": {"the policy": "x"}}, "policy"),
    ],
)
def test_a_changed_job_does_not_resume(tmp_path, change, named):
    source = broken(tmp_path)
    with pytest.raises(UsageError, match=named):
        do([source], tmp_path / "out.jsonl", resume=True, **({"rows": 30} | change))


def test_a_changed_input_does_not_resume(tmp_path):
    source = broken(tmp_path)
    write_jsonl(source, rows()[::-1])
    with pytest.raises(UsageError, match="the input changed"):
        do([source], tmp_path / "out.jsonl", resume=True, rows=30)


def test_output_is_not_overwritten_by_chance(tmp_path):
    source = write_jsonl(tmp_path / "in.jsonl", rows(3))
    do([source], tmp_path / "out.jsonl")
    with pytest.raises(UsageError, match="--overwrite"):
        do([source], tmp_path / "out.jsonl")
    with pytest.raises(FinishedError):
        do([source], tmp_path / "out.jsonl", resume=True)
    do([source], tmp_path / "out.jsonl", overwrite=True)


def test_killed_after_the_output_was_put_in_place(tmp_path, monkeypatch):
    source = write_jsonl(tmp_path / "in.jsonl", rows())

    def killed(_folder):
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr("wardgate.batch.running.shutil.rmtree", killed)
        with pytest.raises(KilledError):
            do([source], tmp_path / "out.jsonl")
    whole = (tmp_path / "out.jsonl").read_bytes()
    do([source], tmp_path / "out.jsonl", resume=True)
    assert (tmp_path / "out.jsonl").read_bytes() == whole
    assert not (tmp_path / "out.jsonl.wardgate").exists()


def test_two_runs_do_not_share_a_folder(tmp_path):
    source = broken(tmp_path)
    other = sqlite3.connect(tmp_path / "out.jsonl.wardgate" / "state.sqlite", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(UsageError, match="another run"):
        do([source], tmp_path / "out.jsonl", resume=True, rows=30)
    other.close()


def test_a_damaged_checkpoint_says_so(tmp_path):
    source = broken(tmp_path)
    for path in (tmp_path / "out.jsonl.wardgate").glob("state.sqlite*"):
        path.write_bytes(b"not a database, but long enough to be taken for one" * 100)
    with pytest.raises(BatchError, match="damaged"):
        do([source], tmp_path / "out.jsonl", resume=True, rows=30)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("in.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 9, mtime=0)[:-9]),
        ("in.jsonl.gz", b"not gzip"),
        ("in.jsonl.zst", zstandard.compress(b'{"text": "a"}\n' * 9)[:-5]),
        ("in.jsonl.zst", b"not zstd"),
        ("in.parquet", b"PAR1 not"),
        ("in.csv", b""),
        ("in.csv", b"a,a\n1,2\n"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BatchError) as caught:
        do([tmp_path / name], tmp_path / "out.jsonl")
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["nope.jsonl", "no*.jsonl", "x.unknown", "nope://x.jsonl", "x.jsonl.parquetx"])
def test_what_cannot_be_read_is_one_line(tmp_path, name):
    (tmp_path / "x.unknown").touch()
    with pytest.raises(BatchError):
        find_sources([name if "://" in name else str(tmp_path / name)])


def test_lines_are_no_output(tmp_path):
    with pytest.raises(UsageError, match="plain lines"):
        do([write_jsonl(tmp_path / "in.jsonl", rows(1))], tmp_path / "o", format=Format.LINES)


def test_an_empty_input_gives_an_empty_output(tmp_path):
    (tmp_path / "in.jsonl").touch()
    for name in ("out.jsonl", "out.csv", "out.parquet"):
        assert do([tmp_path / "in.jsonl"], tmp_path / name).rows == 0
        assert (tmp_path / name).exists()


def test_checkpoints_are_not_too_rare():
    assert CHECKPOINT_S <= 10
