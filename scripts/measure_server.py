"""Load figures of the server beside the library's own `check_many`, in one run on one machine.

    python scripts/measure_server.py [--texts ROWS.jsonl] [--only throughput,latency,overload,mixed]

Needs `wrk`. Starts `wardgate serve` on a free port of loopback, prints one JSON object a figure and, at the end, a
table. The texts are rows with a `text` (JSON lines, also gzipped, as `wardgate data build` writes them), of which the
short ones are left out; without `--texts` they are made up. Processor time of the library, of the server and of wrk
is counted apart, for wrk shares the cores with the server and the library has them for itself.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import itertools
import json
import os
import pathlib
import random
import resource
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
from mixed_load import Mixed, arrivals, ask, connect, rss_mb

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = pathlib.Path(__file__).parent
CONNECTIONS = 64
"""Of the throughput figure."""
PROBES = 12
"""Callers beside the overload that time each answer."""
WORDS = [
    "the", "a", "my", "your", "this", "that", "people", "game", "music", "friend", "morning", "answer",
    "question", "please", "thanks", "really", "nice", "awful", "walk", "river", "kitchen", "bread", "python",
    "process", "kill", "time", "run", "stop", "help", "why", "how", "when", "where", "never", "always", "maybe",
    "today", "team",
]  # fmt: skip


def made_up(count: int) -> list[str]:
    """Texts of lengths as in chats: log-normal, median 50 words, at most 400."""
    pick = random.Random(7)  # noqa: S311 - no secret
    sizes = [max(30, min(400, round(pick.lognormvariate(3.9, 0.6)))) for _ in range(count)]
    return [" ".join(pick.choices(WORDS, k=size)) for size in sizes]


def read(path: pathlib.Path, count: int, least_words: int) -> list[str]:
    """Different texts of a file of rows, in a random order that is always the same."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line)["text"] for line in lines]
    rows = [row for row in dict.fromkeys(rows) if len(row.split()) >= least_words]
    random.Random(7).shuffle(rows)  # noqa: S311 - no secret
    return rows[:count]


class Library:
    """`Engine.check_many` in this process."""

    def __init__(self, said: list[str]) -> None:
        from wardgate import Engine

        self._engine = Engine.default()
        self._said = said
        self._engine.check_many(said[:64])

    def once(self) -> dict[str, float]:
        """One call with all texts: texts a second and processor milliseconds a text."""
        began, spent = time.perf_counter(), time.process_time()
        self._engine.check_many(self._said)
        seconds = time.perf_counter() - began
        cpu = time.process_time() - spent
        return {"rate": len(self._said) / seconds, "cpu_ms": 1000 * cpu / len(self._said), "seconds": seconds}


@dataclass(frozen=True)
class Server:
    """A server of our own."""

    url: str
    pid: int

    def cpu_s(self) -> float:
        """Processor seconds so far."""
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def started(options: list[str]) -> Iterator[Server]:
    """`wardgate serve`, ready, on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from wardgate.cli import main; main()", "serve", "--port", str(port)]
    command += ["--no-access-log", "--log-level", "warning", "--policy", "default", "--policy", "chat-community"]
    with subprocess.Popen([*command, *options]) as process:  # noqa: S603 - this program's own server
        try:
            url = f"http://127.0.0.1:{port}"
            with httpx.Client(transport=httpx.HTTPTransport(retries=30)) as client:
                client.get(f"{url}/readyz", timeout=60)
            yield Server(url, process.pid)
        finally:
            process.terminate()
            process.wait(30)


def wrk(server: Server, file: str, connections: int, seconds: float, pause_ms: float = 0.0) -> dict[str, Any]:
    """One run of wrk; adds the rate of what was answered, and processor milliseconds for each answer."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s", "--latency", "-s"]
    command += [str(HERE / "load_check.lua"), server.url, "--", file, str(pause_ms), str(connections)]
    mine, theirs = resource.getrusage(resource.RUSAGE_CHILDREN), server.cpu_s()
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 - a fixed command
    theirs = server.cpu_s() - theirs
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    line = next(line for line in said.splitlines() if line.startswith("RESULT "))
    found: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
    if not found["ok"]:
        sys.exit(f"nothing was answered in time: the machine is too busy to measure on ({found})")
    wrk_s = after.ru_utime + after.ru_stime - mine.ru_utime - mine.ru_stime
    return found | {
        "rate": round(found["ok"] / found["seconds"], 1),
        "cpu_ms": round(1000 * theirs / found["ok"], 2),
        "wrk_cpu_ms": round(1000 * wrk_s / found["ok"], 3),
    }


