"""The recipe of the built-in guard, on a model small enough for a test."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from tokenizers import Tokenizer  # noqa: E402

from small_encoder import SETTINGS, compact, toy_split, unigram  # noqa: E402
from wardgate.guards.batching import windows  # noqa: E402
from wardgate.normalise import normalise  # noqa: E402
from wardgate.train import steps  # noqa: E402
from wardgate.train.augment import attacked, batches  # noqa: E402
from wardgate.train.encoder_model import ByteDropout, EncoderGuardModel, masked_multilabel_loss  # noqa: E402
from wardgate.train.export import export_onnx, q4_blocks  # noqa: E402
from wardgate.train.mini import Settings, Split, fit, train_mini  # noqa: E402
from wardgate.train.runs import EMBEDDINGS, RUN_FILES, averaged, open_run, take_over  # noqa: E402
from wardgate.train.shallow import thinned  # noqa: E402
from wardgate.train.vocabulary import choose_pieces, trimmed  # noqa: E402


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
