"""The small encoder that the built-in guard's recipe is tested on."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    pytest.importorskip("torch")
    from small_encoder import small_base

    return small_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def model(base):
    torch = pytest.importorskip("torch")
    from wardgate.train.encoder_model import EncoderGuardModel

    torch.manual_seed(1)
    return EncoderGuardModel.from_base(base, 13).eval()
