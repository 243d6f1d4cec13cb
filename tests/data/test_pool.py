from __future__ import annotations

import gzip
import json

import pytest

from wardgate.data.pool import read_pool, read_pool_file
from wardgate.hazards import HAZARDS, Hazard
from wardgate.train.mini_data import PLAN, READ_IN_PART, planned, second_reading


def write(path, *rows):
    with gzip.open(path, "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(row) + "\n" for row in rows)


def row(**changes):
    return {
        "text": "hello",
        "lang": "en",
        "kind": "prompt",
        "unsafe": 0,
        "categories": [],
        "source": "x",
    } | changes


def test_safe_rows_have_every_hazard_absent(tmp_path):
    write(tmp_path / "mild.jsonl.gz", row())
    (example,) = read_pool(tmp_path)
    assert example.unsafe is False
    assert example.absent == set(HAZARDS)


def test_unsafe_rows_leave_other_hazards_unknown(tmp_path):
    write(tmp_path / "mild.jsonl.gz", row(unsafe=1, categories=["hate"]), row(unsafe=1, categories=["unknown"]))
    named, unnamed = read_pool(tmp_path)
    assert named.present == {Hazard.HATE}
    assert named.absent == unnamed.absent == unnamed.present == frozenset()


def test_not_hate_is_not_safe(tmp_path):
    write(tmp_path / "edos.jsonl.gz", row())
    (example,) = read_pool(tmp_path)
    assert example.unsafe is None
    assert example.absent == {Hazard.HATE}


@pytest.mark.parametrize("bad", [row(categories=["no such hazard"]), {"text": "x"}, row(categories="hate")])
def test_a_bad_row_names_file_and_line_but_not_the_text(tmp_path, bad):
    write(tmp_path / "bad.jsonl.gz", row(), bad)
    with pytest.raises(ValueError, match=r"bad\.jsonl\.gz, line 2") as caught:
        list(read_pool_file(tmp_path / "bad.jsonl.gz"))
    assert "hello" not in str(caught.value)


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        list(read_pool(tmp_path))


def source(folder, name, *categories):
    rows = [
        row(text=f"{name} {chr(97 + i)}", unsafe=int(bool(some)), categories=some) for i, some in enumerate(categories)
    ]
    write(folder / f"{name}.jsonl.gz", *rows)


def test_the_data_plan_leaves_out_what_is_unsafe_by_its_label_only(tmp_path, monkeypatch):
    monkeypatch.setattr("wardgate.train.mini_data.second_reading", dict)
    source(tmp_path, "diasafety", ["specialized_advice"], [])
    source(tmp_path, "trustllm_misuse", ["specialized_advice"], ["hate"], ["hate", "specialized_advice"])
    source(tmp_path, "cyberseceval_injection", ["jailbreak_prompts"])
    source(tmp_path, "do_not_answer", ["specialized_advice"])
    kept = {e.id for e in planned(tmp_path, seed=1)}
    assert {i for i in kept if i.startswith("trustllm")} == {"trustllm_misuse:2", "trustllm_misuse:3"}
    assert {i for i in kept if i.startswith("diasafety")} == {"diasafety:2"}
    assert "cyberseceval_injection:1" not in kept
    assert "do_not_answer:1" in kept


def test_a_second_reading_comes_before_the_label(tmp_path, monkeypatch):
    verdicts = {"ailuminate:1": "harmless", "ailuminate:2": "unclear"}
    verdicts |= {"diasafety:1": "harmful", "diasafety:2": "harmless"}
    monkeypatch.setattr("wardgate.train.mini_data.second_reading", lambda: verdicts)
    source(tmp_path, "ailuminate", *[["hate"]] * 3)
    source(tmp_path, "diasafety", ["hate"], ["hate"], ["hate"], [])
    kept = {e.id: e for e in planned(tmp_path, seed=1)}
    made_safe = kept["ailuminate:1"]
    assert (made_safe.unsafe, made_safe.present, made_safe.absent) == (False, frozenset(), frozenset(HAZARDS))
    assert "ailuminate:2" not in kept
    assert kept["ailuminate:3"].unsafe is True
    assert kept["diasafety:1"].present == {Hazard.HATE}
    assert {i for i, e in kept.items() if i.startswith("diasafety") and not e.unsafe} == {"diasafety:2", "diasafety:4"}
    assert "diasafety:3" not in kept, "of a source read in part an unread unsafe row is left out"


def test_under_a_cap_rows_known_to_be_safe_come_first(tmp_path, monkeypatch):
    verdicts = {f"davidson:{n}": "harmless" for n in (3, 2600, 3000)}
    monkeypatch.setattr("wardgate.train.mini_data.second_reading", lambda: verdicts)
    source(tmp_path, "davidson", *[[]] * 3000)
    kept = {e.id: e for e in planned(tmp_path, seed=1)}
    assert len(kept) == 2500
    assert {i for i, e in kept.items() if e.unsafe is False} == set(verdicts)


def test_the_second_reading_that_ships_has_known_verdicts_on_planned_sources():
    verdicts = second_reading()
    assert len(verdicts) > 10_000
    assert set(verdicts.values()) == {"harmless", "unclear", "harmful"}
    assert {i.split(":")[0] for i in verdicts} <= set(PLAN)
    assert {i.split(":")[0] for i, v in verdicts.items() if v == "harmful"} >= READ_IN_PART
