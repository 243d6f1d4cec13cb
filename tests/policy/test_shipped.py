"""The shipped policies: each shown doing what it is for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cases import POINTS, case, report, rules
from wardgate.engine.catalogue import load_guard
from wardgate.guards import Status
from wardgate.guards.rules import RulesGuard
from wardgate.hazards import BIOGUARD, HAZARDS, WARDGATE
from wardgate.policy import Action, load_policy, shipped_names
from wardgate.policy.decision import GRAVITY

MAPS = {
    "mini": WARDGATE,
    "nano": WARDGATE,
    "small": WARDGATE,
    "rules": RulesGuard.starter().labels,
    "bioguard-prompt": BIOGUARD,
    "bioguard-response": BIOGUARD,
}


def bound(name):
    policy = load_policy(name, known_guards=MAPS)
    return policy.bind({g: MAPS[g] for g in policy.guards}, {g: POINTS["mini"] for g in policy.guards if g == "mini"})


CHAT, GATEWAY, BIO, MINORS = map(bound, ("chat-community", "llm-gateway", "bio-dual-mode", "strict-minors"))


def test_six_policies_ship():
    assert shipped_names() == ["bio-dual-mode", "chat-community", "default", "fast", "llm-gateway", "strict-minors"]


class TestFast:
    FAST = bound("fast")

    @pytest.mark.parametrize("unsafe", [0.01, 0.99])
    def test_what_nano_is_sure_of_needs_nobody_else(self, unsafe):
        sure = case(report("nano", unsafe=unsafe))
        assert self.FAST.pending(case()) == ("nano",)
        assert self.FAST.pending(sure) == ()
        assert self.FAST.decide(sure).action is (Action.BLOCK if unsafe > 0.5 else Action.ALLOW)

    @pytest.mark.parametrize("unsafe", [0.05, 0.95])
    def test_what_small_is_sure_of_needs_no_mini(self, unsafe):
        asked = case(report("nano", unsafe=0.5))
        assert self.FAST.pending(asked) == ("small",)
        sure = case(report("nano", unsafe=0.5), report("small", unsafe=unsafe))
        assert self.FAST.pending(sure) == ()
        assert self.FAST.decide(sure).action is (Action.BLOCK if unsafe > 0.5 else Action.ALLOW)

    def test_what_both_doubt_is_for_mini_to_say(self):
        doubted = (report("nano", unsafe=0.9), report("small", unsafe=0.6))
        assert self.FAST.pending(case(*doubted)) == ("mini",)
        said = [case(*doubted, report("mini", unsafe=p)) for p in (0.01, 0.99)]
        assert [self.FAST.decide(c).action for c in said] == [Action.ALLOW, Action.BLOCK]

    def test_a_cheap_guard_settles_nothing_between_its_own_points(self):
        """Else what it settles as unsafe would be reviewed or allowed, and what it settles as safe reviewed."""
        asked = ()
        for guard, following in (("nano", "small"), ("small", "mini")):
            points = load_guard(guard).points
            for unsafe in (points["strict"]["unsafe"], points["balanced"]["unsafe"]):
                assert self.FAST.pending(case(*asked, report(guard, unsafe=unsafe))) == (following,)
            asked = (*asked, report(guard, unsafe=unsafe))

    def test_of_answers_beside_their_prompts_the_cheap_settle_harmless_ones_alone(self):
        safe, bad = report("nano", unsafe=0.01), report("nano", unsafe=0.99)
        assert self.FAST.pending(case(safe, response="Cheese.")) == ()
        assert self.FAST.pending(case(bad, response="No.")) == ("small",)
        assert self.FAST.pending(case(bad, report("small", unsafe=0.01), response="No.")) == ()
        assert self.FAST.pending(case(bad, report("small", unsafe=0.99), response="No.")) == ("mini",)

    def test_who_fails_leaves_it_to_the_next(self):
        failed = report("nano", status=Status.FAILED)
        assert self.FAST.pending(case(failed)) == ("small",)
        assert self.FAST.pending(case(failed, report("small", status=Status.FAILED))) == ("mini",)


def chat(*reports, **context):
    made = CHAT.decide(case(*reports, context=context, language="en"))
    return made.action.value, made.rule


class TestChatCommunity:
    def test_spam_needs_no_model(self):
        assert CHAT.pending(case()) == ("rules",)
        assert CHAT.pending(case(rules(spam=0.96))) == ()
        assert CHAT.pending(case(rules())) == ("mini",)
        assert CHAT.pending(case(rules(self_harm=0.8))) == ("mini",)

    @pytest.mark.parametrize(("offences", "action"), [(0, "delete"), (1, "delete"), (2, "timeout"), (3, "timeout")])
    def test_spam_climbs_the_ladder_as_far_as_a_list_is_sure(self, offences, action):
        assert chat(rules(spam=0.96), offences=offences) == (action, "spam")

    def test_an_invite_may_end_in_a_ban(self):
        assert chat(rules(invite=0.99), offences=3) == ("ban", "spam")

    @pytest.mark.parametrize(
        ("unsafe", "offences", "expected"),
        [
            (0.5, 0, ("allow", "otherwise")),
            (0.7, 5, ("review", "doubtful")),
            (0.92, 0, ("warn", "unsafe")),
            (0.92, 1, ("delete", "unsafe")),
            (0.92, 2, ("delete", "unsafe")),  # not sure enough for a timeout
            (0.99, 2, ("timeout", "unsafe")),
            (0.99, 4, ("ban", "unsafe")),
        ],
    )
    def test_the_surer_and_the_oftener_the_graver(self, unsafe, offences, expected):
        assert chat(rules(), report(unsafe=unsafe), offences=offences) == expected

    def test_threats_start_higher_than_insults(self):
        assert chat(rules(), report(unsafe=0.99, violent_crimes=0.99)) == ("timeout", "threat")
        assert chat(rules(), report(unsafe=0.99, hate=0.99)) == ("delete", "hate")

    def test_who_may_harm_themselves_is_never_punished(self):
        assert chat(rules(self_harm=0.8), report(unsafe=0.99), offences=9) == ("review", "self-harm")
        assert chat(rules(), report(unsafe=0.99, suicide_and_self_harm=0.9), offences=9) == ("review", "self-harm")

    def test_minors_are_protected_earlier(self):
        said = rules(), report(unsafe=0.75, hate=0.5)
        assert chat(*said) == ("review", "doubtful")
        assert chat(*said, audience="minors") == ("warn", "unsafe")
        assert chat(rules(), report(unsafe=0.4), audience="minors") == ("review", "doubtful")

    def test_no_one_is_punished_in_a_language_the_guard_was_not_taught(self):
        said = case(rules(), report(unsafe=0.99), language="th")
        assert CHAT.decide(said).action is Action.REVIEW
        assert CHAT.decide(case(rules(), report(unsafe=0.99), language=None)).action is Action.WARN

    def test_staff_pass_and_newcomers_links_wait(self):
        assert chat(rules(invite=0.99), role="moderator") == ("allow", "staff")
        assert chat(rules(link=0.99), report()) == ("allow", "otherwise")
        assert chat(rules(link=0.99), report(), newcomer=True) == ("review", "newcomers-link")

    def test_a_guard_that_fails_means_review_and_days_are_limited(self):
        assert chat(rules(), report(status=Status.FAILED)) == ("review", "on_failure")
        assert CHAT.policy.breaker.per_day == 500
        assert CHAT.policy.window == 3


class TestLlmGateway:
    @pytest.mark.parametrize(
        ("unsafe", "prompt", "answer"),
        [(0.2, "allow", "allow"), (0.4, "allow", "review"), (0.7, "allow", "block"), (0.95, "block", "block")],
    )
    def test_an_answer_is_held_to_more_than_a_prompt(self, unsafe, prompt, answer):
        assert GATEWAY.decide(case(report(unsafe=unsafe))).action.value == prompt
        assert GATEWAY.decide(case(report(unsafe=unsafe), response="…")).action.value == answer

    def test_jailbreaks_and_weapons_are_stopped_at_the_door(self):
        assert GATEWAY.decide(case(report(unsafe=0.5, jailbreak_prompts=0.4))).rule == "jailbreak"
        assert GATEWAY.decide(case(report(unsafe=0.5, indiscriminate_weapons=0.4))).rule == "weapons-or-children"
        assert GATEWAY.decide(case(report(unsafe=0.5, jailbreak_prompts=0.4), response="…")).rule == "doubtful-answer"


class TestStrictMinors:
    def test_everything_counts_earlier(self):
        assert MINORS.decide(case(rules(), report(unsafe=0.3))).action is Action.BLOCK
        assert MINORS.decide(case(rules(), report(unsafe=0.0, sexual_content=0.2))).rule == "sexual"
        assert MINORS.decide(case(rules(), report(sexual_content=0.1))).action is Action.REVIEW
        assert MINORS.decide(case(rules(), report())).allowed

    def test_nothing_leads_elsewhere(self):
        for label in ("link", "invite", "spam"):
            assert MINORS.decide(case(rules(**{label: 0.95}), report())).rule == "off-site"

    def test_silence_blocks(self):
        assert MINORS.decide(case(rules(), report(status=Status.TIMEOUT))).action is Action.BLOCK

    def test_a_child_in_need_meets_a_person(self):
        assert MINORS.decide(case(rules(self_harm=0.8), report(unsafe=0.9))).action is Action.REVIEW

    def test_six_turns_are_read(self):
        assert MINORS.policy.window == 6


def heads(p, r):
    """The two heads' reports; the response head has nothing to read where there is no response."""
    prompt = report("bioguard-prompt", p, native={"not_harmful": 1 - p, "harmful": p})
    if r is None:
        return prompt, report("bioguard-response", status=Status.SKIPPED)
    return prompt, report("bioguard-response", r, native={"not_harmful": 1 - r, "harmful": r})


