"""A guard behind `far_server`, and what it is told."""

import math

import pytest

from wardgate.guards.card import RemoteCard
from wardgate.guards.client import Waiting
from wardgate.guards.remote import Remote


def card(url, verdict="judge-json", **changes):
    return RemoteCard(
        name="far", family="remote", source="a test", base_url=url, model="m", verdict=verdict, timeout=5, **changes
    )


@pytest.fixture
def open_guard():
    """Guards that never really wait between retries, closed at the end."""
    opened = []

    def make(*args, **kwargs):
        opened.append(Remote.load(card(*args, **kwargs), waiting=Waiting(sleep=lambda _s: None)))
        return opened[-1]

    yield make
    for guard in opened:
        guard.close()


def p(scores, label, row=0):
    return 1 / (1 + math.exp(-float(scores.logits[row, scores.labels.index(label)])))


JUDGED = [
    ('{"', {}),
    ("flag", {}),
    ('":', {}),
    (" true", {" true": 0.6, "true": 0.1, " false": 0.25, "false": 0.05}),
    (",", {}),
    (' "', {}),
    ("category", {}),
    ('":', {}),
    (' "', {}),
    ("har", {"har": 0.5, "hate": 0.3, "h": 0.1, "tox": 0.1}),
    ("assment", {}),
    ('",', {}),
    (' "confidence": 0.95, "reason": "short"}', {}),
]
