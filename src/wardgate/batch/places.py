"""Where files are: this machine, standard streams, and whatever fsspec knows (s3, gs, az, hf, http, memory)."""

from __future__ import annotations

import glob
import hashlib
import io
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from wardgate.batch.formats import BatchError, Compression, Format, UsageError, of_name

if TYPE_CHECKING:
    from collections.abc import Sequence

STANDARD = "-"
_SAMPLE = 1 << 16
_BUFFER = 1 << 18


@dataclass(frozen=True, slots=True)
class Source:
    """One input file.

    Attributes:
        path: a path, a URL, or `-` for standard input.
        format: what it holds.
        compression: how it is compressed.
        size: bytes as stored; None where nobody can tell.
        stamp: tells this content from another; empty where nobody can tell.
    """

    path: str
    format: Format
    compression: Compression
    size: int | None = None
    stamp: str = ""


def is_remote(path: str) -> bool:
    """Whether a path is a URL that fsspec opens."""
    return "://" in path


def find_sources(patterns: Sequence[str], format_: Format | None = None) -> list[Source]:
    """The input files that paths, URLs and globs name: in the order given, a glob's own in name order.

    Args:
        patterns: paths or URLs, with `*`, `?`, `[…]` and `**` where they are globs; `-` is standard input.
        format_: overrides what the names tell.

    Raises:
        BatchError: if a pattern names nothing, or a format cannot be told.
    """
    return [_source(path, format_) for pattern in patterns for path in _expand(pattern)]


def open_source(path: str) -> BinaryIO:
    """Open an input for reading.

    Raises:
        BatchError: if it cannot be opened.
    """
    if path == STANDARD:
        return sys.stdin.buffer
    try:
        if is_remote(path):
            system, inner = _remote(path)
            # fsspec's own files read no line up to a limit.
            return io.BufferedReader(system.open(inner, "rb"), _BUFFER)
        return Path(path).open("rb")
    except OSError as error:
        raise BatchError(f"{path}: {_why(error)}") from None


def deliver(staged: Path, target: str) -> None:
    """Put a finished file in its place: renamed where possible, so that nobody ever sees half of it.

    Raises:
        BatchError: if it cannot be written.
    """
    try:
        if target == STANDARD:
            with staged.open("rb") as stream:
                shutil.copyfileobj(stream, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        elif is_remote(target):
            system, inner = _remote(target)
            system.put_file(str(staged), inner)
        else:
            staged.replace(target)
    except OSError as error:
        raise BatchError(f"{target}: {_why(error)}") from None


def exists(path: str) -> bool:
    """Whether there is a file; standard streams never count as one."""
    if path == STANDARD:
        return False
    if is_remote(path):
        system, inner = _remote(path)
        return bool(system.exists(inner))
    return Path(path).exists()


def _expand(pattern: str) -> list[str]:
    if pattern == STANDARD or not glob.has_magic(pattern):
        return [pattern]
    if is_remote(pattern):
        system, inner = _remote(pattern)
        found = [str(system.unstrip_protocol(name)) for name in system.glob(inner)]
    else:
        found = [name for name in glob.glob(pattern, recursive=True) if Path(name).is_file()]  # noqa: PTH207 - absolute patterns
    if not found:
        raise UsageError(f"{pattern}: no such files")
    return sorted(found)


def _source(path: str, format_: Format | None) -> Source:
    told, compression = of_name(path)
    chosen = format_ or told or (Format.JSONL if path == STANDARD else None)
    if chosen is None:
        raise UsageError(f"{path}: the name tells no format; name one with --in-format")
    if path == STANDARD:
        return Source(path, chosen, compression)
    if is_remote(path):
        return _remote_source(path, chosen, compression)
    try:
        size = Path(path).stat().st_size
        return Source(path, chosen, compression, size, _stamp(Path(path), size))
    except OSError as error:
        raise BatchError(f"{path}: {_why(error)}") from None


def _remote_source(path: str, format_: Format, compression: Compression) -> Source:
    system, inner = _remote(path)
    try:
        facts = system.info(inner)
    except OSError as error:
        raise BatchError(f"{path}: {_why(error)}") from None
    stamp = "|".join(str(facts[key]) for key in ("ETag", "etag", "sha", "mtime", "LastModified") if facts.get(key))
    return Source(path, format_, compression, facts.get("size"), stamp)


def _stamp(path: Path, size: int) -> str:
    """Hash of a file's two ends: cheap, and another file of the same length hardly has the same."""
    digest = hashlib.blake2b(str(size).encode(), digest_size=16)
    with path.open("rb") as stream:
        digest.update(stream.read(_SAMPLE))
        stream.seek(max(0, size - _SAMPLE))
        digest.update(stream.read(_SAMPLE))
    return digest.hexdigest()


def _remote(path: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise BatchError(f"{path} needs fsspec: pip install 'wardgate[batch]'") from None
    try:
        system, inner = url_to_fs(path)
    except (ImportError, ValueError) as error:
        raise BatchError(f"{path}: {error}") from None
    return system, str(inner)


def _why(error: OSError) -> str:
    return error.strerror or type(error).__name__
