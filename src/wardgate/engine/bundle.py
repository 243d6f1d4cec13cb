"""A bundle: a folder with weights, tokenizer, calibrator, thresholds and card, tied together by hashes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wardgate.calibrate import Calibrator
from wardgate.guards.encoder import Beside, EncoderGuard, EncoderSettings
from wardgate.guards.ngrams import NgramGuard, NgramSettings
from wardgate.hazards import LABEL_MAPS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wardgate.guards import Guard
    from wardgate.hazards import LabelMap

MANIFEST = "bundle.json"
ENCODER, NGRAMS = ("model.onnx", "tokenizer.json"), ("weights.safetensors",)
FILES = {"encoder": ENCODER, "ngrams": NGRAMS, "blend": ENCODER + NGRAMS}
"""What a bundle of each kind holds beside its manifest, which vouches for each by its SHA-256."""
BUILT_IN = Path(__file__).parent.parent / "bundles"
"""Where the guards that ship in the package lie."""


class BundleError(ValueError):
    """A bundle that cannot be used; the message is one line and says which file and why."""


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A guard with what turns its scores into decisions.

    Attributes:
        guard: the guard.
        calibrator: fitted for this guard.
        points: operating point to label to threshold (a probability, 0 to 1).
        sha256: of the manifest, which names the hash of every other file; certificates are tied to it.
        version: the bundle's own version, changed whenever its answers change.
        canary: P(unsafe) of each canary text where the bundle was packed; see `engine.canary`.
    """

    guard: Guard
    calibrator: Calibrator
    points: Mapping[str, Mapping[str, float]]
    sha256: str
    version: str
    canary: tuple[float, ...] = ()


def load_bundle(folder: Path) -> Bundle:
    """Load a bundle and check every file against its hash.

    The n-grams may lie in a built-in bundle instead, if one has them with the same hash: guards that share them ship
    them once.

    Raises:
        BundleError: if a file is missing, truncated, changed, or not of a known form.
    """
    try:
        raw = (folder / MANIFEST).read_bytes()
        manifest = json.loads(raw)
        kind = str(manifest["kind"])
        hashes = {name: str(manifest["files"][name]) for name in FILES.get(kind, ())}
    except FileNotFoundError:
        raise BundleError(f"{folder} is not a bundle: it has no {MANIFEST}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{folder / MANIFEST} is not a bundle's manifest ({type(error).__name__})") from None
    if kind not in FILES:
        raise BundleError(f"{folder}: bundle kind {kind!r} is not known here; a newer wardgate may know it")
    files = {name: _vouched(folder / name, expected) for name, expected in hashes.items()}
    try:
        return _assemble(files, manifest, hashlib.sha256(raw).hexdigest())
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{folder}: {error}") from None


def _assemble(files: Mapping[str, Path], manifest: dict[str, Any], sha256: str) -> Bundle:
    labels = LABEL_MAPS[str(manifest["labels"])]
    guard = _guard(files, manifest, labels)
    calibrator = Calibrator.from_dict(manifest["calibrator"], labels, guard.link)
    canary = tuple(float(p) for p in manifest.get("canary", ()))
    return Bundle(guard, calibrator, manifest["points"], sha256, str(manifest["version"]), canary)


def _guard(files: Mapping[str, Path], manifest: dict[str, Any], labels: LabelMap) -> Guard:
    name, sizes = str(manifest["name"]), manifest["settings"]
    if manifest["kind"] == "ngrams":
        return _ngrams(files, name, sizes, labels)
    beside = None
    if manifest["kind"] == "blend":
        ngrams = _ngrams(files, name, sizes["ngrams"], labels)
        beside = Beside(ngrams, float(sizes["share"]), float(sizes["floor"]))
        sizes = sizes["encoder"]
    model, tokenizer = (files[file] for file in ENCODER)
    return EncoderGuard(name, model, tokenizer, labels=labels, settings=EncoderSettings(**sizes), beside=beside)


def _ngrams(files: Mapping[str, Path], name: str, sizes: dict[str, Any], labels: LabelMap) -> NgramGuard:
    settings = NgramSettings(**sizes | {"grams": tuple(sizes["grams"])})
    return NgramGuard(name, files[NGRAMS[0]], labels=labels, settings=settings)


def _vouched(path: Path, expected: str) -> Path:
    """Where the file with this hash is: here, or, if it is n-grams, in a built-in bundle."""
    if path.exists():
        found = _hash(path)
        if found != expected:
            raise BundleError(f"{path} is damaged: its SHA-256 is {found[:12]}…, the manifest says {expected[:12]}…")
        return path
    for place in BUILT_IN.glob(f"*/{path.name}") if path.name in NGRAMS else ():
        if _hash(place) == expected:
            return place
    raise BundleError(f"{path} is missing")


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        raise BundleError(f"{path} cannot be read") from None


def write_manifest(folder: Path, manifest: dict[str, object]) -> None:
    """Write `bundle.json`, adding the hash of every file it is to vouch for.

    Args:
        folder: the bundle's folder, with the files of its kind in place.
        manifest: name, version, kind, labels, settings, calibrator, points and whatever the card adds.
    """
    hashes = {name: _hash(folder / name) for name in FILES[str(manifest["kind"])]}
    text = json.dumps(manifest | {"files": hashes}, indent=1, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def built_in_names() -> list[str]:
    """The bundles that ship in the package."""
    return sorted(p.parent.name for p in BUILT_IN.glob(f"*/{MANIFEST}"))
