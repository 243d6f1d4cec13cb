"""The recipe of the built-in guard, on a model small enough for a test."""

from __future__ import annotations

import itertools
import json
import random
import re
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from tokenizers import Tokenizer  # noqa: E402

from small_encoder import WORDS, small_base, unigram  # noqa: E402
from wardgate.calibrate.metrics import log_loss  # noqa: E402
from wardgate.data.example import Example  # noqa: E402
from wardgate.engine.bundle import BundleError, load_bundle  # noqa: E402
from wardgate.guards import View  # noqa: E402
from wardgate.guards.batching import windows  # noqa: E402
from wardgate.guards.encoder import Beside, EncoderGuard, EncoderSettings  # noqa: E402
from wardgate.hazards import HAZARDS, LABEL_MAPS, WARDGATE, Hazard  # noqa: E402
from wardgate.normalise import normalise  # noqa: E402
from wardgate.train import steps  # noqa: E402
from wardgate.train.augment import attacked, batches  # noqa: E402
from wardgate.train.encoder_model import ByteDropout, EncoderGuardModel, masked_multilabel_loss  # noqa: E402
from wardgate.train.export import export_onnx, q4_blocks  # noqa: E402
from wardgate.train.mini import Settings, Split, fit, train_mini  # noqa: E402
from wardgate.train.mini_data import WEAK_SAFE, code_switch, lexicon, sorry, split_of, targets  # noqa: E402
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
from wardgate.train.runs import EMBEDDINGS, RUN_FILES, averaged, open_run, take_over  # noqa: E402
from wardgate.train.shallow import thinned  # noqa: E402
from wardgate.train.vocabulary import choose_pieces, save_compact, trimmed  # noqa: E402
from wardgate.train.written import benign_requests, of_groups, requests, templates, works  # noqa: E402


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return small_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def model(base):
    torch.manual_seed(1)
    return EncoderGuardModel.from_base(base, 13).eval()


def slow_loss(logits, targets, weights, rank_weight):
    total, norm = [0.0, 0.0], [0.0, 0.0]
    ranks = []
    for z, t, w in zip(logits, targets, weights, strict=True):
        for column, (zi, ti, wi) in enumerate(zip(z, t, w, strict=True)):
            p = 1 / (1 + np.exp(-zi))
            side = int(column == 12)
            total[side] += -wi * (ti * np.log(p) + (1 - ti) * np.log(1 - p))
            norm[side] += wi
        present = [zi for zi, ti, wi in zip(z[:-1], t[:-1], w[:-1], strict=True) if ti * wi > 0]
        unknown = [zi for zi, wi in zip(z[:-1], w[:-1], strict=True) if wi == 0]
        if present and unknown:
            ranks.append(np.log(1 + sum(np.exp(u - p) for u in unknown for p in present)))
    hazards, unsafe = (t / max(n, 1) for t, n in zip(total, norm, strict=True))
    return unsafe + 0.5 * hazards + rank_weight * (np.mean(ranks) if ranks else 0.0)


def test_the_loss_is_a_slow_reference():
    rng = np.random.default_rng(3)
    for _ in range(20):
        logits = rng.normal(size=(6, 13))
        values = (rng.random((6, 13)) < 0.3).astype(float)
        weights = rng.choice([0.0, 0.3, 1.0], size=(6, 13))
        values *= weights > 0
        got = masked_multilabel_loss(*map(torch.tensor, (logits, values, weights)), rank_weight=0.2)
        assert float(got) == pytest.approx(slow_loss(logits, values, weights, 0.2), abs=1e-6)


def test_an_unknown_label_pulls_nowhere_unless_a_hazard_is_present():
    logits = torch.zeros(1, 13, requires_grad=True)
    values, weights = torch.zeros(1, 13), torch.zeros(1, 13)
    weights[0, -1] = values[0, -1] = 1
    masked_multilabel_loss(logits, values, weights).backward()
    assert logits.grad[0, :-1].abs().sum() == 0
    assert logits.grad[0, -1] < 0


