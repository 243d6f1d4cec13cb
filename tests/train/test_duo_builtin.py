"""The game with the built-in encoder, going on from a finished run."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from typer.testing import CliRunner  # noqa: E402

import tiny  # noqa: E402
from small_encoder import small_base  # noqa: E402
from wardgate.cli import app  # noqa: E402
from wardgate.engine import Engine  # noqa: E402
from wardgate.train.duo.builtin import Mini, seen  # noqa: E402
from wardgate.train.duo.players import AtPoint  # noqa: E402
from wardgate.train.encoder_model import EncoderGuardModel  # noqa: E402
from wardgate.train.mini import Settings, Split, fit  # noqa: E402
from wardgate.train.runs import open_run  # noqa: E402
from wardgate.train.shallow import thinned  # noqa: E402

SETTINGS = Settings(epochs=1.0, frozen=0, batch_tokens=128, rate=1e-3)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A base, and a run of it: what `wardgate train mini` leaves."""
    folder = tmp_path_factory.mktemp("run")
    base = small_base(tmp_path_factory.mktemp("base"))
    keep = list(range(60))
    torch.manual_seed(1)
    torch.save(EncoderGuardModel.from_base(base, 13, keep=keep).state_dict(), folder / "model.pt")
    (folder / "keep.json").write_text(json.dumps(keep))
    (folder / "tokenizer.json").write_text((base / "tokenizer.json").read_text())
    return base, folder


def same(one, other):
    return all(torch.equal(v, other[k]) for k, v in one.items())


def weights(folder):
    return torch.load(folder / "model.pt", weights_only=True)


def test_with_nothing_missed_the_classifier_is_the_run_itself(run, tmp_path):
    base, start = run
    rows = tiny.parts(60)["train"]
    trainee = Mini(base, start, SETTINGS)
    trainee.train(rows, [], tmp_path / "classifier-0")
    assert same(weights(start), weights(tmp_path / "classifier-0"))
    trainee.train(rows, rows[:4], tmp_path / "classifier-1")
    assert not same(weights(start), weights(tmp_path / "classifier-1"))
    p = trainee.open(tmp_path / "classifier-1").unsafe(["nasty bread", "nice bread"])
    model, tokenizer = open_run(base, tmp_path / "classifier-1")
    ids = torch.tensor([tokenizer.encode("nasty bread").ids])
    with torch.no_grad():
        assert p[0] == pytest.approx(float(torch.sigmoid(model(ids, torch.ones_like(ids))[0, -1])), abs=0.02)


def test_a_round_that_was_killed_ends_with_the_same_weights(run, tmp_path, monkeypatch):
    base, start = run
    rows = tiny.parts(60)["train"]
    monkeypatch.setattr("wardgate.train.steps.CHECKPOINT_EVERY", 2)
    monkeypatch.setattr("wardgate.train.steps.REPORT_EVERY", 1)

    class KilledError(Exception): ...

    def kill(step, total, loss):
        if step == 5:
            raise KilledError

    Mini(base, start, SETTINGS).train(rows, rows[:4], tmp_path / "whole")
    with pytest.raises(KilledError):
        Mini(base, start, SETTINGS, kill).train(rows, rows[:4], tmp_path / "cut")
    assert not (tmp_path / "cut").exists()
    Mini(base, start, SETTINGS).train(rows, rows[:4], tmp_path / "cut")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


def test_a_shallower_student_is_trained_on_both_views_of_what_was_missed(run, tmp_path):
    base, start = run
    model, tokenizer = open_run(base, start)
    student = thinned(model, 1)
    shallow = tmp_path / "student"
    shutil.copytree(start, shallow)
    torch.save(student.state_dict(), shallow / "model.pt")
    rows = tiny.parts(60)["train"]
    spread = [replace(e, text="\u200b".join(e.text)) for e in rows[:4]]
    both = seen(spread, tokenizer, 160)
    assert [e.text for e in both] == [t for e, plain in zip(spread, rows, strict=False) for t in (e.text, plain.text)]
    assert [e.unsafe for e in both[::2]] == [e.unsafe for e in rows[:4]]
    assert seen(rows[:4], tokenizer, 160) == rows[:4]  # nothing to clean: one view
    lengths = [len(tokenizer.encode(e.text).ids) for e in rows]
    assert seen(rows, tokenizer, min(lengths)) == [e for e, n in zip(rows, lengths, strict=True) if n == min(lengths)]

    Mini(base, shallow, SETTINGS, layers=1, views=True).train(rows, spread, tmp_path / "classifier-1")
    torch.manual_seed(SETTINGS.seed)
    fit(student, Split.of([*rows, *both]), tokenizer, SETTINGS, tmp_path, report=lambda *_: None)
    assert same(student.state_dict(), weights(tmp_path / "classifier-1"))