class TestBioDualMode:
    @pytest.mark.parametrize(
        ("p", "r", "expected"),
        [
            (0.5, 0.5, ("block", "both")),
            (0.9, 0.49, ("allow", "otherwise")),
            (0.1, 0.9, ("review", "harmful-answer")),  # what AND would drop
            (0.5, None, ("block", "no-response")),
            (0.49, None, ("allow", "otherwise")),
        ],
    )
    def test_both_must_agree_and_a_harmful_answer_alone_is_read(self, p, r, expected):
        made = BIO.decide(case(*heads(p, r), response=None if r is None else "…"))
        assert (made.action.value, made.rule) == expected

    @pytest.mark.parametrize(
        ("mode", "p", "r", "rule"),
        [
            ("or", 0.5, 0.1, "either"),
            ("or", 0.1, 0.5, "either"),
            ("or", 0.1, 0.1, "otherwise"),
            ("prompt_only", 0.5, 0.1, "prompt"),
            ("prompt_only", 0.1, 0.9, "otherwise"),
            ("response_only", 0.9, 0.1, "otherwise"),
            ("response_only", 0.1, 0.5, "response"),
            ("response_only", 0.5, None, "no-response"),
            ("or", 0.5, None, "either"),
        ],
    )
    def test_the_other_modes(self, mode, p, r, rule):
        given = case(*heads(p, r), response=None if r is None else "…", context={"mode": mode})
        assert BIO.decide(given).rule == rule

    def test_a_missing_head_is_no_answer(self):
        gone = [report(name, status=Status.MISSING) for name in ("bioguard-prompt", "bioguard-response")]
        assert BIO.decide(case(*gone)).rule == "on_failure"

    def test_it_warns_of_what_and_lets_pass(self):
        (warning,) = load_policy("bio-dual-mode").warnings
        assert "what only bioguard-prompt finds passes it" in warning.message


