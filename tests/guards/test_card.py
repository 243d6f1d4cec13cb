import json

import pytest

from wardgate.guards import Link
from wardgate.guards.card import CardError, load_card, parse_card, presets
from wardgate.guards.checkpoint import CheckpointError
from wardgate.guards.from_card import CARD_FILE, find_card, missing_extra, open_guard
from wardgate.hazards import HAZARDS, LABEL_MAPS, Hazard

GOOD = """
name: mine
family: classifier
source: a test
checkpoint: ./folder
head: sigmoid
labels: duoguard
"""


def problems(text):
    with pytest.raises(CardError) as caught:
        parse_card(text)
    return caught.value.problems


def test_every_preset_loads_under_its_own_name():
    assert {"duoguard-0.5b", "bioguard-prompt", "moddog", "toxic-bert", "prompt-guard-2-86m"} <= set(presets())
    for name in presets():
        assert load_card(name).name == name


@pytest.mark.parametrize("name", ["duoguard-0.5b", "duoguard-1.5b", "duoguard-1b-llama"])
def test_duoguard_presets_say_what_their_cards_say(name):
    card = load_card(name)
    assert card.labels is LABEL_MAPS["duoguard"]
    assert (card.head, card.max_length, card.dtype) == (Link.SIGMOID, 512, "bfloat16")
    assert card.tokenizer != card.checkpoint
    assert not card.flags(0.5)
    assert card.flags(0.5000001)


@pytest.mark.parametrize(("name", "reads"), [("bioguard-prompt", "text"), ("bioguard-response", "pair")])
def test_bioguard_presets_say_what_their_card_says(name, reads):
    card = load_card(name)
    assert (card.input, card.head, card.dtype, card.gated) == (reads, Link.SOFTMAX, "float32", True)
    assert card.labels.labels[1] == "harmful"
    assert "float16" in card.forbidden_dtypes
    assert card.flags(0.5)
    assert not card.flags(0.4999999)


