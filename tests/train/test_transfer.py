"""Cross-lingual transfer: what is learnt of translations, and that the run learns it without losing the originals."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from test_small import quiet, toy  # noqa: E402

from small_encoder import small_base, unigram  # noqa: E402
from wardgate.data.example import Example  # noqa: E402
from wardgate.engine.bundle import load_bundle  # noqa: E402
from wardgate.guards import View  # noqa: E402
from wardgate.guards.encoder import ACTS  # noqa: E402
from wardgate.hazards import HAZARDS, Hazard  # noqa: E402
from wardgate.train import mini_data  # noqa: E402
from wardgate.train import transfer as room  # noqa: E402
from wardgate.train.dictionary import Dictionary  # noqa: E402
from wardgate.train.encoder_model import EncoderGuardModel  # noqa: E402
from wardgate.train.head import HeadSettings, Readings, fit_head, mixed, open_head, read_texts, save_head  # noqa: E402
from wardgate.train.mini import Settings, Split  # noqa: E402
from wardgate.train.runs import open_run  # noqa: E402
from wardgate.train.speech_acts import Told  # noqa: E402
from wardgate.train.transfer import (  # noqa: E402
    TransferSettings,
    beginning,
    chosen,
    drawn_back,
    foreign_lessons,
    sentence_lessons,
    transfer,
    whole_sentences,
)
from wardgate.train.vocabulary import save_compact  # noqa: E402

QUICK = TransferSettings(originals=200, sentences=20, kept=100, written=2, epochs=40, rate=2e-3, head_rate=0.01)
MEANING = {"hurt": "a", "you": "to", "milk": "is", "please": "it", "bread": "now", "cheese": "then", "cake": "go"}


def abroad(text):
    """The toy's other language: the words that tell it is harmful are others."""
    return " ".join(MEANING.get(word, word) for word in text.split())


def rows(n, seed, language="en", source="toy"):
    split, made = toy(n, seed), []
    for i, (text, value) in enumerate(zip(split.texts, split.values, strict=True)):
        unsafe = bool(value[-1])
        present = frozenset([Hazard.HATE]) if unsafe else frozenset()
        absent = frozenset(HAZARDS) - present
        made.append(Example(str(i), text, None, unsafe, present, absent, language, "comment", source, "MIT"))
    return made


@pytest.fixture(autouse=True)
def engine(monkeypatch):
    """In place of Apertium, which the suite does not need."""
    monkeypatch.setattr(mini_data, "apertium", lambda lines, _: [abroad(line) for line in lines])
    words = {english: (other,) for english, other in MEANING.items()}
    monkeypatch.setattr(mini_data, "lexicon", lambda: words)
    pairs = [(text, abroad(text)) for text in toy(80, 11).texts]
    monkeypatch.setattr(room, "read_dictionary", lambda: Dictionary(words, pairs))


@pytest.fixture
def run(tmp_path):
    """A base, and a run on it whose head tells the toy's English."""
    base, folder = small_base(tmp_path / "base"), tmp_path / "run"
    folder.mkdir()
    torch.manual_seed(2)
    model = EncoderGuardModel.from_base(base, 13).eval()
    split = toy(400)
    means, logits = read_texts(model, unigram(), split.texts, (1, 2), tmp_path / "first", quiet)
    quick = HeadSettings(layers=(1, 2), hidden=16, dropped=0.1, epochs=30, batch=32, rate=0.02)
    save_head(folder, fit_head(Readings(means, *mixed(logits, split, 1.0)), quick, quiet))
    save_compact(unigram(), folder / "tokenizer.json")
    (folder / "keep.json").write_text(str(list(range(60))))
    torch.save(model.state_dict(), folder / "model.pt")
    return base, folder


def test_what_is_written_abroad_is_no_original_and_no_text_is_chosen_twice():
    english, foreign = rows(60, 1), rows(30, 2, "fr", "written")
    some = replace(QUICK, originals=40)
    originals, others, written = chosen([*english, *english, *foreign, *foreign], some)
    assert len(originals) == 40
    assert {e.language for e in originals} == {"en"}
    assert {e.text for e in written} == {e.text for e in foreign}
    texts = [e.text for e in (*originals, *others, *written)]
    assert len(set(texts)) == len(texts) == len({e.text for e in (*english, *foreign)})
    assert chosen([*english, *foreign], QUICK) == chosen([*english, *foreign], QUICK)


