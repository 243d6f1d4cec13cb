"""Callers of all kinds at once, for as long as wanted: every request is counted here and compared with `/metrics`.

Single texts, calls with many, drop-in formats, explanations, idempotent repeats, streams, callers that hang up, wrong
JSON and monitoring. `measure_server.py` runs it. A client of its own, because it must cost little beside the server.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import json
import pathlib
import random
import re
import time
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

WORKERS = 48
PATIENCE_S = 60.0
"""After this long without an answer a request is lost."""
_COUNT = re.compile(r"^(\w+)\{(.*)\} ([0-9.e+]+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def rss_mb(pid: int) -> float:
    """Resident memory of a process in MiB."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(re.search(r"VmRSS:\s*(\d+)", status).group(1)) / 1024  # type: ignore[union-attr]


async def ask(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    method: str,
    path: str,
    body: object = None,
    headers: str = "",
) -> tuple[int, dict[str, str], bytes]:
    """One request on a connection that stays open: status, headers, body."""
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    if "content-type" not in headers and content:
        headers += "content-type: application/json\r\n"
    head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {len(content)}\r\n\r\n"
    writer.write(head.encode() + content)
    await writer.drain()
    return await answer(reader)


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Read one response."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines if line)
    status = int(first.split()[1])
    if "content-length" in headers:
        return status, headers, await reader.readexactly(int(headers["content-length"]))
    pieces = []
    while size := int(await reader.readline(), 16):
        pieces.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readexactly(2)
    return status, headers, b"".join(pieces)


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect(url: str) -> Connection:
    """A connection that stays open."""
    host, port = url.removeprefix("http://").split(":")
    return await asyncio.open_connection(host, int(port))


async def arrivals(url: str, said: list[str], gaps: Iterator[float], seconds: float) -> list[tuple[int, float]]:
    """Requests that come when they come, however many still wait: (status, seconds since each was due)."""
    idle: list[Connection] = []
    seen: list[tuple[int, float]] = []

    async def one(text: str, due: float) -> None:
        connection = idle.pop() if idle else await connect(url)
        status, _, _ = await ask(*connection, "POST", "/v1/check", {"input": text})
        seen.append((status, time.perf_counter() - due))
        idle.append(connection)

    due = time.perf_counter()
    ends = due + seconds
    async with asyncio.TaskGroup() as tasks:
        for text in itertools.cycle(said):
            due += next(gaps)
            if due > ends:
                break
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.create_task(one(text, due))
    for _, writer in idle:
        writer.close()
    return seen