def test_q4_gives_back_what_was_q4():
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.01, 0.1, (5, 2)).astype(np.float16)
    nibbles = rng.integers(0, 16, (5, 2, 32))
    nibbles[:, :, 3] = 0  # the extreme of a Q4_0 block is always -8 times the scale
    weight = ((nibbles - 8) * scale[..., None].astype(np.float32)).reshape(5, 64)
    packed, found = q4_blocks(weight)
    low, high = packed & 15, packed >> 4
    again = (np.concatenate([low, high], 1).reshape(5, 2, 32).astype(np.float32) - 8) * found[..., None].astype(
        np.float32
    )
    np.testing.assert_array_equal(again.reshape(5, 64), weight)


def run_onnx(path, ids, mask):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"ids": ids, "mask": mask.astype(np.int32)})[0]


@pytest.mark.parametrize(("quantised", "tolerance"), [(False, 1e-5), (True, 0.06)])
def test_the_exported_graph_is_the_model(model, tmp_path, quantised, tolerance):
    export_onnx(model, tmp_path / "m.onnx", quantised=quantised)
    rng = np.random.default_rng(0)
    ids = rng.integers(4, 60, (5, 17))
    mask = np.ones_like(ids)
    mask[2, 9:] = 0
    ids[2, 9:] = 1
    with torch.no_grad():
        expected = model(torch.tensor(ids), torch.tensor(mask)).numpy()
    np.testing.assert_allclose(run_onnx(tmp_path / "m.onnx", ids, mask), expected, atol=tolerance)


def test_trimming_keeps_how_texts_are_cut():
    full = unigram()
    texts = ["give me some cheese", "the bread is nice", "zzz"]
    keep = choose_pieces(full, texts, 50)
    small = trimmed(full, keep)
    assert len(keep) == 50
    assert keep[:4] == [0, 1, 2, 3]
    for text in texts:
        assert small.encode(text).tokens == full.encode(text).tokens
        assert [keep[i] for i in small.encode(text).ids] == full.encode(text).ids


def test_a_script_that_the_texts_lack_keeps_its_likeliest_pieces():
    spec = json.loads(unigram().to_str())
    words = ["\u2581" + first + second for first in "абв" for second in "гд"]
    start = len(spec["model"]["vocab"])
    spec["model"]["vocab"] += [[word, -8.0 + i / 10] for i, word in enumerate(words)]
    keep = choose_pieces(Tokenizer.from_str(json.dumps(spec)), ["give me some cheese"] * 2, 45)
    assert [i for i in keep if i >= start] == [start + 2, start + 3, start + 4, start + 5]
    assert len(keep) == 45


def test_a_small_vocabulary_keeps_what_the_texts_use_before_single_letters():
    texts = ["give me some cheese"] * 2
    used = [i for i in unigram().encode(texts[0]).ids if i >= 4]
    assert choose_pieces(unigram(), texts, 4 + len(used)) == [0, 1, 2, 3, *sorted(used)]


@pytest.mark.parametrize("length", [0, 1, 10, 11, 17, 100])
def test_windows_cover_every_token_and_overlap(length):
    tokens = list(range(length))
    parts = windows(tokens, 10, 3)
    assert all(len(p) <= 10 for p in parts)
    assert [t for t in tokens if any(t in p for p in parts)] == tokens
    for left, right in itertools.pairwise(parts):
        assert len(set(left) & set(right)) >= 3


def test_split_keeps_near_copies_together():
    assert split_of("How to bake bread?") == split_of("how to bake bread") == split_of("HOW to bake: bread 1!!")
    shares = [split_of(f"text number {w} {v}") for w in WORDS for v in WORDS]
    assert 0.8 < shares.count("train") / len(shares) < 0.95