# BioGuard's own tables (model card and repository): set, rows, and how many of them each head, AND, and OR flag. From
# the published rates and the sets' sizes; AND and OR together give the overlap of the heads.
TABLES = {
    "mixed, harmful": (343, 329, 316, 309, 336),  # .959 .921 .901 .980
    "mixed, benign": (211, 129, 41, 36, 134),  # .611 .194 .171 .635
    "jailbreak, harmful": (62, 56, 57, 53, 60),  # .903 .919 .855 .968
    "jailbreak, benign": (75, 47, 20, 16, 51),  # .627 .267 .213 .680
    "expert, benign": (201, 5, 15, 1, 19),  # .025 .075 .005; OR not published
    "borderline, benign": (79, 42, 6, 6, 42),  # .532 .076 .076 .532
}
PUBLISHED = {
    "mixed, harmful": (0.959, 0.921, 0.901, 0.980),
    "mixed, benign": (0.611, 0.194, 0.171, 0.635),
    "jailbreak, harmful": (0.903, 0.919, 0.855, 0.968),
    "jailbreak, benign": (0.627, 0.267, 0.213, 0.680),
    "expert, benign": (0.025, 0.075, 0.005, None),
    "borderline, benign": (0.532, 0.076, 0.076, 0.532),
}


def joint_rows(n, prompt, response, both, either):
    """Rows with the heads' joint counts: flagged by both, by one, by none."""
    assert prompt + response == both + either
    yield from [(0.9, 0.9)] * both
    yield from [(0.9, 0.1)] * (prompt - both)
    yield from [(0.1, 0.9)] * (response - both)
    yield from [(0.1, 0.1)] * (n - either)


