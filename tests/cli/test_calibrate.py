"""`wardgate calibrate`, from file to file to check."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest


def wardgate(*args):
    env = os.environ | {"COLUMNS": "120", "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-m", "wardgate", *map(str, args)],
        capture_output=True,
        check=False,
        env=env,
        text=True,
        timeout=120,
    )


SAFE = ["Good morning, {}.", "How do I cook {}?", "I like {} a lot.", "What is the price of {}?"]
UNSAFE = ["I will hurt you, {}.", "You are a worthless idiot, {}.", "I hate you and your {}.", "Shut up, stupid {}!"]
THINGS = ["Anna", "rice", "my friend", "music", "the team", "tea", "neighbour"]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "labelled.jsonl"
    rows = [(t.format(x), y) for y, texts in enumerate((SAFE, UNSAFE)) for t in texts for x in THINGS]
    path.write_text("".join(json.dumps({"text": t, "unsafe": y}) + "\n" for t, y in rows))
    return path


def test_from_labelled_rows_to_a_calibrator_that_check_uses(labelled, tmp_path):
    out = tmp_path / "c.json"
    done = wardgate("calibrate", labelled, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "fitted on 56 rows (28 unsafe)" in done.stdout
    assert "before ECE" in done.stdout
    assert done.stderr == ""
    plain, tuned = (
        json.loads(wardgate("check", "You are an idiot", "--json", *more).stdout)
        for more in ([], ["--calibrator", out])
    )
    assert plain["unsafe"] != tuned["unsafe"]
    assert plain["guards"][0]["scores"] == tuned["guards"][0]["scores"]


def test_by_language(labelled, tmp_path):
    rows = [json.loads(line) for line in labelled.read_text().splitlines()]
    path = tmp_path / "spoken.jsonl"
    usual = [row | {"language": "en"} for row in rows] * 3
    path.write_text("".join(json.dumps(row) + "\n" for row in usual + [row | {"language": "de"} for row in rows] * 2))
    done = wardgate("calibrate", path, "--method", "platt", "--by-language", "--guard", "nano")
    assert done.returncode == 0, done.stderr
    assert "after by language ECE" in done.stdout
    assert "logits shifted by language: de " in done.stdout
    few = wardgate("calibrate", labelled, "--method", "platt", "--by-language", "--guard", "nano")
    assert "none, since no other language has rows enough" in few.stdout


def test_without_labels(tmp_path):
    done = wardgate("calibrate", "--method", "contextual", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["methods"]["unsafe"]["slope"] == 1.0


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        ([], 2, "give a file of labelled rows"),
        (["gone.jsonl"], 2, "No such file"),
        (["{labelled}", "--method", "magic"], 2, "there is no method 'magic' (known: auto, temperature"),
        (["{labelled}", "--guard", "nope"], 2, "nope"),
        (["--method", "contextual", "--by-language"], 2, "--by-language needs labelled rows"),
        (["{labelled}", "--method", "isotonic"], 1, "isotonic needs 500"),
        (["{bad}"], 2, "line 2: needs a string `text` and `unsafe` as 0 or 1"),
    ],
)
def test_bad_usage_is_one_line_that_never_shows_a_text(labelled, tmp_path, args, code, said):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "secret words", "unsafe": 1}\n{"text": "secret words"}\n')
    done = wardgate("calibrate", *(a.format(labelled=labelled, bad=bad) for a in args))
    assert done.returncode == code
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "secret" not in done.stderr


def test_a_calibrator_that_is_none_is_bad_usage(labelled):
    done = wardgate("check", "x", "--calibrator", labelled)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "not a calibrator file" in done.stderr