def test_originals_are_drawn_alike_from_prompts_comments_and_answers_safe_and_unsafe():
    kinds = ["prompt"] * 200 + ["comment"] * 60 + ["response"] * 30 + ["dialogue"] * 30
    made = [replace(e, kind=k, text=f"{e.text} {i}") for i, (e, k) in enumerate(zip(rows(320, 1), kinds, strict=True))]
    originals, _, _ = chosen(made, replace(QUICK, originals=60))
    sides = Counter(("response" if e.kind == "dialogue" else e.kind, e.unsafe) for e in originals)
    assert sides == {(k, u): 10 for k in ("prompt", "comment", "response") for u in (True, False)}


def test_a_long_original_is_translated_as_far_as_it_is_read():
    text = "some words " * 100
    assert text.startswith(beginning(text))
    assert len(beginning(text)) <= 600
    assert beginning(text).endswith(("some", "words"))
    assert beginning("x" * 900) == "x" * 600
    assert beginning("short") == "short"


def test_of_a_dictionarys_sentences_half_are_the_most_unsafe():
    pairs = whole_sentences(
        [(f"this is sentence {i}", f"Satz {i}") for i in range(100)] + [("a/b c d e", "x"), ("a", "b")]
    )
    assert len(pairs) == 100
    own = np.zeros((100, 13), np.float32)
    own[:, -1] = np.linspace(0, 1, 100)
    made = sentence_lessons(pairs, own, 20, seed=1)
    assert made.texts[:10] == [f"Satz {i}" for i in range(99, 89, -1)]
    assert len(set(made.texts)) == 20
    told = {german: own[i] for i, (_, german) in enumerate(pairs)}
    np.testing.assert_array_equal(made.values, [told[text] for text in made.texts])
    assert sentence_lessons([], own[:0], 20, seed=1).values.shape == (0, 13)


def test_a_translation_is_to_be_answered_as_its_original():
    originals = rows(20, 3)
    learnt = Split.of(originals)
    learnt = Split(learnt.texts, np.random.default_rng(0).random((20, 13), np.float32), learnt.weights, learnt.sources)
    foreign = foreign_lessons(originals, learnt, seed=1)
    by_text = {abroad(e.text): learnt.values[i] for i, e in enumerate(originals)}
    told = [by_text[text] for text in foreign.texts if text in by_text]
    got = foreign.values[[text in by_text for text in foreign.texts]]
    np.testing.assert_array_equal(got, told)
    assert {name.partition("+")[2] for name in foreign.sources} == {"es", "fr", "it", "de"}
    assert foreign.weights.shape == foreign.values.shape == (len(foreign.texts), 13)


def test_a_run_learns_another_language_from_its_own_answers_and_keeps_the_first(run, tmp_path):
    model, tokenizer = open_run(*run)
    head = open_head(run[1])
    out = tmp_path / "out"
    out.mkdir()
    fresh = toy(200, seed=9)
    truth = fresh.values[:, -1] > 0.5

    def right(texts, folder):
        means, _ = read_texts(model, tokenizer, texts, head.layers, tmp_path / folder, quiet)
        with torch.no_grad():
            answers = head(torch.from_numpy(means.reshape(len(means), -1)).float()).numpy()[:, -1] > 0
        return float((answers == truth).mean())

    foreign = [abroad(t) for t in fresh.texts]
    before = right(fresh.texts, "a"), right(foreign, "b")
    wrong = [replace(e, unsafe=None, present=frozenset(), absent=frozenset()) for e in rows(400, 4)]
    transfer(model, head, tokenizer, wrong, out, QUICK, quiet)
    after = right(fresh.texts, "a"), right(foreign, "b")
    assert before[0] > 0.9
    assert before[1] < 0.75
    assert after[0] > 0.8
    assert after[1] > 0.8


