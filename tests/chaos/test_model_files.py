"""Bundles whose files are damaged: told with the file's name, and never loaded."""

from __future__ import annotations

import json
import random
import shutil

import pytest

from wardgate import Engine
from wardgate.engine import BundleError
from wardgate.engine.bundle import BUILT_IN, MANIFEST, load_bundle
from wardgate.guards import View

MINI = BUILT_IN / "mini"
SHARED = "weights.safetensors"
FILES = ("model.onnx", "tokenizer.json", SHARED)
draw = random.Random(20)


def copy(folder, name):
    """mini's n-grams are nano's, and lie beside nano alone."""
    shutil.copyfile((BUILT_IN / "nano" if name == SHARED else MINI) / name, folder / name)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    for name in (*FILES, MANIFEST):
        copy(folder, name)
    return folder


@pytest.fixture
def restored(bundle):
    yield bundle
    for name in (*FILES, MANIFEST):
        copy(bundle, name)


def refused(folder):
    with pytest.raises(BundleError) as caught:
        load_bundle(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [draw.random() for _ in range(4)])
def test_one_bit_is_noticed(restored, name, place):
    path = restored / name
    at = int(place * path.stat().st_size)
    with path.open("r+b") as stream:
        stream.seek(at)
        byte = stream.read(1)[0]
        stream.seek(at)
        stream.write(bytes([byte ^ 1 << draw.randrange(8)]))
    assert name in refused(restored)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_half_a_file_is_noticed(restored, name, share):
    path = restored / name
    with path.open("r+b") as stream:
        stream.truncate(int(share * path.stat().st_size))
    assert name in refused(restored)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", MANIFEST])
def test_a_file_that_is_gone_is_noticed(restored, name):
    (restored / name).unlink()
    assert name in refused(restored)


def test_n_grams_that_a_built_in_guard_has_too_need_not_be_here(restored):
    view = [View("How do I bake bread?")]
    with_all = load_bundle(restored).guard.score(view).logits
    (restored / SHARED).unlink()
    assert (load_bundle(restored).guard.score(view).logits == with_all).all()
    manifest = json.loads((restored / MANIFEST).read_text())
    manifest["files"][SHARED] = "0" * 64
    (restored / MANIFEST).write_text(json.dumps(manifest))
    assert f"{SHARED} is missing" in refused(restored)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"files": {}}', "null", '{"files": 5}', "\x00"])
def test_a_manifest_that_is_none_is_told(restored, text):
    (restored / MANIFEST).write_text(text)
    assert MANIFEST in refused(restored)


def test_a_file_whose_hash_is_right_and_that_is_no_model_is_told(restored):
    import hashlib

    (restored / "tokenizer.json").write_text("{}")
    manifest = json.loads((restored / MANIFEST).read_text())
    manifest["files"]["tokenizer.json"] = hashlib.sha256(b"{}").hexdigest()
    (restored / MANIFEST).write_text(json.dumps(manifest))
    refused(restored)


def test_a_damaged_bundle_is_no_engine(restored):
    (restored / "model.onnx").write_bytes(b"")
    with pytest.raises(BundleError):
        Engine.load([restored])
