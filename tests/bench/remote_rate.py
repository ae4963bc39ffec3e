"""Measure `--batch` on a server: requests per second, one by one and together, beside a plain asyncio loop, in one run.

Start a server for eight requests at a time, such as `llama-server -m MODEL -np 8 -c 8192 --slots`, then

    python tests/bench/remote_rate.py http://127.0.0.1:8080

The plain loop posts the same requests through httpx2's AsyncClient, as many at a time, without streaming. Every way is
measured several times in turn, and the medians are compared. With llama-server's `/slots` it also measures how long
the slots stay busy after Ctrl+C.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx2


def prompts(count: int) -> list[str]:
    return [f"Tell me what is special about the number {number}." for number in range(count)]


def batch_command(url: str, tokens: int, *flags: str) -> list[str]:
    command = [sys.executable, "-m", "chat", "--remote", url, "--temperature", "0", "-n", str(tokens), "-q"]
    return [*command, *flags]


def batch_seconds(given: argparse.Namespace, parallel: int, count: int, folder: Path) -> float:
    """The wall time of the program with `--batch`, its start included."""
    lines, output = folder / "batch.jsonl", folder / "out.jsonl"
    lines.write_text("".join(json.dumps(each) + "\n" for each in prompts(count)))
    output.unlink(missing_ok=True)
    flags = ("--batch", str(lines), "-o", str(output), "--parallel", str(parallel))
    began = time.perf_counter()
    subprocess.run(batch_command(given.url, given.tokens, *flags), check=True)
    seconds = time.perf_counter() - began
    answers = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(answers) == count and all("text" in each for each in answers)
    return seconds


async def loop_seconds(given: argparse.Namespace, count: int) -> float:
    """The wall time of the plain loop."""
    async with httpx2.AsyncClient(timeout=600) as client:
        model = (await client.get(f"{given.url}/v1/models")).json()["data"][0]["id"]
        free = asyncio.Semaphore(given.parallel)

        async def ask(prompt: str) -> None:
            body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
            async with free:
                answer = await client.post(
                    f"{given.url}/v1/chat/completions", json={**body, "temperature": 0, "max_tokens": given.tokens}
                )
            answer.raise_for_status()
            assert answer.json()["choices"][0]["message"]["content"]

        began = time.perf_counter()
        await asyncio.gather(*map(ask, prompts(count)))
        return time.perf_counter() - began


def busy_slots(url: str) -> int | None:
    """How many of llama-server's slots are at work; None for another server."""
    answer = httpx2.get(f"{url}/slots")
    return sum(each["is_processing"] for each in answer.json()) if answer.status_code == 200 else None


def busy_seconds_after_ctrl_c(given: argparse.Namespace, folder: Path, *, is_batch: bool) -> float:
    """How long a slot stays busy after Ctrl+C in a batch or a single answer."""
    lines = folder / "long.jsonl"
    lines.write_text("".join(json.dumps(each) + "\n" for each in prompts(given.parallel)))
    flags = ["--batch", str(lines), "--parallel", str(given.parallel)] if is_batch else [prompts(1)[0]]
    process = subprocess.Popen(batch_command(given.url, 900, *flags), stdout=subprocess.DEVNULL)
    while busy_slots(given.url) != (given.parallel if is_batch else 1):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    began = time.perf_counter()
    while busy_slots(given.url):
        time.sleep(0.005)
    seconds = time.perf_counter() - began
    assert process.wait() == 130
    return seconds


def main() -> None:
    """Print rates, their ratios, and the time that slots stay busy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="without /v1")
    parser.add_argument("--parallel", type=int, default=8)
    parser.add_argument("--requests", type=int, default=160)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        asyncio.run(loop_seconds(given, 2 * given.parallel))  # the server's first requests are slower
        for _ in range(given.rounds):
            few = max(given.requests // 4, 1)
            ways = {
                "one by one": lambda few=few: few / batch_seconds(given, 1, few, folder),
                "together": lambda: given.requests / batch_seconds(given, given.parallel, given.requests, folder),
                "plain loop": lambda: given.requests / asyncio.run(loop_seconds(given, given.requests)),
            }
            for way, measure in ways.items():
                rates.setdefault(way, []).append(measure())
                print(f"{way:>11}: {rates[way][-1]:7.2f} requests/s", flush=True)
        median = {way: statistics.median(each) for way, each in rates.items()}
        print(f"together / one by one: {median['together'] / median['one by one']:.2f}")
        print(f"together / plain loop: {median['together'] / median['plain loop']:.3f}")
        if busy_slots(given.url) is not None:
            for is_batch, what in ((False, "a single answer"), (True, "a batch")):
                seconds = [busy_seconds_after_ctrl_c(given, folder, is_batch=is_batch) for _ in range(5)]
                print(f"slots busy after Ctrl+C in {what}: {', '.join(f'{each:.3f}' for each in seconds)} s")


if __name__ == "__main__":
    main()