def throughput(server: Server, said: list[str], file: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Library and server by turns; the middle of the rounds' ratios, and the lowest and highest."""
    library = Library(said)
    wrk(server, file, CONNECTIONS, max(3.0, seconds / 2))
    served, alone = [], []
    for _ in range(rounds):
        alone.append(library.once())
        served.append(wrk(server, file, CONNECTIONS, seconds))
        print(json.dumps({"library": alone[-1], "served": served[-1]}), flush=True)
    ratios = sorted(mine["rate"] / theirs["rate"] for mine, theirs in zip(served, alone, strict=True))
    middle = {name: statistics.median(one[name] for one in served) for name in ("rate", "cpu_ms", "wrk_cpu_ms")}
    return {
        "library_texts_a_second": statistics.median(one["rate"] for one in alone),
        "served_texts_a_second": middle["rate"],
        "ratio": statistics.median(ratios),
        "ratio_lowest_highest": [ratios[0], ratios[-1]],
        "library_cpu_ms_a_text": statistics.median(one["cpu_ms"] for one in alone),
        "server_cpu_ms_a_text": middle["cpu_ms"],
        "wrk_cpu_ms_a_text": middle["wrk_cpu_ms"],
        "not_answered_200": sum(one["refused"] + one["late"] + one["other"] + one["errors"] for one in served),
    }


def latency(server: Server, said: list[str], rate: float, seconds: float) -> dict[str, Any]:
    """At 70 % of what the server can do: requests at even distances (as `oha -q` sends them), and at random ones.

    Each comes when it is due, whether or not those before were answered, and its latency counts from then. Texts of
    all lengths, and the middle half by length: a long text takes long by itself, which is measured too, one text
    after another.
    """
    pick = random.Random(3)  # noqa: S311 - no secret
    by_length = sorted(said, key=lambda text: len(text.encode()))
    middle = by_length[len(said) // 4 : 3 * len(said) // 4]
    pick.shuffle(middle)
    # The middle half costs less a text: the load is kept by bytes, which tokens follow.
    cheaper = sum(map(len, said)) / len(said) * len(middle) / sum(map(len, middle))
    found = {}
    for name, texts, wanted in (("all lengths", said, 0.7 * rate), ("middle half", middle, 0.7 * rate * cheaper)):
        found[f"{name}, one after another"] = _spread(asyncio.run(_in_turn(server, texts)))
        for how, gaps in (
            ("even", itertools.repeat(1 / wanted)),
            ("random", (pick.expovariate(wanted) for _ in itertools.count())),
        ):
            found[f"{name}, {how}"] = _spread(asyncio.run(arrivals(server.url, texts, gaps, seconds)))
    return found


def _spread(seen: list[tuple[int, float]]) -> dict[str, Any]:
    good = [s for status, s in seen if status == 200]
    p50, p99 = _quantile_ms(good, 0.5), _quantile_ms(good, 0.99)
    row = {"asked": len(seen), "not_200": len(seen) - len(good), "p50_ms": p50, "p99_ms": p99}
    return row | {"p99_over_p50": round(p99 / p50, 2) if p50 and p99 else None}


async def _in_turn(server: Server, texts: list[str]) -> list[tuple[int, float]]:
    """What each text takes by itself: (status, seconds)."""
    connection = await connect(server.url)
    seen = []
    for text in texts:
        began = time.perf_counter()
        status, _, _ = await ask(*connection, "POST", "/v1/check", {"input": text})
        seen.append((status, time.perf_counter() - began))
    connection[1].close()
    return seen


async def _probe(server: Server, said: list[str], ends: float, seen: list[tuple[int, float]]) -> None:
    """Ask again and again on a connection of its own; keeps (status, seconds)."""
    reader, writer = await connect(server.url)
    while time.perf_counter() < ends:
        began = time.perf_counter()
        body = {"input": said[len(seen) % len(said)]}
        status, _, _ = await ask(reader, writer, "POST", "/v1/check", body)
        seen.append((status, time.perf_counter() - began))
        await asyncio.sleep(0.05)
    writer.close()


async def _overload(
    server: Server, said: list[str], file: str, rate: float, seconds: float
) -> tuple[dict[str, Any], list[tuple[int, float]]]:
    seen: list[tuple[int, float]] = []
    # An accepted request keeps its caller for about three seconds (--queue-delay-s): the others make up for it.
    callers = round(min(2000, max(400, 12 * rate)))
    pause_ms = 1000 * max(0.1, (callers - 3 * rate) / (5 * rate))
    run = asyncio.to_thread(wrk, server, file, callers, seconds, pause_ms)
    ends = time.perf_counter() + seconds
    found, *_ = await asyncio.gather(run, *(_probe(server, said, ends, seen) for _ in range(PROBES)))
    return found, seen


def _quantile_ms(values: list[float], q: float) -> float | None:
    return round(1000 * sorted(values)[min(len(values) - 1, int(q * len(values)))], 1) if values else None


def overload(server: Server, said: list[str], file: str, rate: float, seconds: float) -> dict[str, Any]:
    """Five times what the server can do, twice: memory that grew the second time would grow for ever."""
    before = rss_mb(server.pid)
    found, seen = asyncio.run(_overload(server, said, file, rate, seconds))
    between = rss_mb(server.pid)
    again, more = asyncio.run(_overload(server, said, file, rate, seconds))
    seen += more
    refused = [s for status, s in seen if status == 429]
    accepted = [s for status, s in seen if status == 200]
    total = {name: found[name] + again[name] for name in ("ok", "refused", "late", "other", "errors", "seconds")}
    offered = sum(total[name] for name in ("ok", "refused", "late", "other"))
    return total | {
        "offered_over_capacity": round(offered / total["seconds"] / rate, 2),
        "served_over_capacity": round(total["ok"] / total["seconds"] / rate, 2),
        "probe_refused": len(refused),
        "probe_refused_p50_ms": _quantile_ms(refused, 0.5),
        "probe_refused_p99_ms": _quantile_ms(refused, 0.99),
        "probe_accepted": len(accepted),
        "probe_accepted_p50_ms": _quantile_ms(accepted, 0.5),
        "probe_accepted_max_ms": _quantile_ms(accepted, 1.0),
        "probe_other": len(seen) - len(refused) - len(accepted),
        "memory_mb": [round(before), round(between), round(rss_mb(server.pid))],
    }


def table(figures: dict[str, dict[str, Any]]) -> str:
    """What was asked and what was measured, as Markdown."""
    rows = ["| target | measured |", "|---|---|"]
    if t := figures.get("throughput"):
        low, high = t["ratio_lowest_highest"]
        rows.append(f"| served / library, 64 connections, at least .85 | {t['ratio']:.3f} ({low:.3f} to {high:.3f}) |")
        rows.append(
            f"| processor ms a text: library, server, wrk | {t['library_cpu_ms_a_text']:.1f}, "
            f"{t['server_cpu_ms_a_text']:.1f}, {t['wrk_cpu_ms_a_text']:.2f} |"
        )
    if t := figures.get("latency"):
        rows += [
            f"| p99 / p50 at 70 % load, at most 4: {name} | {one['p99_ms']} / {one['p50_ms']} = {one['p99_over_p50']} |"
            for name, one in t.items()
        ]
    if t := figures.get("overload"):
        rows += [
            f"| overload | {t['offered_over_capacity']} times; crashes 0; late {t['late']}, other {t['other']} |",
            f"| 429, p99, under 50 ms | {t['probe_refused_p99_ms']} ms of {t['probe_refused']} |",
            f"| accepted, longest | {t['probe_accepted_max_ms']} ms of {t['probe_accepted']} |",
            f"| resident MiB before, between, after | {t['memory_mb']} |",
        ]
    if t := figures.get("mixed"):
        rows.append(f"| mixed load for {t['seconds']:.0f} s | {t['asked']} asked, {t['lost']} lost |")
    return "\n".join(rows)


def main() -> None:
    """Print the figures."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--texts", type=pathlib.Path, help="JSON lines with a `text`; made up without it")
    asked.add_argument("--least-words", type=int, default=30, help="shorter texts of the file are left out")
    asked.add_argument("--count", type=int, default=1024)
    asked.add_argument("--seconds", type=float, default=20, help="of each figure")
    asked.add_argument("--rounds", type=int, default=3, help="of library and server by turns")
    asked.add_argument("--mixed-seconds", type=float, default=600)
    asked.add_argument("--only", default="throughput,latency,overload,mixed")
    asked.add_argument("--rate", type=float, help="capacity in texts a second, where throughput is not measured")
    asked.add_argument("--options", default="", help="of `wardgate serve`")
    given = asked.parse_args()
    wanted = given.only.split(",")
    said = read(given.texts, given.count, given.least_words) if given.texts else made_up(given.count)
    words = [len(text.split()) for text in said]
    print(json.dumps({"texts": len(said), "median_words": statistics.median(words)}), flush=True)
    figures: dict[str, dict[str, Any]] = {}

    def keep(name: str, found: dict[str, Any]) -> None:
        figures[name] = found
        print(json.dumps({name: found}), flush=True)

    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file, started(shlex.split(given.options)) as server:
        file.writelines(json.dumps(text) + "\n" for text in said)
        file.flush()
        if "throughput" in wanted:
            keep("throughput", throughput(server, said, file.name, given.rounds, given.seconds))
        rate = given.rate or figures.get("throughput", {}).get("served_texts_a_second")
        rate = rate or wrk(server, file.name, CONNECTIONS, 10)["rate"]
        if "latency" in wanted:
            keep("latency", latency(server, said, rate, given.seconds))
        if "overload" in wanted:
            keep("overload", overload(server, said, file.name, rate, given.seconds))
        if "mixed" in wanted:
            keep("mixed", Mixed(server.url, server.pid, said, 0.5 * rate).run(given.mixed_seconds))
    print(table(figures))


if __name__ == "__main__":
    main()
