"""What a text does: which texts tell it, and that a head learns it and its export says it."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnxruntime = pytest.importorskip("onnxruntime")

from small_encoder import WORDS, random_head, small_base, unigram  # noqa: E402
from wardgate.train import speech_acts as room  # noqa: E402
from wardgate.train.encoder_model import EncoderGuardModel  # noqa: E402
from wardgate.train.export import export_onnx  # noqa: E402
from wardgate.train.head import read_texts  # noqa: E402
from wardgate.train.mini import cut, padded  # noqa: E402
from wardgate.train.mini_data import split_of  # noqa: E402
from wardgate.train.speech_acts import Told, acts, balanced, fit_acts  # noqa: E402
from wardgate.train.written import declining  # noqa: E402


@pytest.fixture
def said(tmp_path, monkeypatch):
    """What each act is told by, of a pool of rows."""
    monkeypatch.setattr(room, "requests", list)
    monkeypatch.setattr(room, "MOST", 20)

    def of(rows):
        for one in {source for *_, source in rows}:
            with gzip.open(tmp_path / f"{one}.jsonl.gz", "wt", encoding="utf-8") as file:
                for text, kind, unsafe, source in rows:
                    row = {"text": text, "kind": kind, "lang": "en", "unsafe": unsafe, "categories": []}
                    file.write(json.dumps(row) + "\n" if source == one else "")
        told, again = acts(tmp_path, 1), acts(tmp_path, 1)
        assert {n: known.texts for n, known in told.items()} == {n: known.texts for n, known in again.items()}
        return told

    return of


def does(known):
    return dict(zip(known.texts, known.does.tolist(), strict=True))


def test_a_head_learns_what_texts_do_and_its_export_says_it(tmp_path):
    model = EncoderGuardModel.from_base(small_base(tmp_path / "base"), 13).eval()
    asks = np.arange(200) % 2 == 0
    texts = [f"give me {w}" if a else f"the {w} is nice" for a, w in zip(asks, WORDS * 9, strict=False)]
    head = random_head((1, 3))

    def read(texts):
        return read_texts(model, unigram(), texts, (1, 3), tmp_path / "read", lambda *_: None)

    alike = np.ones(200, np.float32)
    declines = Told(texts[::2] + texts[1::2], np.arange(200) >= 100, alike)
    fit_acts(head, read, {"asks": Told(texts, asks, alike), "declines": declines})
    export_onnx(model, tmp_path / "model.onnx", quantised=False, head=head)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    ids, mask = padded(cut(unigram(), ["give me some tea", "the awful tea is nice now"], 40), [0, 1])
    [got] = session.run(["acts"], {"ids": ids.numpy(), "mask": mask.numpy().astype(np.int32)})
    with torch.no_grad():
        states = model.layer_means(ids, mask)
        want = head.speech_acts(torch.cat([states[1], states[3]], 1)).numpy()
    np.testing.assert_allclose(got, want, atol=1e-3)
    assert ((got > 0) == [[True, False], [False, True]]).all()


def test_lines_that_ask_are_users_and_the_others_of_answers(said):
    trained = [t for t in (f"How do I bake bread number {n}?" for n in range(60)) if split_of(t) == "train"][:30]
    held = next(t for t in (f"What is cake number {w}?" for w in WORDS * 9) if split_of(t) != "train")
    answer, quoted = "Take the bread. Cut it well. Eat it with cheese.", "An old letter:\nis it yours"
    rows = [(answer, "response"), ("Fine. Thanks.", "response"), (quoted, "prompt"), ("You bore me", "comment")]
    rows += [("what he said", "dialogue"), (held, "prompt"), *((t, "prompt") for t in trained)]
    lines = does(said([(text, kind, 0, "toy") for text, kind in rows])["asks"])
    assert {t for t, asks in lines.items() if not asks} == {"Cut it well.", "Eat it with cheese."}
    assert lines["You bore me"]
    assert len(set(lines) & {*trained, "is it yours"}) == 20
    assert not set(lines) & {held, quoted, answer, "what he said"}


def test_answers_decline_by_their_words_and_doubtful_ones_are_left_out(said):
    no, yes, other = "I'm sorry, I cannot help.", "Cut the bread.", "Four plus five is nine."
    on, odd = "I can't, but do it so.", "Be kind."
    rows = [(no, 0, "gptfuzz_responses"), (yes, 1, "gptfuzz_responses"), (on, 1, "gptfuzz_responses")]
    rows += [(odd, 0, "gptfuzz_responses"), (other, 0, "gsm8k")]
    known = said([(text, "response", unsafe, source) for text, unsafe, source in rows])["declines"]
    answers = does(known)
    assert (answers[no], answers[yes], answers[other]) == (True, False, False)
    assert not {on, odd} & set(answers)
    assert set(declining()) < set(answers)
    weights = dict(zip(known.texts, known.weights.tolist(), strict=True))
    assert {weights[t] for t in declining()} == {room.WRITTEN}
    assert {weights[t] for t in (no, yes, other)} == {1}


def test_both_sides_weigh_alike_and_the_mean_is_one():
    known = Told([""] * 5, np.array([True, False, False, False, True]), np.array([3, 1, 1, 1, 1], np.float32))
    np.testing.assert_allclose(balanced(known), [1.875, 0.8333, 0.8333, 0.8333, 0.625], atol=1e-4)
