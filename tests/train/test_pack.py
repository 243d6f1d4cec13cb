"""From a trained encoder to a bundle, and n-grams beside it."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from small_encoder import SETTINGS, compact, toy_split  # noqa: E402
from wardgate.calibrate.metrics import log_loss  # noqa: E402
from wardgate.engine.bundle import BundleError, load_bundle  # noqa: E402
from wardgate.guards import View  # noqa: E402
from wardgate.guards.encoder import Beside, EncoderGuard, EncoderSettings  # noqa: E402
from wardgate.hazards import LABEL_MAPS, WARDGATE  # noqa: E402
from wardgate.train.encoder_model import EncoderGuardModel  # noqa: E402
from wardgate.train.export import export_onnx  # noqa: E402
from wardgate.train.mini import Split, fit  # noqa: E402
from wardgate.train.nano import NanoSettings, train_nano  # noqa: E402
from wardgate.train.pack import (  # noqa: E402
    deployed_logits,
    finish,
    fit_calibrator,
    fit_languages,
    joined,
    pack,
    unsafe_probabilities,
)


def test_from_rows_to_a_bundle_that_the_engine_loads(base, tmp_path):
    torch.manual_seed(0)
    made = EncoderGuardModel.from_base(base, 13)
    tokenizer = compact(tmp_path)
    fit(made, toy_split(), tokenizer, SETTINGS, tmp_path, report=lambda *_: None)
    manifest = pack(made, {"calibrate": toy_split(), "held-back": toy_split()}, tmp_path, name="toy", version="0")
    assert manifest["measured"]["auroc"] > 0.9
    bundle = load_bundle(tmp_path)
    p = bundle.calibrator.apply(bundle.guard.score([View("cheese hurt you"), View("cheese milk please")])).unsafe
    assert p[0] > p[1]
    assert json.loads((tmp_path / "bundle.json").read_text())["labels"] == "wardgate"


def test_a_bundle_knows_in_which_language_it_is_shy():
    """In German the same truth comes with lower logits; packing finds out by how much, and the rest stays."""
    rng = np.random.default_rng(0)
    asked = "Could you tell me what the weather is like today?", "Kannst du mir sagen, wie heute das Wetter ist?"
    texts = [asked[0], asked[0], asked[1]] * 1000
    truth = rng.normal(0, 3, len(texts))
    values = np.repeat((rng.random(len(texts)) < 1 / (1 + np.exp(-truth)))[:, None], 13, axis=1).astype(np.float32)
    split = Split(texts, values, np.ones_like(values), ["toy"] * len(texts))
    z = np.repeat((truth - np.tile([0.0, 0.0, 1.0], 1000))[:, None], 13, axis=1)
    made = fit_languages(z, split, fit_calibrator(z, split))
    assert set(made.by_language) == {"de"}
    assert made.by_language["de"] == pytest.approx(1.0, abs=0.2)
    p = unsafe_probabilities(z, texts, made)
    english = np.array(texts) == asked[0]
    np.testing.assert_array_equal(p[english], made.methods["unsafe"](z[english, -1]))
    assert log_loss(p[~english], values[~english, -1]) < log_loss(
        made.methods["unsafe"](z[~english, -1]), values[~english, -1]
    )


def test_an_encoder_and_n_grams_become_one_bundle(base, tmp_path):
    splits = {"calibrate": toy_split(), "held-back": toy_split(), "train": toy_split()}
    deep, wide, both = (tmp_path / name for name in ("deep", "wide", "both"))
    deep.mkdir()
    compact(deep)
    pack(EncoderGuardModel.from_base(base, 13), splits, deep, name="deep", version="1")
    train_nano(splits, wide, NanoSettings(epochs=2, batch=32, rate=0.02), version="2", report=lambda *_: None)
    guard, card = joined("toy", deep, wide, both, share=0.5)
    manifest = finish(guard, splits, both, version="3", card=card)
    assert manifest["measured"]["auroc"] > 0.9
    assert [(part["kind"], part["version"]) for part in manifest["of"]] == [("encoder", "1"), ("ngrams", "2")]
    views = [View("cheese hurt you"), View("")]
    z = [load_bundle(folder).guard.score(views).logits for folder in (deep, wide, both)]
    np.testing.assert_allclose(z[2], z[0] + 0.5 * np.maximum(z[1], -1), rtol=1e-5)
    for one, other in ((wide, deep), (both, wide)):
        with pytest.raises(ValueError, match="not 'encoder' and 'ngrams'"):
            joined("toy", one, other, tmp_path / "other", share=0.5)
    (both / "weights.safetensors").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"weights\.safetensors is damaged"):
        load_bundle(both)


class Counted:
    """N-grams by proxy: each label's logit is the number of letters of a piece, and every piece is kept."""

    labels = WARDGATE

    def __init__(self):
        self.pieces = []

    def logits(self, texts):
        self.pieces += texts
        return np.repeat(np.array([[len(t)] for t in texts], dtype=np.float32), 13, axis=1)