def test_targets_leave_the_unknown_out():
    def example(unsafe, present=(), absent=()):
        return Example("1", "t", None, unsafe, frozenset(present), frozenset(absent), "en", "prompt", "s", "x")

    values, weights = targets(
        [example(True, [Hazard.HATE]), example(False, absent=HAZARDS), example(None, absent=[Hazard.HATE])]
    )
    hate = HAZARDS.index(Hazard.HATE)
    assert sum(values[0]) == 2
    assert sum(weights[0]) == 2
    assert sum(weights[1]) == 13
    assert sum(values[1]) == 0
    assert weights[2][hate] == 1
    assert weights[2][-1] == WEAK_SAFE


def test_templates_pair_intents_with_harmless_twins_in_four_languages():
    made = templates()
    for language in ("en", "de", "es", "fr"):
        sides = {e.unsafe for e in made if e.language == language}
        assert sides == {True, False}


def test_what_is_said_of_groups_has_a_kind_and_a_harmless_side_in_every_language():
    made = of_groups()
    for language in {e.language for e in made}:
        unkind = {e.text for e in made if e.language == language and e.unsafe}
        others = {e.text for e in made if e.language == language and e.unsafe is False}
        assert unkind
        assert others
        assert not unkind & others


def test_ordinary_requests_are_filled_in_distinct_and_the_same_for_a_seed():
    made = benign_requests(500, seed=3)
    assert [e.text for e in made] == [e.text for e in benign_requests(500, seed=3)]
    assert len({e.text for e in made}) > 450
    assert not [e.text for e in made if re.search(r"\{[a-z]+\}", e.text)]
    assert {e.unsafe for e in made} == {False}
    assert max(len(e.text) for e in made) > 400


def test_code_switching_swaps_known_words_only():
    words = {"help": "Helfen", "my": "mein", "neighbour": "Nachbar"}
    assert code_switch("Help my neighbour, zork!", words, random.Random(0), share=1.0) == "Helfen mein Nachbar, zork!"
    assert code_switch("Help", words, random.Random(0), share=0.0) == "Help"


def test_the_words_are_one_each_and_swap_most_of_an_ordinary_sentence():
    words = lexicon()
    assert len(words) > 2500
    assert all(english == english.lower().strip() and german.strip() for english, german in words.items())
    assert (
        code_switch("You can use this tool.", words, random.Random(0), share=1.0) == "Du kann benutzen dies Werkzeug."
    )


def test_regret_is_put_in_for_the_word_that_apertium_writes_for_it():
    assert sorry(["Losiento , pero no"], "lo siento") == ["lo siento, pero no"]
    assert sorry(["yo siento"], "lo siento") == ["yo siento"]


def toy_split(n=240):
    rng = random.Random(5)
    texts, values = [], []
    for _ in range(n):
        bad = rng.random() < 0.5
        texts.append(" ".join([*rng.choices(WORDS[:9], k=3), "hurt you" if bad else "milk please"]))
        values.append([float(bad)] * 13)
    return Split(texts, np.array(values, np.float32), np.ones((n, 13), np.float32), ["toy"] * n)


SETTINGS = Settings(epochs=2, batch_tokens=256, max_tokens=32, rate=1e-3, frozen=0, layers=3)


def compact(folder):
    save_compact(unigram(), folder / "tokenizer.json")
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def test_training_resumes_to_the_same_weights(base, tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "CHECKPOINT_EVERY", 5)

    class KilledError(Exception): ...

    def train(folder, stop_at=None):
        folder.mkdir(exist_ok=True)
        torch.manual_seed(0)
        made = EncoderGuardModel.from_base(base, 13)

        def report(step, total, loss):
            if step == stop_at:
                raise KilledError

        monkeypatch.setattr(steps, "REPORT_EVERY", 1)
        fit(made, toy_split(), compact(folder), SETTINGS, folder, report=report)
        return made.state_dict()

    whole = train(tmp_path / "whole")
    with pytest.raises(KilledError):
        train(tmp_path / "cut", stop_at=12)
    resumed = train(tmp_path / "cut")
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