def test_a_card_file_is_read(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    assert load_card(path) == parse_card(GOOD.replace("./folder", str(tmp_path / "folder")))


def test_labels_can_be_given_in_every_short_form():
    card = parse_card(
        GOOD.replace(
            "labels: duoguard",
            "labels: {ok: safe, bad: unsafe, odd: neither, h: hate, two: [privacy, hate], "
            "full: {hazards: [privacy], unsafe: null, note: why}}",
        )
    )
    meanings = card.labels.meanings
    assert list(meanings) == ["ok", "bad", "odd", "h", "two", "full"]
    assert [m.unsafe for m in meanings.values()] == [False, True, None, True, True, None]
    assert meanings["two"].hazards == {Hazard.PRIVACY, Hazard.HATE}
    assert meanings["full"].note == "why"
    assert card.labels.unseen() == set(HAZARDS) - {Hazard.PRIVACY, Hazard.HATE}


def test_a_misspelt_field_names_the_nearest():
    assert problems(GOOD.replace("head:", "heads:")) == [
        "head: Field required",
        "heads: no such field (did you mean 'head'?)",
    ]


def test_all_problems_are_told_at_once():
    told = problems("family: classifier\nname: Bad Name\nhead: softmax\nlabels: duogard\nrevision: main")
    assert {line.split(":")[0] for line in told} == {"name", "source", "checkpoint", "labels", "revision"}
    assert any("did you mean 'duoguard'" in line for line in told)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- a list", "mapping"),
        ("family: clasifier", "did you mean 'classifier'"),
        ("a: [1", "line 1"),
        (GOOD.replace("labels: duoguard", "labels: {x: hat}"), "did you mean 'hate'"),
        (GOOD.replace("labels: duoguard", "labels: {x: 3}"), "must be safe, unsafe"),
        (GOOD.replace("labels: duoguard", "labels: []"), "every native label"),
        (GOOD + "threshold: 1.5", "less than or equal to 1"),
        (GOOD + "dtype: float16\nforbidden_dtypes: [float16]", "also forbidden"),
        (GOOD.replace("sigmoid", "softmax").replace("labels: duoguard", "labels: {x: unsafe}"), "two labels"),
        ("family: remote\nname: a\nsource: b\nmodel: m\nbase_url: 'ftp://x'", "base_url"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_a_wrong_card_says_why(text, says):
    assert any(says in line for line in problems(text))


def test_an_unknown_name_points_to_the_nearest_preset():
    with pytest.raises(CardError, match=r"did you mean 'duoguard-0\.5b'"):
        load_card("duogard-0.5b")


def write_config(folder, **config):
    (folder / "config.json").write_text(json.dumps(config))


def test_a_folder_with_known_labels_needs_no_card(tmp_path):
    labels = LABEL_MAPS["detoxify"].labels
    write_config(tmp_path, id2label=dict(enumerate(labels)), problem_type="multi_label_classification")
    card = find_card(tmp_path)
    assert (card.head, card.labels, card.checkpoint) == (Link.SIGMOID, LABEL_MAPS["detoxify"], str(tmp_path))


@pytest.mark.parametrize(
    "config",
    [
        {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "problem_type": "single_label_classification"},
        {"id2label": dict(enumerate(LABEL_MAPS["detoxify"].labels))},
        {},
    ],
)
def test_a_folder_with_unknown_labels_or_head_is_never_guessed(tmp_path, config):
    write_config(tmp_path, **config)
    with pytest.raises(CardError, match=r"wardgate\.yaml"):
        find_card(tmp_path)


def test_a_folder_may_carry_its_card(tmp_path):
    (tmp_path / CARD_FILE).write_text(GOOD)
    assert find_card(tmp_path).name == "mine"


def test_a_folder_that_is_no_checkpoint_is_an_error(tmp_path):
    with pytest.raises(CardError, match="not a checkpoint folder"):
        find_card(tmp_path)


def test_a_card_opens_its_family(duoguard_folder, judge_folder, bert_folder):
    classifier = load_card("duoguard-0.5b").model_copy(update={"checkpoint": str(duoguard_folder), "tokenizer": None})
    judge = load_card("moddog").model_copy(update={"checkpoint": str(judge_folder)})
    remote = parse_card("{name: far, family: remote, source: a test, model: m, base_url: 'http://localhost:1/v1'}")
    names = [type(open_guard(card)).__name__ for card in (classifier, judge, remote)]
    assert names == ["Classifier", "Judge", "Remote"]
    with pytest.raises(CheckpointError):
        open_guard(classifier.model_copy(update={"checkpoint": str(bert_folder)}))
    assert open_guard(classifier, dtype="bfloat16").device.dtype == "bfloat16"


def test_a_family_without_its_libraries_names_the_command(monkeypatch):
    monkeypatch.setattr("wardgate.guards.from_card.find_spec", lambda name: None if name == "torch" else object())
    assert missing_extra(load_card("moddog")) == "pip install 'wardgate[hf]'"
    with pytest.raises(CardError, match=r"pip install 'wardgate\[hf\]'"):
        open_guard(load_card("duoguard-0.5b"))


def test_paths_in_a_file_start_from_its_folder(tmp_path, monkeypatch):
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards/mine.yaml").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    assert load_card("cards/mine.yaml").checkpoint == str(tmp_path / "cards/folder")
    (tmp_path / "cards/hub.yaml").write_text(GOOD.replace("./folder", "owner/name"))
    assert load_card("cards/hub.yaml").checkpoint == "owner/name"


def test_a_folder_with_its_card_may_be_moved(tmp_path):
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / CARD_FILE).write_text(GOOD.replace("./folder", "."))
    assert find_card((tmp_path / "guard").rename(tmp_path / "moved")).checkpoint == str(tmp_path / "moved")