def test_the_command_plays_on_from_a_run_and_packs_a_bundle(run, tmp_path):
    base, start = run
    data = tiny.save_parts(tmp_path / "data", tiny.parts(60))
    words = ["train", "duo", "--data", data, "--out", tmp_path / "game", "--base", base, "--start", start]
    words += ["--rounds", 1, "--k", 2, "--rewrite", 20, "--paired", "--quiet"]
    done = CliRunner().invoke(app, [str(w) for w in words])
    assert done.exit_code == 0, done.output
    assert "round 1: 40 rewrites" in done.output
    engine = Engine.load([tmp_path / "game" / "guard"])
    assert 0 <= engine.check("nasty bread").unsafe <= 1


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (["--start", "START"], "--start goes with --base"),
        (["--views"], "--views goes with --start"),
        (["--mirrored", "2"], "mirrored lies between 0 and 1"),
        (["--at-point", "0"], "the share flagged at the point"),
        (["--mirrored", "0.5", "--generator", "CHAT"], "--mirrored is for the generator"),
        (["--paired", "--drawn", "30"], "one of --paired, --drawn and --hardest"),
        (["--hardest", "1", "--drawn", "30"], "one of --paired, --drawn and --hardest"),
    ],
)
def test_options_that_do_not_go_together_are_told_before_anything_starts(run, tmp_path, changed, said):
    data = tiny.save_parts(tmp_path / "data", tiny.parts(60))
    words = [
        "train",
        "duo",
        "--data",
        data,
        "--out",
        tmp_path / "game",
        *(run[1] if w == "START" else w for w in changed),
    ]
    done = CliRunner().invoke(app, [str(w) for w in words])
    assert done.exit_code == 2
    assert said in done.output
    assert not (tmp_path / "game").exists()


def test_the_command_takes_what_the_measured_game_takes(run, tmp_path):
    base, start = run
    parts = tiny.parts(60)
    data = tiny.save_parts(tmp_path / "data", parts)
    words = ["train", "duo", "--data", data, "--out", tmp_path / "game", "--base", base, "--start", start]
    words += ["--rounds", 1, "--k", 2, "--rewrite", 20, "--paired", "--quiet"]
    words += ["--mirrored", 0.5, "--longest", 200, "--views", "--at-point", 0.1]
    done = CliRunner().invoke(app, [str(w) for w in words])
    assert done.exit_code == 0, done.output
    lines = (tmp_path / "game" / "scored-1.jsonl").read_text("utf-8").splitlines()
    scored = {row["proposal"]: row["p"] for row in map(json.loads, lines)}
    proposals = [
        json.loads(line)
        for path in sorted((tmp_path / "game" / "proposals-1").glob("*.jsonl"))
        for line in path.read_text("utf-8").splitlines()
    ]
    safe = tuple(e.text for e in parts["calibrate"] if e.unsafe is False)
    asked = AtPoint(Mini(base, start, SETTINGS), safe, 0.1).open(tmp_path / "game" / "classifier-0")
    expected = asked.unsafe([p["text"] for p in proposals])
    np.testing.assert_allclose([scored[p["id"]] for p in proposals], expected, atol=1e-5)
    kept = json.loads((tmp_path / "game" / "settings.json").read_text("utf-8"))
    assert (kept["options"]["mirrored"], kept["longest"], kept["options"]["views"]) == (0.5, 200, True)
