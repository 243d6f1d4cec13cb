"""A head over several layers of a finished run: what it learns from, and that its export says what it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit

torch = pytest.importorskip("torch")

from test_small import quiet, toy  # noqa: E402

from small_encoder import random_head, unigram  # noqa: E402
from wardgate.engine.bundle import load_bundle  # noqa: E402
from wardgate.guards import View  # noqa: E402
from wardgate.guards.encoder import ACTS, EncoderGuard  # noqa: E402
from wardgate.train import head as room  # noqa: E402
from wardgate.train.export import export_onnx  # noqa: E402
from wardgate.train.head import HeadSettings, Readings, fit_head, mixed, open_head, read_texts, save_head  # noqa: E402
from wardgate.train.mini import Settings, cut, padded  # noqa: E402
from wardgate.train.speech_acts import Told  # noqa: E402
from wardgate.train.vocabulary import save_compact  # noqa: E402

QUICK = HeadSettings(layers=(1, 2), hidden=16, dropped=0.1, epochs=30, batch=32, rate=0.02)


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
    head = random_head((1, 3))
    export_onnx(model, tmp_path / "model.onnx", quantised=quantised, head=head)
    save_compact(unigram(), tmp_path / "tokenizer.json")
    texts = toy(12).texts
    guard = EncoderGuard("toy", tmp_path / "model.onnx", tmp_path / "tokenizer.json")
    got = guard.score([View(t) for t in texts]).logits
    np.testing.assert_allclose(got, asked(model, head, texts), atol=tolerance)


def test_the_last_line_of_a_long_text_counts_as_far_as_it_asks(model, tmp_path):
    save_compact(unigram(), tmp_path / "tokenizer.json")
    line, passage, got = "stop hurt you", "milk please " * 100, {}
    for bias in (-40.0, 0.0, 40.0):
        head = random_head((1, 3))
        torch.nn.init.zeros_(head.acts.weight)
        torch.nn.init.constant_(head.acts.bias, bias)
        export_onnx(model, tmp_path / "model.onnx", quantised=False, head=head)
        guard = EncoderGuard("toy", tmp_path / "model.onnx", tmp_path / "tokenizer.json")
        # To this tokenizer the line break and the snowman are the same unknown piece.
        views = [View(f"{passage}\n{line}"), View(f"{passage}☃{line}"), View(line)]
        got[bias], whole, alone = guard.score(views).logits
    assert (alone > whole).any()
    np.testing.assert_allclose(got[-40.0], whole, atol=1e-5)
    np.testing.assert_allclose(got[40.0], np.maximum(whole, alone), atol=1e-5)
    halved = logit(expit(alone.astype(np.float64)) / 2)
    np.testing.assert_allclose(got[0.0], np.maximum(whole, halved), atol=1e-4)


@pytest.mark.parametrize("declines", [-40.0, 0.0, 40.0])
def test_an_answer_counts_by_itself_and_with_its_prompt_unless_it_declines(model, tmp_path, declines):
    save_compact(unigram(), tmp_path / "tokenizer.json")
    head = random_head((1, 3))
    torch.nn.init.zeros_(head.acts.weight)
    head.acts.bias.data = torch.tensor([40.0, declines])
    export_onnx(model, tmp_path / "model.onnx", quantised=False, head=head)
    guard = EncoderGuard("toy", tmp_path / "model.onnx", tmp_path / "tokenizer.json")
    for prompt, answer in (("hurt you", "nice tea"), ("nice tea", "hurt you"), ("some milk", "please stop")):
        views = [View(prompt, answer), View(f"{prompt}\n\n{answer}"), View(answer), View("bread")]
        pair, joined, alone, other = guard.score(views).logits
        goes_on = 1 - expit(declines)
        want = np.maximum(expit(alone), expit(joined) * goes_on)
        np.testing.assert_allclose(expit(pair), want, atol=1e-5)
        np.testing.assert_allclose(other, guard.score([View("bread")]).logits[0], atol=1e-5)
    assert guard.score([View("milk", "")]).ms[0] > 0


def test_where_a_model_does_not_tell_acts_no_answer_declines(model, tmp_path):
    save_compact(unigram(), tmp_path / "tokenizer.json")
    export_onnx(model, tmp_path / "model.onnx", quantised=False)
    guard = EncoderGuard("toy", tmp_path / "model.onnx", tmp_path / "tokenizer.json")
    for prompt, answer in (("hurt you", "nice tea"), ("nice tea", "hurt you")):
        pair, joined, alone = guard.score([View(prompt, answer), View(f"{prompt}\n\n{answer}"), View(answer)]).logits
        np.testing.assert_allclose(pair, np.maximum(alone, joined), atol=1e-5)


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
    means, logits = read_texts(model, unigram(), split.texts, QUICK.layers, tmp_path, quiet)
    head = fit_head(Readings(means, *mixed(logits, split, 1.0)), QUICK, quiet)
    fresh = toy(100, seed=9)
    right = (asked(model, head, fresh.texts)[:, -1] > 0) == (fresh.values[:, -1] > 0)
    assert right.mean() > 0.9


def test_a_reading_goes_on_where_it_stopped_and_reads_no_text_twice(model, tmp_path, monkeypatch):
    class KilledError(Exception): ...

    def kill(done, *_):
        if done > 8:
            raise KilledError

    def read(texts, report=quiet, layers=QUICK.layers):
        total = []
        found = read_texts(
            model, unigram(), texts, layers, tmp_path, lambda *step: (total.append(step[1]), report(*step))
        )
        return np.concatenate([part.reshape(len(texts), -1) for part in found], 1), (total or [0])[-1]

    monkeypatch.setattr("wardgate.train.parts.PART", 8)
    texts = toy(20).texts
    with pytest.raises(KilledError):
        read(texts, kill)
    first, total = read(texts)
    assert total == 12
    more = ["bread", *texts[5:], "bread", *texts[:5]]
    again, total = read(more)
    assert total == 1
    np.testing.assert_array_equal(again[[more.index(t) for t in texts]], first)
    np.testing.assert_array_equal(again[0], again[16])
    assert read(more, layers=(1,))[1] == 21
    model.base.encoder.layer[0].output.dense.bias.data += 1
    assert read(texts)[1] == 20
    model.base.encoder.layer[0].output.dense.bias.data -= 1


def test_a_head_comes_back_as_it_was(tmp_path):
    head = random_head((2, 3))
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
    told = Told(["give me bread", "milk is nice"] * 5, np.tile([True, False], 5), np.ones(10, np.float32))
    monkeypatch.setattr(room, "acts", lambda *_: dict.fromkeys(ACTS, told))
    out = tmp_path / "out"
    made = room.train_head(tmp_path, base, run, out, Settings(), QUICK, version="1", report=quiet)
    assert made["measured"]["auroc"] > 0.9
    guard, text = load_bundle(out).guard, "bread milk please"
    assert np.isfinite(guard.score([View(text), View("")]).logits).all()
    np.testing.assert_allclose(guard.score([View(text)]).logits, asked(model, open_head(out), [text]), atol=0.3)
    with pytest.raises(ValueError, match="does not fit a run of 3 layers"):
        room.train_head(tmp_path, base, run, out, Settings(), replace(QUICK, layers=(3, 4)), version="1", report=quiet)
