"""The encoder of the built-in guard small: what it learns, that it resumes, and that its export is the model."""

from __future__ import annotations

import gzip
import json
import random
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from small_encoder import WORDS, random_head, small_base, unigram  # noqa: E402
from wardgate.guards.encoder import EncoderGuard  # noqa: E402
from wardgate.guards.scores import View  # noqa: E402
from wardgate.train import small as room  # noqa: E402
from wardgate.train.encoder_model import EncoderGuardModel, LayerHead  # noqa: E402
from wardgate.train.export import export_onnx  # noqa: E402
from wardgate.train.head import save_head  # noqa: E402
from wardgate.train.lessons import (  # noqa: E402
    Lessons,
    altered,
    answers,
    distinct_rows,
    reduced,
    together,
    unlabelled,
)
from wardgate.train.mini import Split, cut, padded, predict  # noqa: E402
from wardgate.train.small import SmallSettings, blank, fit_small, piece_vectors  # noqa: E402
from wardgate.train.vocabulary import save_compact  # noqa: E402

QUICK = SmallSettings(
    width=32, layers=1, inner=64, epochs=8, batch_tokens=256, max_tokens=40, rate=0.01, hidden=0.05, states=0.0
)

LEARNT = 0.9
"""Agreement with the truth of new toy texts: .94 to .975 over seeds, threads and longer training, .5 by chance."""


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
    states = np.zeros((len(split.texts), 3), np.float16)
    return Lessons(cut(unigram(), split.texts, 40), taught, states, split.values, np.zeros_like(split.weights))


def test_it_learns_what_the_teacher_says_where_no_label_is_known(teacher, tmp_path):
    model = fresh(teacher)
    fit_small(model, lessons(toy(600)), QUICK, tmp_path, quiet)
    held = toy(200, seed=6)
    p = torch.sigmoid(torch.from_numpy(predict(model, held.texts, unigram()))).numpy()
    assert ((p > 0.5) == (held.values > 0.5)).mean() > LEARNT


def test_labels_are_heard_beside_the_teacher(teacher, tmp_path):
    split = toy(600)
    wrong = replace(lessons(split), taught=1 - split.values, weights=split.weights)
    model = fresh(teacher)
    fit_small(model, wrong, replace(QUICK, teacher=0.1), tmp_path, quiet)
    held = toy(200, seed=6)
    assert ((predict(model, held.texts, unigram()) > 0) == (held.values > 0.5)).mean() > LEARNT


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


def test_it_learns_what_the_teacher_sees_where_its_answers_say_nothing(teacher, tmp_path):
    split, held = toy(600), toy(200, seed=6)

    def told_apart(weight):
        """The share of the variance of its states that lies between safe and unsafe texts."""
        model, seen = fresh(teacher), np.repeat(2 * split.values[:, :1] - 1, 3, axis=1).astype(np.float16)
        given = replace(lessons(split), taught=np.full_like(split.values, 0.5), states=seen)
        (tmp_path / str(weight)).mkdir()
        fit_small(model, given, replace(QUICK, states=weight), tmp_path / str(weight), quiet)
        with torch.no_grad():
            states = model.eval().mean_states(*padded(cut(unigram(), held.texts, 40), range(200))).numpy()
        bad = held.values[:, -1] > 0.5
        between = bad.mean() * (1 - bad.mean()) * ((states[bad].mean(0) - states[~bad].mean(0)) ** 2).sum()
        return between / states.var(0).sum()

    assert told_apart(1.0) > 0.5 > 2 * told_apart(0.0)


def test_answers_are_the_heads():
    head, means = random_head((1, 3), width=16), np.random.default_rng(0).normal(size=(9000, 2, 16)).astype(np.float16)
    with torch.no_grad():
        want = torch.sigmoid(head(torch.from_numpy(means.reshape(9000, 32)).float())).numpy()
    np.testing.assert_allclose(answers(means, head), want, atol=1e-6)


def test_reduced_states_keep_what_varies_together():
    head, rng = random_head((1, 3), width=16), np.random.default_rng(0)
    few = rng.normal(size=(9000, 4)) @ rng.normal(size=(4, 32))
    means = (few * head.spread.numpy() + head.centre.numpy()).reshape(9000, 2, 16).astype(np.float16)
    states = reduced(means, head, 4).astype(np.float32)
    assert (states**2).mean() == pytest.approx(1, abs=0.02)
    found = np.linalg.lstsq(states, few, rcond=None)[0]
    np.testing.assert_allclose(states @ found, few, atol=0.05)


def test_texts_that_the_plan_leaves_out_are_lessons_without_labels(tmp_path):
    rows = [{"text": f"bread number {n}", "lang": "en", "source": "a"} for n in range(200)]
    rows += [{"text": "Brot auf Bengali", "lang": "bn", "source": "a"}]
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as file:
        for row in rows:
            file.write(json.dumps(row | {"kind": "prompt", "unsafe": 0, "categories": []}) + "\n")
    known = Split([f"bread number {n}" for n in range(100)], *[np.ones((100, 13), np.float32)] * 2, ["a"] * 100)
    found = unlabelled(tmp_path, known, 60, 1)
    assert found.texts == unlabelled(tmp_path, known, 60, 1).texts != unlabelled(tmp_path, known, 60, 2).texts
    assert len(found.texts) == len(set(found.texts)) == 60
    assert not set(found.texts) & {*known.texts, "Brot auf Bengali"}
    assert not found.weights.any()
    assert found.sources == ["a"] * 60
    whole = together(known, found)
    assert whole.texts == known.texts + found.texts
    assert whole.weights.sum() == known.weights.sum()


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
    save_head(run, LayerHead((1, 3), 64, 8, 13))
    more = Split(["bread for you"], *[np.zeros((1, 13), np.float32)] * 2, ["toy"])
    monkeypatch.setattr(room, "unlabelled", lambda *_: more)
    splits = {"train": toy(300), "calibrate": toy(120, 6), "held-back": toy(120, 7)}
    monkeypatch.setattr(room, "build_splits", lambda *_: splits)
    settings = replace(QUICK, vocabulary=50, width=64, max_tokens=160, components=8)
    out = tmp_path / "out"
    manifest = room.train_small(tmp_path, base, run, out, Settings(), settings, version="1", report=quiet)
    assert manifest["kind"] == "encoder"
    bundle = load_bundle(out)
    assert len(bundle.canary) == 100
    assert list((run / "read").glob("*.npz"))
    assert np.isfinite(bundle.guard.score([View("bread milk"), View("")]).logits).all()
