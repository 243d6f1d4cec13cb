"""The encoder of the built-in guard small: what it learns, that it resumes, and that its export is the model."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from small_encoder import WORDS, small_base, unigram  # noqa: E402
from wardgate.guards.encoder import EncoderGuard  # noqa: E402
from wardgate.guards.scores import View  # noqa: E402
from wardgate.train import parts  # noqa: E402
from wardgate.train import small as room  # noqa: E402
from wardgate.train.encoder_model import EncoderGuardModel  # noqa: E402
from wardgate.train.export import export_onnx  # noqa: E402
from wardgate.train.mini import Split, cut, predict  # noqa: E402
from wardgate.train.small import (  # noqa: E402
    Lessons,
    SmallSettings,
    altered,
    blank,
    distinct_rows,
    fit_small,
    opinions,
    piece_vectors,
)
from wardgate.train.vocabulary import save_compact  # noqa: E402

QUICK = SmallSettings(width=32, layers=1, inner=64, epochs=8, batch_tokens=256, max_tokens=40, rate=0.01, hidden=0.05)


def quiet(*_args):
    pass


def toy(n, seed=5):
    rng = random.Random(seed)
    bad = [rng.random() < 0.5 for _ in range(n)]
    ends = ("milk please", "hurt you")
    texts = [
        " ".join([*rng.choices(WORDS[:9], k=rng.randrange(2, 12)), ends[b], *rng.choices(WORDS, k=2)]) for b in bad
    ]
    values = np.repeat(np.array(bad, np.float32)[:, None], 13, axis=1)
    return Split(texts, values, np.ones((n, 13), np.float32), ["toy"] * n)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    torch.manual_seed(2)
    return EncoderGuardModel.from_base(small_base(tmp_path_factory.mktemp("base")), 13).eval()


def fresh(teacher, seed=3):
    torch.manual_seed(seed)
    return blank(piece_vectors(teacher, QUICK.width, seed), QUICK)


def lessons(split):
    """The truth comes from the teacher alone: no label is known."""
    taught = 0.02 + 0.96 * split.values
    return Lessons(cut(unigram(), split.texts, 40), taught, split.values, np.zeros_like(split.weights))


def test_it_learns_what_the_teacher_says_where_no_label_is_known(teacher, tmp_path):
    model = fresh(teacher)
    fit_small(model, lessons(toy(600)), QUICK, tmp_path, quiet)
    held = toy(200, seed=6)
    p = torch.sigmoid(torch.from_numpy(predict(model, held.texts, unigram()))).numpy()
    assert ((p > 0.5) == (held.values > 0.5)).mean() > 0.95


def test_labels_are_heard_beside_the_teacher(teacher, tmp_path):
    split = toy(600)
    wrong = Lessons(lessons(split).ids, 1 - split.values, split.values, split.weights)
    model = fresh(teacher)
    fit_small(model, wrong, replace(QUICK, teacher=0.1), tmp_path, quiet)
    held = toy(200, seed=6)
    assert ((predict(model, held.texts, unigram()) > 0) == (held.values > 0.5)).mean() > 0.95


def test_interrupted_it_goes_on_to_the_same_weights(teacher, tmp_path):
    class KilledError(Exception): ...

    def kill(step, total, _loss):
        if step > total / 2:
            raise KilledError

    split = lessons(toy(3000))
    ends = []
    for name, report in (("whole", quiet), ("cut", kill), ("cut", quiet)):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        model = fresh(teacher)
        try:
            fit_small(model, split, QUICK, folder, report)
        except KilledError:
            assert (folder / "checkpoint.pt").exists()
            continue
        ends.append(model.state_dict())
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize(("quantised", "tolerance"), [(False, 1e-5), (True, 0.05)])
def test_the_exported_guard_says_what_the_model_says(teacher, tmp_path, quantised, tolerance):
    model = fresh(teacher)
    fit_small(model, lessons(toy(600)), QUICK, tmp_path, quiet)
    export_onnx(model.eval(), tmp_path / "model.onnx", quantised=quantised)
    save_compact(unigram(), tmp_path / "tokenizer.json")
    guard = EncoderGuard("small", tmp_path / "model.onnx", tmp_path / "tokenizer.json")
    texts = toy(40, seed=8).texts
    got = guard.score([View(t) for t in texts]).logits
    want = predict(model, texts, unigram())
    np.testing.assert_allclose(*(1 / (1 + np.exp(-z)) for z in (got, want)), atol=tolerance)


def test_pieces_that_the_teacher_takes_for_alike_start_alike(teacher):
    with torch.no_grad():
        words = teacher.base.embeddings.word_embeddings.weight
        words[20], kept = words[21].clone(), words[20].clone()
        vectors = piece_vectors(teacher, 32, 0)
        words[20] = kept
    assert vectors.shape == (60, 32)
    assert vectors.std().item() == pytest.approx(0.05, rel=1e-3)
    apart = torch.cdist(vectors, vectors)
    assert apart[20, 21] < 1e-4
    assert apart[20, 22] > 0.01


def test_opinions_are_asked_once_part_by_part(teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "PART", 12)
    texts, told = toy(30).texts, []
    first = opinions(teacher, unigram(), texts, tmp_path, lambda *said: told.append(said[:2]))
    assert told[-1] == (30, 30)
    assert told == sorted(told)
    np.testing.assert_allclose(first, 1 / (1 + np.exp(-predict(teacher, texts, unigram()))), atol=0.02)
    np.testing.assert_array_equal(opinions(None, None, texts, tmp_path, quiet), first)
    [second] = tmp_path.glob("1-*.npy")
    second.unlink()
    told.clear()
    np.testing.assert_array_equal(opinions(teacher, unigram(), texts, tmp_path, lambda *s: told.append(s[0])), first)
    assert told[-1] == 24
    others = opinions(teacher, unigram(), texts[::-1], tmp_path, quiet)
    np.testing.assert_allclose(others, first[::-1], atol=0.02)


def test_copies_are_changed_in_ways_that_the_seed_fixes():
    split = distinct_rows(toy(400))
    copies = altered(split, 0.5, 1)
    assert copies == altered(split, 0.5, 1) != altered(split, 0.5, 2)
    assert len(copies) == round(0.5 * len(split.texts))
    changed = [c for c in copies if c not in set(split.texts)]
    assert len(changed) > 0.5 * len(copies)
    assert any(len(c) > max(map(len, split.texts)) for c in copies)


def test_a_text_that_occurs_twice_is_one_lesson():
    split = toy(20)
    twice = Split(
        split.texts * 2,
        np.concatenate([split.values, 1 - split.values]),
        np.concatenate([split.weights] * 2),
        split.sources * 2,
    )
    one = distinct_rows(twice)
    assert one.texts == list(dict.fromkeys(split.texts))
    first = [split.texts.index(t) for t in one.texts]
    np.testing.assert_array_equal(one.values, split.values[first])


def test_long_texts_are_cut_to_their_start():
    ids = cut(unigram(), ["bread cheese milk", "bread"], 4)
    assert [row.tolist() for row in ids] == [[0, 4, 5, 2], [0, 4, 2]]


def test_the_whole_recipe_writes_a_bundle(teacher, tmp_path, monkeypatch):
    from wardgate.engine.bundle import load_bundle
    from wardgate.train.mini import Settings

    base = small_base(tmp_path / "base")
    run = tmp_path / "run"
    run.mkdir()
    save_compact(unigram(), run / "tokenizer.json")
    (run / "keep.json").write_text(str(list(range(60))))
    torch.save(teacher.state_dict(), run / "model.pt")
    splits = {"train": toy(300), "calibrate": toy(120, 6), "held-back": toy(120, 7)}
    monkeypatch.setattr(room, "build_splits", lambda *_: splits)
    settings = replace(QUICK, vocabulary=50, width=64, max_tokens=160)
    out = tmp_path / "out"
    manifest = room.train_small(tmp_path, base, run, out, Settings(), settings, version="1", report=quiet)
    assert manifest["kind"] == "encoder"
    bundle = load_bundle(out)
    assert len(bundle.canary) == 100
    assert list((out / "opinions").glob("0-*.npy"))
    assert np.isfinite(bundle.guard.score([View("bread milk"), View("")]).logits).all()