class Mixed:
    """The callers and what they saw."""

    def __init__(self, url: str, pid: int, said: list[str], rate: float) -> None:
        """Prepare.

        Args:
            url: the server, with two policies: what is decided under the second is not compared.
            pid: its process.
            said: texts.
            rate: texts a second that all callers together ask for.
        """
        self._url, self._pid, self._rate = url, pid, rate
        self._texts: Iterator[str] = itertools.cycle(said)
        self._pick = random.Random(11)  # noqa: S311 - no secret
        self.statuses: collections.Counter[tuple[str, int]] = collections.Counter()
        self.asked: collections.Counter[str] = collections.Counter()
        self.decided = 0
        self.lost: list[str] = []
        self.wrong: list[str] = []

    def run(self, seconds: float) -> dict[str, Any]:
        """Ask for so long; returns what was counted here and there."""
        before, memory = self._counts(), rss_mb(self._pid)
        ends = time.perf_counter() + seconds
        asyncio.run(self._run(ends))
        time.sleep(1)  # callers that hung up leave the server a moment later
        there = self._counts() - before
        page = ("/metrics", 200)
        here = collections.Counter({f"{path} {status}": n for (path, status), n in self.statuses.items()})
        requests = {key.removeprefix("requests "): n for key, n in there.items() if key.startswith("requests ")}
        requests.pop(" ".join(map(str, page)), None)  # this script's own page reads are no callers
        hung_up = {key: n for key, n in requests.items() if key.endswith((" 499", " 0"))}
        differ = {
            key: [here[key], requests.get(key, 0)]
            for key in here.keys() | requests.keys()
            if key not in hung_up and here[key] != requests.get(key, 0)
        }
        return {
            "seconds": seconds,
            "asked": sum(self.asked.values()),
            "by_kind": dict(self.asked),
            "answered": dict(here),
            "hung_up": {"here": self.asked["hang up"], "there": sum(hung_up.values())},
            "lost": len(self.lost),
            "lost_why": self.lost[:5],
            "wrong_answers": self.wrong[:5],
            "counts_that_differ": differ,
            "decisions_here_there": [self.decided, there["decisions"]],
            "memory_mb": [round(memory), round(rss_mb(self._pid))],
        }

    def _counts(self) -> collections.Counter[str]:
        """Requests by path and status, and decisions of the first policy, as the server counts them."""
        with httpx.Client(base_url=self._url, timeout=PATIENCE_S) as client:
            first = client.get("/v1/policies").json()["default"]
            page = client.get("/metrics").text
        found: collections.Counter[str] = collections.Counter()
        for name, labels, value in _COUNT.findall(page):
            of = dict(_LABEL.findall(labels))
            if name == "wardgate_requests_total" and of["path"] != "other":
                found[f"requests {of['path']} {of['status']}"] += int(float(value))
            if name == "wardgate_decisions_total" and of["policy"] == first:
                found["decisions"] += int(float(value))
        return found

    async def _run(self, ends: float) -> None:
        # Of each kind: how often it comes, how many texts it costs, how it asks.
        kinds: dict[str, tuple[int, int, Callable[[Connection], Awaitable[None]]]] = {
            "one text": (50, 1, self._one),
            "many texts": (4, 12, self._many),
            "openai": (12, 1, self._openai),
            "tei": (8, 2, self._tei),
            "explain": (6, 1, self._explain),
            "repeat": (4, 1, self._repeat),
            "stream": (4, 4, self._stream),
            "hang up": (4, 1, self._hang_up),
            "wrong": (6, 0, self._wrong),
            "watch": (2, 0, self._watch),
        }
        texts = sum(weight * count for weight, count, _ in kinds.values()) / sum(w for w, _, _ in kinds.values())
        pause = WORKERS * texts / self._rate
        await asyncio.gather(*(self._work(kinds, pause, ends) for _ in range(WORKERS)))

    async def _work(
        self,
        kinds: dict[str, tuple[int, int, Callable[[Connection], Awaitable[None]]]],
        pause: float,
        ends: float,
    ) -> None:
        names, weights = list(kinds), [weight for weight, _, _ in kinds.values()]
        connection: Connection | None = None
        await asyncio.sleep(self._pick.random() * pause)
        while (began := time.perf_counter()) < ends:
            (kind,) = self._pick.choices(names, weights)
            self.asked[kind] += 1
            try:
                connection = connection or await connect(self._url)
                await asyncio.wait_for(kinds[kind][2](connection), PATIENCE_S)
            except (OSError, EOFError, TimeoutError, ValueError) as error:
                self.lost.append(f"{kind}: {type(error).__name__}")
                connection = None
            if kind == "hang up":
                connection = None
            await asyncio.sleep(max(0.0, self._pick.expovariate(1 / pause) - (time.perf_counter() - began)))
        if connection is not None:
            connection[1].close()

    async def _ask(self, connection: Connection, path: str, body: object, headers: str = "") -> Any:
        """The parsed answer, counted; None unless it is 200."""
        status, _, content = await ask(*connection, "POST", path, body, headers)
        self.statuses[path, status] += 1
        return json.loads(content) if status == 200 else None

    def _expect(self, kind: str, good: object, texts: int = 0) -> None:
        self.decided += texts
        if not good:
            self.wrong.append(kind)

    async def _one(self, connection: Connection) -> None:
        text = next(self._texts)
        if found := await self._ask(connection, "/v1/check", {"input": {"text": text, "id": text[:40]}}):
            self._expect("one text", found["results"][0]["id"] == text[:40], 1)

    async def _many(self, connection: Connection) -> None:
        texts = [next(self._texts) for _ in range(12)]
        rows = [{"text": text, "id": text[:40]} for text in texts]
        if found := await self._ask(connection, "/v1/check", {"input": rows}):
            same = [row["id"] for row in found["results"]] == [row["id"] for row in rows]
            self._expect("many texts", same, len(rows))

    async def _openai(self, connection: Connection) -> None:
        if found := await self._ask(connection, "/v1/moderations", {"input": next(self._texts)}):
            self._expect("openai", len(found["results"]) == 1, 1)

    async def _tei(self, connection: Connection) -> None:
        texts = [[next(self._texts)] for _ in range(2)]
        if found := await self._ask(connection, "/predict", {"inputs": texts}):
            self._expect("tei", len(found) == 2, 2)

    async def _explain(self, connection: Connection) -> None:
        if found := await self._ask(connection, "/v1/check", {"input": next(self._texts), "explain": True}):
            self._expect("explain", found["results"][0]["explanation"], 1)

    async def _repeat(self, connection: Connection) -> None:
        """The same call twice under one key: decided once, answered twice alike."""
        self.asked["repeat"] += 1
        key, body = f"idempotency-key: {self._pick.getrandbits(64):x}\r\n", {"input": next(self._texts)}
        first = await self._ask(connection, "/v1/check", body, key)
        second = await self._ask(connection, "/v1/check", body, key)
        if first or second:
            self._expect("repeat", first is None or second is None or first == second, 1)

    async def _stream(self, connection: Connection) -> None:
        text = next(self._texts)[:200]
        rows = [{"type": "start", "policy": "chat-community"}]
        rows += [{"type": "text", "text": text[i : i + 20]} for i in range(0, len(text), 20)] + [{"type": "end"}]
        body = "".join(json.dumps(row) + "\n" for row in rows).encode()
        headers = "content-type: application/x-ndjson\r\n"
        status, _, content = await ask(*connection, "POST", "/v1/check/stream", body, headers)
        self.statuses["/v1/check/stream", status] += 1
        if status == 200:
            self._expect("stream", b"event: done" in content or b"event: stop" in content or b"overloaded" in content)

    async def _hang_up(self, connection: Connection) -> None:
        body = json.dumps({"input": next(self._texts), "policy": "chat-community"}).encode()
        head = "POST /v1/check HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        connection[1].write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        await connection[1].drain()
        connection[1].close()

    async def _wrong(self, connection: Connection) -> None:
        status, _, _ = await ask(*connection, "POST", "/v1/check", b'{"input": ')
        self.statuses["/v1/check", status] += 1
        self._expect("wrong", status in (400, 429))

    async def _watch(self, connection: Connection) -> None:
        status, _, _ = await ask(*connection, "GET", "/healthz")
        self.statuses["/healthz", status] += 1
        self._expect("watch", status == 200)
