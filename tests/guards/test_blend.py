"""Two guards as one: the sum of their logits, and what becomes of a row that one of them could not score."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardgate.guards import Guard, Link, Scores, Status, View
from wardgate.guards.blend import BlendGuard
from wardgate.hazards import LABEL_MAPS, WARDGATE, LabelMap


@dataclass(frozen=True)
class Letters:
    """Logits from a text's letters, up to a length."""

    name: str
    factor: float
    limit: int = 100
    labels: LabelMap = field(default=WARDGATE)
    link: Link = Link.SIGMOID

    def score(self, batch):
        columns = len(self.labels.labels)
        rows = [[self.factor * (len(v.text) - i) for i in range(columns)] for v in batch]
        fits = [len(v.text) <= self.limit for v in batch]
        logits = np.where(np.array(fits)[:, None], np.array(rows, dtype=np.float32), np.nan).astype(np.float32)
        ms = np.full(len(batch), self.factor, dtype=np.float32)
        return Scores.of_fitting(self.name, self.labels.labels, self.link, logits, ms, fits=fits, limit=self.limit)


@given(st.lists(st.text(max_size=30), min_size=1, max_size=5), st.floats(0, 2))
def test_it_adds_a_share_of_the_second_guards_logits(texts, share):
    deep, wide = Letters("deep", 1.0, limit=20), Letters("wide", 0.25, limit=25)
    views = [View(t) for t in texts]
    got = BlendGuard("both", deep, wide, share).score(views)
    one, two = deep.score(views), wide.score(views)
    assert (got.guard, got.labels, got.link) == ("both", WARDGATE.labels, Link.SIGMOID)
    np.testing.assert_allclose(got.logits, one.logits + share * two.logits, rtol=1e-6)
    np.testing.assert_allclose(got.ms, one.ms + two.ms)
    assert isinstance(BlendGuard("both", deep, wide, share), Guard)


@pytest.mark.parametrize(("first", "second", "said"), [(3, 9, "3 characters"), (9, 3, "3 characters"), (9, 9, "")])
def test_a_row_that_either_could_not_score_is_not_scored(first, second, said):
    both = BlendGuard("both", Letters("deep", 1, limit=first), Letters("wide", 1, limit=second), 0.5)
    scores = both.score([View("ab"), View("abcd")])
    assert scores.status == (Status.OK, Status.FAILED if said else Status.OK)
    assert np.isnan(scores.logits[1]).all() == bool(said)
    assert np.isfinite(scores.logits[0]).all()
    assert said in scores.reasons[1]


@pytest.mark.parametrize("other", [{"labels": LABEL_MAPS["duoguard"]}, {"link": Link.SOFTMAX}])
def test_guards_that_answer_otherwise_do_not_blend(other):
    with pytest.raises(ValueError, match="'deep' and 'wide' do not answer the same labels"):
        BlendGuard("both", Letters("deep", 1), Letters("wide", 1, **other), 0.5)