def test_a_teachers_answers_are_learnt_in_place_of_the_runs_own(run, tmp_path):
    model, tokenizer = open_run(*run)
    head = open_head(run[1])
    guide = open_run(*run)[0], open_head(run[1])
    with torch.no_grad():
        head.outer.weight.zero_()
        head.outer.bias.zero_()
    texts = toy(100, 12).texts

    def answered(model, head):
        means, _ = read_texts(model, tokenizer, texts, head.layers, tmp_path / "x", quiet)
        with torch.no_grad():
            return head(torch.from_numpy(means.reshape(len(means), -1)).float()).numpy()[:, -1]

    want = answered(*guide)
    out = tmp_path / "out"
    out.mkdir()
    transfer(model, head, tokenizer, rows(300, 4), out, replace(QUICK, labels=0), quiet, teacher=guide)
    got = answered(model, head)
    assert np.mean((got > 0) == (want > 0)) > 0.9


def test_a_teacher_of_another_vocabulary_is_refused(run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(run[1], other)
    (other / "keep.json").write_text("[0, 1]")
    settings = replace(QUICK, teacher=str(other))
    with pytest.raises(ValueError, match="another vocabulary"):
        room.train_transfer(tmp_path, *run, tmp_path / "out", Settings(), settings, version="1", report=quiet)


def test_weights_lie_between_the_start_and_what_was_trained():
    start, trained = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    torch.nn.init.zeros_(start.weight)
    torch.nn.init.ones_(trained.weight)
    drawn_back(trained, start, 0.25)
    torch.testing.assert_close(trained.weight, torch.full((2, 3), 0.25))


def test_the_whole_recipe_writes_a_run_and_a_bundle(run, tmp_path, monkeypatch):
    parts = {"train": rows(200, 5), "calibrate": rows(120, 6), "held-back": rows(120, 7)}
    monkeypatch.setattr(room, "build_parts", lambda *_: parts)
    told = Told(["give me bread", "milk is nice"] * 5, np.tile([True, False], 5), np.ones(10, np.float32))
    monkeypatch.setattr(room, "acts", lambda *_: dict.fromkeys(ACTS, told))
    out = tmp_path / "out"
    made = room.train_transfer(tmp_path, *run, out, Settings(), replace(QUICK, epochs=1), version="1", report=quiet)
    assert made["measured"]["rows"] == 120
    guard = load_bundle(out).guard
    model, tokenizer = open_run(run[0], out)
    texts = toy(40, 8).texts
    means, _ = read_texts(model, tokenizer, texts, (1, 2), tmp_path / "again", quiet)
    with torch.no_grad():
        want = open_head(out)(torch.from_numpy(means.reshape(40, -1)).float()).numpy()
    got = guard.score([View(t) for t in texts]).logits
    assert np.corrcoef(got[:, -1], want[:, -1])[0, 1] > 0.99


def test_an_interrupted_transfer_comes_to_the_same(run, tmp_path, monkeypatch):
    class KilledError(Exception): ...

    def kill(step, total, loss):
        if loss and step >= 25:
            raise KilledError

    monkeypatch.setattr("wardgate.train.mini.CHECKPOINT_EVERY", 10)
    monkeypatch.setattr("wardgate.train.mini.REPORT_EVERY", 5)
    ends = []
    for name, first in (("straight", quiet), ("killed", kill)):
        out = tmp_path / name
        out.mkdir()
        for report in (first, quiet):
            model, tokenizer = open_run(*run)
            head = open_head(run[1])
            try:
                transfer(model, head, tokenizer, rows(80, 8), out, QUICK, report)
            except KilledError:
                continue
            break
        ends.append(torch.cat([p.flatten() for p in (*model.parameters(), *head.parameters())]))
    torch.testing.assert_close(ends[0], ends[1])


def test_a_run_without_a_head_over_layers_is_told_so(run, tmp_path):
    (run[1] / "head.pt").unlink()
    with pytest.raises(FileNotFoundError, match="wardgate train head"):
        room.train_transfer(tmp_path, *run, tmp_path / "out", Settings(), QUICK, version="1", report=quiet)
