"""The `keep` block: what a store may keep of texts."""

import pytest

from wardgate.policy import NOTHING, Keep, PolicyError, load_policy, parse_policy, shipped_names

POLICY = """
policy: p
version: "1"
tiers:
  - guards: [g]
rules: []
"""


def policy(block=""):
    return parse_policy((POLICY + block).encode(), "p")


def test_without_the_block_no_text_is_kept():
    assert policy().keep == NOTHING == Keep("never", 30, 0.0, 0.0)


def test_the_block_is_read():
    assert policy("keep: {text: always, days: 7, sample: 0.01, second: 0.1}").keep == Keep("always", 7, 0.01, 0.1)


@pytest.mark.parametrize("name", shipped_names())
def test_shipped_policies_keep_what_people_must_read_and_no_more(name):
    kept = load_policy(name).keep
    assert (kept.text, kept.days <= 30) == ("review", True)


@pytest.mark.parametrize(
    ("block", "told"),
    [
        ("keep: {text: sometimes}", "text is kept never, review, always"),
        ("keep: {days: 0}", "whole number from 1"),
        ("keep: {days: many}", "whole number from 1"),
        ("keep: {sample: 2}", "a probability is a number from 0 to 1"),
        ("keep: {texts: never}", "has no key 'texts'"),
        ("keep: never", "keep is a mapping"),
    ],
)
def test_what_is_wrong_is_told(block, told):
    with pytest.raises(PolicyError) as caught:
        policy(block)
    assert told in "\n".join(map(str, caught.value.problems))
