"""The two-player game: filters, pairs, and whole games that go on after a kill."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("datasketch")

import tiny  # noqa: E402
from wardgate.data.rows import DataError  # noqa: E402
from wardgate.guards.ngrams import NgramSettings  # noqa: E402
from wardgate.hazards import Hazard  # noqa: E402
from wardgate.train.duo.filters import Filters, copies, is_refusal, rating_of, why_dropped  # noqa: E402
from wardgate.train.duo.game import Game, Players, Rules, added  # noqa: E402
from wardgate.train.duo.game import drawn as game_drawn  # noqa: E402
from wardgate.train.duo.game import hardest as game_hardest  # noqa: E402
from wardgate.train.duo.ledger import LINEAGE, Ledger  # noqa: E402
from wardgate.train.duo.moves import Proposal, Scored, Seed, read_moves, seeds_of, write_moves  # noqa: E402
from wardgate.train.duo.pairing import Level, level_of, pairs_of  # noqa: E402
from wardgate.train.duo.players import AtPoint, EditGenerator, KeepsLabel, Ngrams, Shifted  # noqa: E402
from wardgate.train.duo.policy import NONE, EditPolicy, Learning  # noqa: E402
from wardgate.train.nano import NanoSettings  # noqa: E402

SEED = Seed("s", "please give me some bread", False, (), "en")


def proposal(text, language="en", number=0):
    return Proposal(f"1/s/{number}", "s", text, language)


# --- seeds and filters ---------------------------------------------------------------------------------------------


def test_some_seeds_are_never_rewritten():
    calm, rude = tiny.examples(2)[1], tiny.examples(1)[0]
    never = replace(rude, id="n", present=frozenset({Hazard.HATE, Hazard.INDISCRIMINATE_WEAPONS}))
    child = replace(rude, id="c", present=frozenset({Hazard.CHILD_SEXUAL_EXPLOITATION}))
    vague = replace(rude, id="v", present=frozenset())
    pair = replace(calm, id="p", response="answer")
    kept, left_out = seeds_of([calm, rude, never, child, vague, pair])
    assert [s.id for s in kept] == [calm.id, rude.id]
    assert left_out == {
        "a hazard that is never rewritten": 2,
        "unsafe, and its hazards are not known": 1,
        "not a single text with a verdict": 1,
    }


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I\u2019m sorry, but no.",
        "  ICH KANN NICHT dabei helfen",
        "Je ne peux pas vous aider",
        "Lo siento, no puedo",
        "对不起，我不能",
        "申し訳ありません",
    ],
)
def test_refusals_are_known_in_any_language(text):
    assert is_refusal(text)


def test_what_a_filter_drops_and_why():
    def why(text, filters=Filters(), language="en", found=None):  # noqa: B008
        return why_dropped(SEED, proposal(text, language), filters, lambda _: found)

    assert why("could you hand me a loaf") == ""
    assert why(" ** ") == "empty"
    assert why(SEED.text) == "the seed itself"
    assert why("x" * 226) == "length differs by more than 200"
    assert why("x" * 225) == ""
    assert why("I cannot do that") == "a refusal"
    assert why("I cannot do that", Filters(refusals=False)) == ""
    assert why("donne du pain", language="fr", found="de") == "in another language"
    assert why("donne du pain", language="fr", found=None) == ""


def test_copies_of_seeds_and_of_each_other():
    said = ["please give me some bread!", "may I have a slice of cake and tea", "may I have a slice of cake and tea?"]
    made = [proposal(t, number=i) for i, t in enumerate(said)]
    assert copies([SEED], made, 0.7) == {"1/s/0", "1/s/2"}
    assert copies([SEED], [*made, proposal(said[1], number=9)], None) == {"1/s/9"}


@pytest.mark.parametrize(
    ("answer", "rating"),
    [("3\nbecause", 3), ("Rating: 2", 2), ("**4**", 4), ("I cannot rate this.", 5), ("", 5), ("10", 5), ("2.5", 5)],
)
def test_a_rating_that_cannot_be_read_is_5(answer, rating):
    assert rating_of(answer) == rating


# --- levels and pairs ----------------------------------------------------------------------------------------------


def scored(number, p, rating, *, unsafe=True, seed="s", dropped=""):
    return Scored(f"1/{seed}/{number}", seed, unsafe, p, rating, (p >= 0.5) != unsafe, dropped)


def test_levels():
    assert level_of(scored(0, 0.1, 4)) is Level.L1
    assert level_of(scored(0, 0.9, 3)) is Level.L2
    assert level_of(scored(0, 0.1, 2)) is Level.L3
    assert level_of(scored(0, 0.9, 1)) is Level.L4
    assert level_of(scored(0, 0.9, 2, unsafe=False)) is Level.L1
    assert level_of(scored(0, 0.9, 3, unsafe=False)) is Level.L3


drawn = st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 1), st.integers(1, 5), st.booleans()), max_size=24)


@given(drawn, st.integers(1, 3))
def test_pairs_are_those_of_a_slow_reading_of_the_rules(rows, per_seed):
    made = [scored(i, p, r, seed=s, dropped="a refusal" if bad else "") for i, (s, p, r, bad) in enumerate(rows)]
    proposals = {s.proposal: Proposal(s.proposal, s.seed, s.proposal, "en") for s in made}
    pairs = pairs_of(made, proposals, per_seed=per_seed)
    by_text = {s.proposal: s for s in made}
    for pair in pairs:
        chosen, rejected = by_text[pair.chosen], by_text[pair.rejected]
        assert chosen.seed == rejected.seed == pair.seed
        assert not chosen.dropped
        assert not rejected.dropped
        assert level_of(chosen) is Level.L1
        mine = [level_of(s) for s in made if s.seed == pair.seed and not s.dropped]
        assert level_of(rejected) is (Level.L2 if Level.L2 in mine else Level.L3)
        assert pair.level == f"L1>{level_of(rejected)}"
    for seed in "ab":
        mine = Counter(level_of(s) for s in made if s.seed == seed and not s.dropped)
        possible = mine[Level.L1] * (mine[Level.L2] or mine[Level.L3])
        assert sum(p.seed == seed for p in pairs) == min(per_seed, possible)


def test_moves_come_back_as_they_were(tmp_path):
    rows = [Proposal("1/s/0", "s", "línea\n\u2028", "es", ("leet", "casing")), proposal("plain")]
    write_moves(tmp_path / "p.jsonl", rows)
    assert read_moves(tmp_path / "p.jsonl", Proposal) == rows
    with pytest.raises(DataError, match="line 1: not a scored"):
        read_moves(tmp_path / "p.jsonl", Scored)


# --- whole games ---------------------------------------------------------------------------------------------------

FAST = Ngrams(NanoSettings(epochs=5, batch=16, width=8, hidden=16, dropped=0.1, rate=2e-2), NgramSettings(bits=12))
EDITS = (NONE, "char_swap", "leet", "role_play")
LOOSE = Filters(length=500, refusals=False, language=False, near=None)


def game(folder, *, trainee=FAST, rounds=2, generator=None, chunk=10, n=40):
    made = generator or EditGenerator(EditPolicy.uniform(EDITS, slots=1), Learning(steps=5, batch=16))
    rules = Rules(rounds=rounds, k=3, languages=("en",), filters=LOOSE, chunk=chunk)
    return Game(
        tiny.examples(n), rules, Players(made, KeepsLabel(), trainee), Ledger(folder, rules.as_dict()), lambda _: None
    )


def artefacts(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != LINEAGE
    }


def test_a_game_leaves_everything_on_disk_with_its_lineage(tmp_path, capsys):
    last = game(tmp_path).play()
    assert last.name == "classifier-2"
    rows = [json.loads(line) for line in (tmp_path / LINEAGE).read_text().splitlines()]
    by_name = {r["artefact"]: r for r in rows}
    assert {"classifier-0", "proposals-1/en-00000.jsonl", "scored-1.jsonl", "misses-2.jsonl", "generator-2"} <= set(
        by_name
    )
    assert by_name["classifier-1"]["inputs"] == {"misses-1.jsonl": by_name["misses-1.jsonl"]["sha256"]}
    assert (tmp_path / ".gitignore").read_text() == "*\n"
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["rounds"][0]["generated"] == 120
    assert "child_sexual_exploitation" not in card["rules"]["allowed"]
    made = read_moves(tmp_path / "proposals-1" / "en-00000.jsonl", Proposal)
    said = capsys.readouterr()
    assert not any(p.text in said.out + said.err + (tmp_path / "card.json").read_text() for p in made)


class Stops(BaseException):
    """Like a kill: nothing catches it."""


def test_a_game_that_is_stopped_anywhere_ends_as_one_that_is_not(tmp_path, monkeypatch):
    game(tmp_path / "whole", rounds=1).play()
    whole = artefacts(tmp_path / "whole")
    plain = Ledger._enter
    steps = len((tmp_path / "whole" / LINEAGE).read_text().splitlines())
    for stop in range(steps):  # one artefact further each time
        left = [min(stop, 1)]

        def enter(self, *args, left=left):
            if left[0] == 0:
                raise Stops  # the artefact is in place, and not entered
            left[0] -= 1
            plain(self, *args)

        monkeypatch.setattr(Ledger, "_enter", enter)
        with pytest.raises(Stops):
            game(tmp_path / "cut", rounds=1).play()
    monkeypatch.setattr(Ledger, "_enter", plain)
    game(tmp_path / "cut", rounds=1).play()
    assert artefacts(tmp_path / "cut") == whole


def test_a_damaged_artefact_and_a_torn_ledger_are_made_good(tmp_path):
    game(tmp_path, rounds=1).play()
    whole = artefacts(tmp_path)
    (tmp_path / "scored-1.jsonl").write_text("torn")
    with (tmp_path / LINEAGE).open("a") as stream:
        stream.write('{"artefact": "classif')
    game(tmp_path, rounds=1).play()
    assert artefacts(tmp_path) == whole


def test_other_settings_need_another_folder(tmp_path):
    game(tmp_path, rounds=1).play()
    with pytest.raises(DataError, match="a run with other settings"):
        game(tmp_path, rounds=2)


def test_the_classifier_learns_what_it_missed(tmp_path):
    thorough = Ngrams(replace(FAST.settings, epochs=30), FAST.sizes)
    game(tmp_path, rounds=2, n=200, trainee=thorough).play()
    before, after = (FAST.open(tmp_path / f"classifier-{t}") for t in (0, 2))
    fresh = tiny.examples(100, seed=5)
    policy = EditPolicy.uniform(("char_swap",), slots=1)
    texts = [policy.apply(e.text, [0], 1) for e in fresh]
    y = np.array([e.unsafe for e in fresh])
    right = [((c.unsafe(texts) >= 0.5) == y).mean() for c in (before, after)]
    assert right[1] >= right[0]


def test_a_miss_brings_its_counterpart_made_the_same_way():
    made = [scored(0, 0.1, 5), scored(1, 0.2, 5), scored(2, 0.1, 1, unsafe=False), scored(3, 0.1, 1, unsafe=False)]
    made.append(scored(4, 0.2, 1, unsafe=False, dropped="a copy"))
    how = dict(zip([s.proposal for s in made], [("leet",), ("leet",), ("leet",), ("casing",), ("leet",)], strict=True))
    proposals = {i: Proposal(i, "s", "x", "en", h) for i, h in how.items()}
    assert added(made, proposals, paired=False) == made[:2]
    assert added(made, proposals, paired=True) == made[:3]  # one leet counterpart is there, for one of two misses


def test_mirrored_rewrites_are_made_as_those_of_the_other_label():
    logits = np.full((2, 1, 2), -30.0)
    logits[0, 0, 0] = logits[1, 0, 1] = 30.0  # nothing is done to safe seeds, and unsafe ones are always in play
    policy = EditPolicy((NONE, "role_play"), logits, logits, {})
    seeds = [replace(SEED, id=str(i), unsafe=i % 2 == 1) for i in range(400)]

    def in_play(mirrored):
        made = EditGenerator(policy, Learning(), mirrored=mirrored).propose(seeds, "en", 1, 1)
        return [
            np.mean([p.how == ("role_play",) for p, s in zip(made, seeds, strict=True) if s.unsafe is x])
            for x in (False, True)
        ]

    assert in_play(0.0) == [0.0, 1.0]
    assert in_play(1.0) == [1.0, 0.0]
    assert in_play(0.5) == pytest.approx([0.5, 0.5], abs=0.12)


class Known:
    """A classifier, and a trainee, whose probabilities are the texts themselves."""

    def train(self, seeds, misses, folder):
        folder.mkdir()

    def open(self, folder):
        return self

    def unsafe(self, texts):
        return np.array([float(t) for t in texts])


def test_a_classifier_at_its_point_flags_the_stated_share_of_safe_texts(tmp_path):
    safe = tuple(str(x) for x in np.random.default_rng(0).beta(2, 2, 1000))
    at = AtPoint(Known(), safe, 0.025)
    at.train([], [], tmp_path / "c")
    opened = at.open(tmp_path / "c")
    assert isinstance(opened, Shifted)
    p = opened.unsafe(safe)
    assert (p >= 0.5).mean() == pytest.approx(0.025, abs=0.001)
    np.testing.assert_array_equal(np.argsort(p), np.argsort([float(t) for t in safe]))
    assert ((opened.unsafe(["0", "1"]) >= 0) & (opened.unsafe(["0", "1"]) <= 1)).all()


def test_long_seeds_are_left_out_and_counted(tmp_path):
    rows = tiny.examples(40)
    most = int(np.median([len(e.text) for e in rows]))
    players = Players(EditGenerator(EditPolicy.uniform(EDITS), Learning()), KeepsLabel(), FAST)
    short = Game(rows, Rules(longest=most), players, Ledger(tmp_path, {}), lambda _: None)
    assert short.seeds == [s for s in seeds_of(rows)[0] if len(s.text) <= most]
    assert short.left_out["too long"] == 40 - len(short.seeds) > 0
    with pytest.raises(DataError, match="no game without"):
        Game(rows, Rules(longest=1), players, Ledger(tmp_path, {}), lambda _: None)


def test_drawn_rewrites_are_what_the_generator_offers_missed_or_not(tmp_path):
    made = [scored(i, 0.1 if i % 3 else 0.9, 5, dropped="" if i % 7 else "a copy") for i in range(700)]
    some = game_drawn(made, 200, 1)
    assert len(some) == len({s.proposal for s in some}) == 200
    assert not any(s.dropped for s in some)
    offered = [s.missed for s in made if not s.dropped]
    assert np.mean([s.missed for s in some]) == pytest.approx(np.mean(offered), abs=0.1)
    assert game_drawn(made, 200, 1) == some != game_drawn(made, 200, 2)
    assert len(game_drawn(made, 10_000, 1)) == len(offered)

    players = Players(EditGenerator(EditPolicy.uniform(EDITS), Learning()), KeepsLabel(), FAST)
    game = Game(tiny.examples(40), Rules(rounds=2, k=2, drawn=30), players, Ledger(tmp_path, {}), lambda _: None)
    game.play()
    assert [len(game.misses(t)) for t in (1, 2)] == [30, 60]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1), st.booleans()), max_size=24, unique_by=lambda t: t[1]),
    st.integers(1, 3),
)
def test_the_hardest_rewrites_are_those_of_each_seed_that_lose_the_most(drawn_, each):
    made = [
        Scored(str(i), seed, seed == "a", p, 5 if seed == "a" else 1, missed=False, dropped="" if kept else "a copy")
        for i, (seed, p, kept) in enumerate(drawn_)
    ]
    found = game_hardest(made, each)
    for seed in "abc":
        lost = [-math.log(max(s.p if s.unsafe else 1 - s.p, 1e-6)) for s in made if s.seed == seed and not s.dropped]
        assert [s.reward for s in found if s.seed == seed] == sorted(lost, reverse=True)[:each]


def test_a_game_for_the_hardest_shows_every_seed_as_often(tmp_path):
    players = Players(EditGenerator(EditPolicy.uniform(EDITS), Learning()), KeepsLabel(), FAST)
    game = Game(tiny.examples(40), Rules(rounds=2, k=4, hardest=1), players, Ledger(tmp_path, {}), lambda _: None)
    game.play()
    seeds = {s.seed for s in game.scored(1) if not s.dropped}
    assert len(game.misses(1)) == len(seeds)
    assert sorted(e.id.split("/")[1] for e in game.misses(1)) == sorted(seeds)


def test_no_game_without_both_sides(tmp_path):
    safe = [e for e in tiny.examples(20) if not e.unsafe]
    rules = Rules()
    players = Players(EditGenerator(EditPolicy.uniform(), Learning()), KeepsLabel(), FAST)
    with pytest.raises(DataError, match="no game without"):
        Game(safe, rules, players, Ledger(tmp_path, {}), lambda _: None)
