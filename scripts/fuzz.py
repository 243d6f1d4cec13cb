"""Feeds what takes untrusted bytes, guided by coverage (atheris), and counts.

    pip install atheris
    python scripts/fuzz.py --target normalise --runs 20000

Targets: normalise, policy, card, rows (a batch's JSONL and CSV readers), manifest, body (of requests to the server, in
every protocol; needs the extra `serve`). A target may raise only what it
promises; anything else, or an input that takes more than ten seconds, ends the run with that input.
"""

from __future__ import annotations

import argparse
import functools
import io
import sys
import tempfile
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["wardgate"]):
    import wardgate
    from wardgate.batch import Compression, Format, Source
    from wardgate.batch.reading import csv_rows, jsonl_rows
    from wardgate.batch.rows import Fields, RowError
    from wardgate.engine.bundle import MANIFEST, BundleError, load_bundle
    from wardgate.guards.card import CardError, parse_card
    from wardgate.normalise import normalise, replay
    from wardgate.policy import PolicyError, parse_policy

FOLDER = Path(tempfile.mkdtemp(prefix="wardgate-fuzz-"))


def text_of(data: bytes) -> str:
    """Any text, lone surrogates included."""
    return data.decode("utf-8", "surrogatepass") if _decodes(data) else data.decode("utf-8", "replace")


def _decodes(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def fuzz_normalise(data: bytes) -> None:
    """Cleaning can be replayed."""
    found = normalise(text_of(data))
    if replay(found.raw, found.steps) != found.cleaned:
        raise AssertionError("the steps do not lead to the cleaned text")


def fuzz_policy(data: bytes) -> None:
    """A policy, or its problems."""
    try:
        parse_policy(data, "fuzz")
    except PolicyError:
        return


def fuzz_card(data: bytes) -> None:
    """A card, or its problems."""
    try:
        parse_card(text_of(data), where="fuzz")
    except CardError:
        return


def fuzz_rows(data: bytes) -> None:
    """Every row is good or has a reason."""
    for reader, format_ in ((jsonl_rows, Format.JSONL), (csv_rows, Format.CSV)):
        try:
            for row in reader(io.BytesIO(data), Source("fuzz", format_, Compression.NONE)):
                try:
                    Fields().submission(row)
                except RowError:
                    continue
        except ValueError as error:
            if type(error).__module__ != "wardgate.batch.formats":
                raise


def fuzz_manifest(data: bytes) -> None:
    """A bundle, or what is wrong with it."""
    (FOLDER / MANIFEST).write_bytes(data)
    try:
        load_bundle(FOLDER)
    except BundleError:
        return


PATHS = (
    "/v1/check",
    "/v1/moderations",
    "/v1alpha1/comments:analyze",
    "/predict",
    "/classify",
    "/beta/litellm_basic_guardrail_api",
    "/api/v1/text/contents",
)

BODIES = (
    b'{"input": [{"text": "a", "response": "b", "history": ["c"]}], "policy": "default"}',
    b'{"input": ["a", "b"], "model": "omni-moderation-latest"}',
    b'{"comment": {"text": "a"}, "requestedAttributes": {"TOXICITY": {"scoreThreshold": 0.5}}, "languages": ["en"]}',
    b'{"inputs": [["a"], ["b", "c"]], "truncate": true, "raw_scores": false}',
    b'{"input": ["a", "b"]}',
    b'{"texts": ["a"], "input_type": "request", "structured_messages": [], "request_data": {}}',
    b'{"contents": ["a", "b"], "detector_params": {"threshold": 0.5}}',
)
"""One body of each of `PATHS`."""


@functools.cache
def _client() -> Any:
    from fastapi.testclient import TestClient

    with atheris.instrument_imports(include=["wardgate.serve"]):
        from wardgate import Engine
        from wardgate.serve import Settings, create_app

    app = create_app(Engine.load(["nano"]), Settings(timeout_s=100, access_log=False))
    return TestClient(app, client=("127.0.0.1", 1)).__enter__()


def fuzz_body(data: bytes) -> None:
    """Any body is answered, as JSON and with no failure of the server. The first byte chooses the protocol."""
    path = PATHS[data[0] % len(PATHS)] if data else PATHS[0]
    answer = _client().post(path, content=data[1:], headers={"content-type": "application/json"})
    if answer.status_code >= 500 or answer.status_code == 405:
        raise AssertionError(f"{path} answered {answer.status_code}")
    answer.json()


TARGETS = {
    "normalise": fuzz_normalise,
    "policy": fuzz_policy,
    "card": fuzz_card,
    "rows": fuzz_rows,
    "manifest": fuzz_manifest,
    "body": fuzz_body,
}


def _corpus(target: str) -> Path:
    """Inputs to begin from: what wardgate ships, so that fuzzing starts behind the first check."""
    package = Path(wardgate.__file__).parent
    globs = {"policy": "policy/shipped/*.yaml", "card": "guards/presets/*.yaml", "manifest": "bundles/*/bundle.json"}
    found = [path.read_bytes() for path in package.glob(globs.get(target, "*.none"))]
    if target == "body":
        found += [bytes([number]) + body for number, body in enumerate(BODIES)]
    found += [b'{"text": "a", "n": 1}\n{"text": 5}\n', b'id,text\n1,"a ""b""\nc"\n', "h\u0456 k1ll @ll".encode()]
    folder = FOLDER / "corpus"
    folder.mkdir()
    for number, data in enumerate(found):
        (folder / str(number)).write_bytes(data)
    return folder


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--target", choices=sorted(TARGETS), required=True)
    options.add_argument("--runs", type=int, default=20_000)
    given = options.parse_args()
    limits = [f"-runs={given.runs}", "-max_len=6000", "-timeout=10", "-rss_limit_mb=4096"]
    if given.target == "body":
        _client()  # before the clock of the first input runs
    atheris.Setup([sys.argv[0], *limits, str(_corpus(given.target))], TARGETS[given.target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