def test_n_grams_are_asked_about_the_same_pieces_as_the_encoder(tmp_path, model):
    export_onnx(model, tmp_path / "m.onnx", quantised=False)
    compact(tmp_path)
    small = EncoderSettings(window=20, overlap=4)
    files = (tmp_path / "m.onnx", tmp_path / "tokenizer.json")
    words = Counted()
    plain, both = (EncoderGuard("t", *files, settings=small, beside=b) for b in (None, Beside(words, 0.5)))
    passage = " ".join(f"milk {chr(0x4E00 + i)}" for i in range(30))  # so that no stretch of it occurs twice
    short, long = "give me bread", f"{passage}\nstop hurt you"
    one, two = plain.score([View(short)]).logits, both.score([View(short)]).logits
    np.testing.assert_allclose(two, one + 0.5 * len(short), rtol=1e-6)
    assert words.pieces == [short]
    words.pieces.clear()
    found = both.score([View(long), View("")]).logits
    assert np.isfinite(found).all()
    assert "" in words.pieces
    assert "stop hurt you" in words.pieces
    windows = sorted((long.index(p), len(p)) for p in words.pieces if p and p != "stop hurt you")
    assert len(windows) > 2
    ends = [start + length for start, length in windows]
    assert windows[0][0] == 0
    assert ends[-1] == len(long)
    assert all(start < end for (start, _), end in zip(windows[1:], ends, strict=False))


def test_harmless_words_take_no_more_than_the_floor():
    words = Counted()
    words.logits = lambda texts: np.array([[-9.0] * 12 + [3.0]] * len(texts), dtype=np.float32)
    np.testing.assert_allclose(Beside(words, 0.5, floor=-2).adds(["a", "b"]), [[-1] * 12 + [1.5]] * 2)


def test_pieces_of_few_tokens_and_many_letters_are_asked_about_a_few_at_a_time():
    words, asked = Counted(), []
    kept = words.logits
    words.logits = lambda texts: asked.append(sum(map(len, texts))) or kept(texts)
    texts = [" " * 30_000, "a", "b" * 20_000, "", "c" * 15_000, " " * 100_000]
    np.testing.assert_allclose(Beside(words, 0.5).adds(texts)[:, 0], [len(t) / 2 for t in texts])
    assert sorted(words.pieces) == sorted(texts)
    assert max(a for a in asked if a != 100_000) <= 40_000


def test_n_grams_of_other_labels_do_not_go_beside(tmp_path, model):
    export_onnx(model, tmp_path / "m.onnx", quantised=False)
    compact(tmp_path)
    other = Counted()
    other.labels = LABEL_MAPS["duoguard"]
    with pytest.raises(ValueError, match="do not answer the same labels"):
        EncoderGuard("t", tmp_path / "m.onnx", tmp_path / "tokenizer.json", beside=Beside(other, 0.5))


@pytest.mark.parametrize("line", ["stop hurt you", "stop hurt you " * 40])
def test_the_last_line_of_a_long_text_is_also_read_alone(base, tmp_path, model, line):
    export_onnx(model, tmp_path / "m.onnx", quantised=False)
    compact(tmp_path)
    small = EncoderSettings(window=20, overlap=4)
    guard = EncoderGuard("t", tmp_path / "m.onnx", tmp_path / "tokenizer.json", settings=small)
    passage = "milk please " * 40
    # To this tokenizer the line break and the snowman are the same unknown piece.
    joined, whole, alone = guard.score([View(t) for t in (f"{passage}\n{line}", f"{passage}☃{line}", line)]).logits
    np.testing.assert_allclose(joined, np.maximum(whole, alone) if len(line) < 20 else whole, atol=1e-5)
    assert len(line) > 20 or (alone > whole).any()


def test_batching_does_not_change_scores(base, tmp_path, model):
    export_onnx(model, tmp_path / "m.onnx", quantised=False)
    compact(tmp_path)
    texts = ["milk", "give me some bread and cheese please now", "", "stop " * 200]
    guards = [
        EncoderGuard(
            "t",
            tmp_path / "m.onnx",
            tmp_path / "tokenizer.json",
            settings=EncoderSettings(window=20, overlap=4, batch_tokens=b),
        )
        for b in (20, 4096)
    ]
    rows = [g.score([View(t) for t in texts]).logits for g in guards]
    alone = np.concatenate([guards[0].score([View(t)]).logits for t in texts])
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-5)
    np.testing.assert_allclose(rows[0], alone, atol=1e-5)
    np.testing.assert_allclose(deployed_logits(guards[0], texts), rows[0], atol=1e-5)
    assert WARDGATE.labels == guards[0].score([View("x")]).labels
