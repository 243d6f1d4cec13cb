"""A head over several layers of a finished run: what it learns from, and that its export says what it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from test_small import quiet, toy  # noqa: E402

from small_encoder import small_base, unigram  # noqa: E402
from wardgate.engine.bundle import load_bundle  # noqa: E402
from wardgate.guards import View  # noqa: E402
from wardgate.guards.encoder import EncoderGuard  # noqa: E402
from wardgate.train import head as room  # noqa: E402
from wardgate.train.encoder_model import EncoderGuardModel, LayerHead  # noqa: E402
from wardgate.train.export import export_onnx  # noqa: E402
from wardgate.train.head import HeadSettings, Readings, fit_head, mixed, open_head, read_texts, save_head  # noqa: E402
from wardgate.train.mini import Settings, cut, padded  # noqa: E402
from wardgate.train.vocabulary import save_compact  # noqa: E402

QUICK = HeadSettings(layers=(1, 2), hidden=16, dropped=0.1, epochs=30, batch=32, rate=0.02)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return small_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def model(base):
    torch.manual_seed(2)
    return EncoderGuardModel.from_base(base, 13).eval()


def drawn(layers, seed=0, width=64):
    """A head of random weights that expects something else than zero mean and unit spread."""
    torch.manual_seed(seed)
    head = LayerHead(layers, width, 8, 13).eval()
    head.centre.normal_()
    head.spread.uniform_(0.5, 2)
    return head


def asked(model, head, texts):
    ids, mask = padded(cut(unigram(), texts, 40), range(len(texts)))
    with torch.no_grad():
        means = model.layer_means(ids, mask)
        return head(torch.cat([means[i] for i in head.layers], 1)).numpy()


def test_means_are_taken_over_tokens_alone(model):
    short, long = "bread milk", "bread cheese milk cake please"
    ids, mask = padded(cut(unigram(), [short, long], 40), [0, 1])
    alone, beside = (padded(cut(unigram(), [short], 40), [0]), (ids, mask))
    with torch.no_grad():
        for one, two in zip(model.layer_means(*alone), model.layer_means(*beside), strict=True):
            torch.testing.assert_close(one[0], two[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(model.head(model.layer_means(ids, mask)[-1]), model(ids, mask))


@pytest.mark.parametrize(("quantised", "tolerance"), [(False, 1e-4), (True, 0.1)])
def test_the_exported_graph_answers_as_the_head_does(model, tmp_path, quantised, tolerance):
    head = drawn((1, 3))
    export_onnx(model, tmp_path / "model.onnx", quantised=quantised, head=head)
    save_compact(unigram(), tmp_path / "tokenizer.json")
    texts = toy(12).texts
    guard = EncoderGuard("toy", tmp_path / "model.onnx", tmp_path / "tokenizer.json")
    got = guard.score([View(t) for t in texts]).logits
    np.testing.assert_allclose(got, asked(model, head, texts), atol=tolerance)


def test_what_is_learnt_is_the_runs_own_answer_moved_towards_known_labels():
    split = toy(4)
    split.weights[1] = 0
    logits = np.full((6, 13), np.log(3), np.float32)
    wanted, weights = mixed(logits, split, 0.4)
    own = 0.75
    np.testing.assert_allclose(wanted[0], 0.6 * own + 0.4 * split.values[0], rtol=1e-6)
    np.testing.assert_allclose(wanted[[1, 4, 5]], own, rtol=1e-6)
    np.testing.assert_allclose(weights[:, 0], [1, 0.6, 1, 1, 0.6, 0.6], rtol=1e-6)


def test_a_head_learns_what_the_layers_below_the_last_know(model, tmp_path):
    split = toy(400)
    means, logits = read_texts(model, unigram(), split.texts, QUICK, tmp_path, quiet)
    head = fit_head(Readings(means, *mixed(logits, split, 1.0)), QUICK, quiet)
    fresh = toy(100, seed=9)
    right = (asked(model, head, fresh.texts)[:, -1] > 0) == (fresh.values[:, -1] > 0)
    assert right.mean() > 0.9


def test_a_reading_goes_on_where_it_stopped(model, tmp_path, monkeypatch):
    monkeypatch.setattr("wardgate.train.parts.PART", 8)
    texts, told = toy(20).texts, []
    first = read_texts(model, unigram(), texts, QUICK, tmp_path, lambda n, *_: told.append(n))
    assert told[-1] == 20
    [second] = tmp_path.glob("1-*.npy")
    second.unlink()
    told.clear()
    again = read_texts(model, unigram(), texts, QUICK, tmp_path, lambda n, *_: told.append(n))
    assert told[-1] == 16
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_head_comes_back_as_it_was(tmp_path):
    head = drawn((2, 3))
    save_head(tmp_path, head)
    again = open_head(tmp_path)
    assert again.layers == (2, 3)
    read = torch.randn(5, 128)
    torch.testing.assert_close(again(read), head(read))
    with pytest.raises(FileNotFoundError, match="train head"):
        open_head(tmp_path / "other")


def test_the_whole_recipe_writes_a_bundle(base, model, tmp_path, monkeypatch):
    run = tmp_path / "run"
    run.mkdir()
    save_compact(unigram(), run / "tokenizer.json")
    (run / "keep.json").write_text(str(list(range(60))))
    torch.save(model.state_dict(), run / "model.pt")
    splits = {"train": toy(300), "calibrate": toy(120, 6), "held-back": toy(120, 7)}
    monkeypatch.setattr(room, "build_splits", lambda *_: splits)
    out = tmp_path / "out"
    made = room.train_head(tmp_path, base, run, out, Settings(), QUICK, version="1", report=quiet)
    assert made["measured"]["auroc"] > 0.9
    guard, text = load_bundle(out).guard, "bread milk please"
    assert np.isfinite(guard.score([View(text), View("")]).logits).all()
    np.testing.assert_allclose(guard.score([View(text)]).logits, asked(model, open_head(out), [text]), atol=0.3)
    with pytest.raises(ValueError, match="does not fit a run of 3 layers"):
        room.train_head(tmp_path, base, run, out, Settings(), replace(QUICK, layers=(3, 4)), version="1", report=quiet)