@pytest.mark.parametrize("name", TABLES)
def test_bioguards_tables_come_out_of_the_policy(name):
    rows = list(joint_rows(*TABLES[name]))
    assert len(rows) == TABLES[name][0]
    for mode, published in zip(("prompt_only", "response_only", "and", "or"), PUBLISHED[name], strict=True):
        made = [BIO.decide(case(*heads(p, r), response="…", context={"mode": mode})) for p, r in rows]
        rate = sum(d.action is Action.BLOCK for d in made) / len(rows)
        assert published is None or round(rate, 3) == published, mode


def test_the_review_rule_gives_back_what_and_drops():
    rows = list(joint_rows(*TABLES["jailbreak, harmful"]))
    made = [BIO.decide(case(*heads(p, r), response="…")).action for p, r in rows]
    assert made.count(Action.BLOCK) == 53
    assert made.count(Action.REVIEW) == 4, "57 of 62 found, as by the response head alone"


def test_no_policy_can_be_talked_out_of_its_guards():
    """Whatever else a shipped policy does, full alarm from every guard is never allowed."""
    alarm = dict.fromkeys((h.value for h in HAZARDS), 1.0)
    loud = {
        "mini": report(unsafe=1.0, **alarm),
        "nano": report("nano", unsafe=1.0, **alarm),
        "small": report("small", unsafe=1.0, **alarm),
        "rules": rules(self_harm=0.8, spam=0.96, link=0.99, invite=0.99, flood=0.96),
        **{r.name: r for r in heads(1.0, 1.0)},
    }
    for name in shipped_names():
        made = bound(name)
        assert not made.decide(case(*(loud[g] for g in made.policy.guards), response="…")).allowed


LEVEL = st.floats(0, 1)


@given(LEVEL, LEVEL, LEVEL, st.sampled_from(["unsafe", "hate", "violent_crimes", "sexual_content"]), st.integers(0, 6))
def test_more_of_anything_never_ends_milder_on_the_ladder(base, p, q, what, offences):
    """But for self-harm and child safety, which go to a person whatever else a text is."""
    before, after = (
        CHAT.decide(
            case(rules(), report(**{"unsafe": base, what: level}), language="en", context={"offences": offences})
        ).action
        for level in sorted((p, q))
    )
    assert GRAVITY[before] <= GRAVITY[after]


@given(LEVEL, LEVEL, st.sampled_from(["unsafe", *(h.value for h in HAZARDS)]), st.booleans())
def test_more_of_anything_never_ends_milder_at_the_gateway(p, q, what, answered):
    response = "…" if answered else None
    low, high = (GATEWAY.decide(case(report(**{what: x}), response=response)).action for x in sorted((p, q)))
    assert GRAVITY[low] <= GRAVITY[high]
