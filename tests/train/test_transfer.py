"""Cross-lingual transfer: what is learnt of translations, and that the run learns it without losing the originals."""

from __future__ import annotations

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
from wardgate.train.encoder_model import EncoderGuardModel  # noqa: E402
from wardgate.train.head import HeadSettings, Readings, fit_head, mixed, open_head, read_texts, save_head  # noqa: E402
from wardgate.train.mini import Settings  # noqa: E402
from wardgate.train.runs import open_run  # noqa: E402
from wardgate.train.speech_acts import Told  # noqa: E402
from wardgate.train.transfer import (  # noqa: E402
    ANSWER_ALONE,
    TransferSettings,
    abroad_of,
    aims,
    beginning,
    chosen,
    matched,
    told,
    transfer,
)
from wardgate.train.vocabulary import save_compact  # noqa: E402
from wardgate.train.written import requests  # noqa: E402

QUICK = TransferSettings(originals=200, kept=100, epochs=40, rate=2e-3, batch_tokens=256, frozen=0)
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
    """In place of Apertium, which the suite does not need, and with the toy's words."""
    monkeypatch.setattr(mini_data, "apertium", lambda lines, _: [abroad(line) for line in lines])
    monkeypatch.setattr(mini_data, "lexicon", lambda: MEANING)


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


def test_a_translation_is_known_by_its_original():
    originals = rows(8, 3)
    texts, of = abroad_of(originals, seed=1)
    assert Counter(of) == {i: 4 if i in {0, 4} else 3 for i in range(8)}  # es, fr, de; every fourth in it
    told = {abroad(e.text) for e in originals}
    assert all(text == abroad(originals[i].text) for text, i in zip(texts, of, strict=True) if text in told)


def test_a_translation_by_hand_is_known_by_its_id():
    english = [replace(e, id=f"request-{i}", source="written") for i, e in enumerate(rows(4, 3))]
    german = [replace(e, id=f"{e.id}:de", text=abroad(e.text), language="de") for e in english[1:3]]
    alone = replace(english[0], id="request-9:fr", text="x", language="fr")
    assert told([*english, *german, alone, *rows(3, 4)]) == list(zip(english[1:3], german, strict=True))


def test_the_written_translations_are_told_and_labelled_like_their_originals():
    pairs = told(requests())
    assert len(pairs) > 1800
    assert {(english.language, other.language) for english, other in pairs} == {("en", "de"), ("en", "fr")}
    assert all((a.unsafe, a.present, a.kind) == (b.unsafe, b.present, b.kind) for a, b in pairs)


def test_texts_of_a_parallel_source_are_matched_where_each_is_the_others_nearest():
    made = [
        Example(str(i), t, None, False, frozenset(), frozenset(), t[:2], "prompt", "xquad", "CC")
        for i, t in enumerate(
            ["en 1", "en 2", "en 3", "en 4", "de 2", "de 1", "de 3", "de 3 and a bit", "es 4", "es 1", "es 2"]
        )
    ]

    def see(texts):
        """What a text is about is its number; its language moves it as a whole."""
        about = np.eye(5, dtype=np.float32)[[int(t.split()[1]) for t in texts]]
        return about + [[0.1 * t.endswith("bit")] * 5 for t in texts] + (7 if texts[0].startswith("de") else 0)

    got = {(english.text, other.text) for english, other in matched([*made, *made, *rows(3, 1)], see)}
    assert got == {
        ("en 1", "de 1"),
        ("en 2", "de 2"),
        ("en 3", "de 3"),
        ("en 1", "es 1"),
        ("en 2", "es 2"),
        ("en 4", "es 4"),
    }
    assert matched(made[4:], see) == []


def test_what_is_aimed_at_is_what_the_run_sees_and_says_of_the_original(run, tmp_path):
    model, tokenizer = open_run(*run)
    head = open_head(run[1])
    written = [replace(e, text=f"{e.text} {e.text}", language="fr", source="written") for e in rows(20, 13) if e.unsafe]
    made = aims(model, head, tokenizer, [*rows(60, 3), *written], tmp_path / "read", QUICK, quiet)
    texts = np.array(made.texts)
    bound = made.like != ANSWER_ALONE
    assert set(texts[~bound]) == {e.text for e in written}
    # The English texts come first, each its own aim; what is made of them aims at theirs.
    english = {text: i for i, text in enumerate(made.texts) if made.like[i] == i}
    originals = {abroad(text): i for text, i in english.items() if abroad(text) != text}
    pointed = [(made.like[i], originals[text]) for i, text in enumerate(made.texts) if text in originals and bound[i]]
    assert len(pointed) > 60
    assert all(to == of or made.texts[of] == made.texts[to] for to, of in pointed)
    means, _ = read_texts(model, tokenizer, list(english)[:10], head.layers, tmp_path / "again", quiet)
    np.testing.assert_allclose(made.states[:10], means.reshape(10, -1), atol=0.02)
    with torch.no_grad():
        says = torch.sigmoid(head(torch.from_numpy(made.states).float())).numpy()
    np.testing.assert_allclose(made.values[bound], says[made.like[bound]], atol=1e-3)
    assert (made.values[~bound, -1] >= QUICK.labels).all()


def test_a_run_sees_in_another_language_what_it_sees_in_the_first_and_keeps_that(run, tmp_path):
    model, tokenizer = open_run(*run)
    head = open_head(run[1])
    before_head = [p.clone() for p in head.parameters()]
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
    unlabelled = [replace(e, unsafe=None, present=frozenset(), absent=frozenset()) for e in rows(400, 4)]
    transfer(model, head, tokenizer, unlabelled, out, QUICK, quiet)
    after = right(fresh.texts, "a"), right(foreign, "b")
    assert before[0] > 0.9
    assert before[1] < 0.75
    assert after[0] > 0.95
    assert after[1] > 0.9
    assert all(torch.equal(old, new) for old, new in zip(before_head, head.parameters(), strict=True))


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

    monkeypatch.setattr("wardgate.train.steps.CHECKPOINT_EVERY", 10)
    monkeypatch.setattr("wardgate.train.steps.REPORT_EVERY", 5)
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