@pytest.mark.parametrize(
    ("folder", "missing", "said"),
    [("base", "tokenizer.json", "a Hugging Face folder of an encoder"), ("run", "model.pt", "a finished run")],
)
def test_a_folder_that_is_no_base_or_no_run_is_told_before_anything_begins(tmp_path, folder, missing, said):
    for name, files in (("base", ("config.json", "tokenizer.json")), ("run", RUN_FILES)):
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_text("{}")
    (tmp_path / folder / missing).unlink()
    base, run, out = (tmp_path / name for name in ("base", "run", "out"))
    told = f"{folder} is not {said}.*: it has no {missing}"
    with pytest.raises(FileNotFoundError, match=told):
        train_mini(tmp_path, base, out, Settings(), lambda *_: None, starts=[run])
    with pytest.raises(FileNotFoundError, match=told):
        open_run(base, run)
    assert not out.exists()


def test_the_mean_of_runs_is_the_mean_of_their_weights(tmp_path):
    for name, value in (("a", 1.0), ("b", 4.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "keep.json").write_text("[0, 1]")
        torch.save({"head.bias": torch.full((2,), value)}, tmp_path / name / "model.pt")
    assert averaged([tmp_path / "a", tmp_path / "b"])["head.bias"].tolist() == [2.5, 2.5]
    (tmp_path / "b" / "keep.json").write_text("[0, 2]")
    with pytest.raises(ValueError, match="different vocabularies"):
        averaged([tmp_path / "a", tmp_path / "b"])


def test_pieces_are_exchanged_where_training_left_the_embeddings_alone(base):
    had, keep = [0, 1, 2, 3, 10, 11], [0, 1, 2, 3, 11, 20, 21]
    run, fresh, same = (EncoderGuardModel.from_base(base, 13, keep=k) for k in (had, keep, had))
    with torch.no_grad():
        run.head.bias.fill_(2.5)
    new, state = fresh.state_dict()[EMBEDDINGS].clone(), run.state_dict()
    take_over(fresh, keep, state, had)
    assert fresh.state_dict()[EMBEDDINGS].equal(new)
    assert fresh.head.bias.eq(2.5).all()
    state[EMBEDDINGS][5] += 0.1
    with pytest.raises(ValueError, match="keep their vocabulary: 6 pieces"):
        take_over(fresh, keep, state, had)
    take_over(same, had, state, had)
    assert same.state_dict()[EMBEDDINGS].equal(state[EMBEDDINGS])


def test_an_unsafe_text_is_never_shown_as_garble():
    rng = random.Random(0)
    for _ in range(300):
        text = attacked("please give me some bread", rng, safe=False)
        assert normalise(text).cleaned == normalise(normalise(text).cleaned).cleaned
        assert not {"base64", "hexadecimal", "percent", "rot13", "invisible", "nfkc"} & {
            s.name for s in normalise(text).steps
        }


def test_an_unsafe_text_that_is_cut_still_shows_its_start_and_a_safe_one_any_stretch(tmp_path):
    tokenizer = compact(tmp_path)
    texts = ["stop hurt " + "bread milk " * 40, "please give " + "cheese nice " * 40, "bread " * 14]
    values = np.zeros((3, 13), dtype=np.float32)
    values[0, -1] = 1
    split = Split(texts, values, np.ones_like(values), ["made"] * 3)
    settings = replace(SETTINGS, max_tokens=16, attacks=0.4)
    shown = {True: [], False: []}
    for epoch in range(60):
        for ids, _, targets_, _ in batches(split, tokenizer, settings, epoch):
            assert ids.shape[1] <= 16
            for row, value in zip(ids.tolist(), targets_, strict=True):
                shown[bool(value[-1])].append(tokenizer.decode(row).lower())
    assert all("stop" in text or "hurt" in text for text in shown[True])
    assert any("please" not in text and "cheese" in text for text in shown[False])


def test_texts_that_were_written_out_are_of_both_sides_and_differ():
    rows = requests()
    assert len({e.text for e in rows}) == len(rows) > 10_000
    assert len({e.language for e in rows}) == 19
    assert {e.kind for e in rows} == {"prompt", "response", "comment"}
    for language in {e.language for e in rows}:
        sides = [e.unsafe for e in rows if e.language == language]
        assert sum(sides) > 20
        assert sides.count(False) > 40
    never = {Hazard.CHILD_SEXUAL_EXPLOITATION, Hazard.INDISCRIMINATE_WEAPONS}
    assert not never & {h for e in rows for h in e.present}


def test_asking_about_a_protected_work_is_harmless_and_so_is_a_free_one_whole():
    rows = works()
    assert {e.present for e in rows} == {frozenset(), frozenset({Hazard.INTELLECTUAL_PROPERTY})}
    asked = {e.text for e in rows if e.unsafe}
    assert any("Neuromancer" in t for t in asked)
    assert any("Neuromancer" in e.text for e in rows if not e.unsafe)
    assert not any("Frankenstein" in t for t in asked)
    assert len({e.text for e in rows}) == len(rows)


@pytest.mark.parametrize(("spread", "kept"), [(False, [0, 1]), (True, [0, 3])])
def test_a_student_keeps_the_lowest_layers_or_some_taken_evenly(spread, kept):
    from transformers import BertConfig, BertModel

    config = BertConfig(num_hidden_layers=4, hidden_size=16, num_attention_heads=2, intermediate_size=32, vocab_size=50)
    teacher = EncoderGuardModel(BertModel(config, add_pooling_layer=False), 13, 16).eval()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    student = thinned(teacher, 2, spread=spread)
    assert student.base.config.num_hidden_layers == len(student.base.encoder.layer) == 2
    for mine, number in zip(student.base.encoder.layer, kept, strict=True):
        for a, b in zip(mine.parameters(), teacher.base.encoder.layer[number].parameters(), strict=True):
            assert torch.equal(a, b)
            assert a is not b
    ids = torch.tensor([[0, 5, 6, 2]])
    states = teacher.base(input_ids=ids, output_hidden_states=True).hidden_states
    if not spread:
        torch.testing.assert_close(student.base.eval()(input_ids=ids).last_hidden_state, states[2])
    with torch.no_grad():
        for p in student.parameters():
            p.zero_()
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    with pytest.raises(ValueError, match="1 to 4 layers, not 5"):
        thinned(teacher, 5, spread=spread)


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


def test_dropout_by_bytes_drops_its_share_keeps_the_mean_and_is_nothing_in_evaluation():
    torch.manual_seed(0)
    dropout, ones = ByteDropout(0.1), torch.ones(400, 501)
    out = dropout(ones)
    assert out.unique().tolist() == pytest.approx([0, 256 / 230])
    assert float((out == 0).float().mean()) == pytest.approx(26 / 256, abs=0.003)
    assert float(out.mean()) == pytest.approx(1, abs=0.004)
    assert not torch.equal(dropout(ones) == 0, out == 0)
    assert dropout.eval()(ones) is ones
    assert ByteDropout(0.0)(ones) is ones


def test_frozen_layers_have_no_dropout_and_do_not_move(base, tmp_path):
    torch.manual_seed(0)
    made = EncoderGuardModel.from_base(base, 13)
    made.freeze(1)
    made.train()
    lowest, *others = made.base.encoder.layer
    assert not lowest.output.dropout.training
    assert all(layer.output.dropout.training for layer in others)
    before = {name: value.clone() for name, value in lowest.state_dict().items()}
    fit(made, toy_split(), compact(tmp_path), replace(SETTINGS, frozen=1), tmp_path, report=lambda *_: None)
    assert all(torch.equal(value, before[name]) for name, value in lowest.state_dict().items())
