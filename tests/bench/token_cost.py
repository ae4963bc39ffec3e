"""What a token costs beside a bare C loop on the same file: decoding, sampling, and the way to the parent.

`python tests/bench/token_cost.py MODEL.gguf [TOKENS]`; a tiny model shows our own cost, a real one its share. Wall time
is what counts on an idle machine; processor time, of one thread, is told beside it for a busy one. A large model's
decoding varies by more than our cost: so what the child spends outside llama.cpp's functions is measured by itself, of
two lengths, the difference of which has nothing of what a reply costs once.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

from chat.bench.turns import timed
from chat.core.events import Completion
from chat.core.request import EngineOptions, Prompt, Request, Sampling
from chat.inference.generator import GenerationRun, Generator
from chat.inference.loaded_model import load_model
from chat.inference.response import reply
from chat.llama.context import LlamaContext
from chat.llama.context_settings import ContextSettings
from chat.llama.kv_snapshots import Snapshots
from chat.llama.library import llama
from chat.llama.model import LoadSettings, Model
from chat.llama.sampler import Sampler
from chat.worker.client import LocalBackend
from chat.worker.protocol import pack_event, to_line

Cost = tuple[float, float]  # wall and processor seconds
PROMPT = tuple(range(5, 69))
SAMPLING = Sampling(seed=1)


def bare(decoder: LlamaContext, count: int) -> Cost:
    """Seconds for `count` tokens of nothing but `llama_decode` and `llama_sampler_sample`."""
    api = llama()
    decoder.clear()
    decoder.feed(PROMPT)
    sampler = Sampler(SAMPLING, decoder.model.vocabulary_size)
    tokens = (ctypes.c_int32 * 1)()
    begun = now()
    for at in range(count):
        tokens[0] = api.llama_sampler_sample(sampler._chain, decoder.pointer, -1)
        if decoder.settings.rolling and len(PROMPT) + at >= decoder.cells:
            api.llama_memory_seq_rm(decoder.memory, 0, 0, len(PROMPT) + at + 1 - decoder.cells)
        api.llama_decode(decoder.pointer, api.llama_batch_get_one(tokens, 1))
    cost = since(begun)
    sampler.close()
    return cost


def engine(decoder: LlamaContext, count: int) -> Cost:
    """Seconds for `count` ids of our own loop, in this process."""
    sampler = Sampler(SAMPLING, decoder.model.vocabulary_size)
    decoder.clear()
    decoder.feed(PROMPT)
    begun = now()
    made = sum(1 for _ in Generator(decoder, Snapshots(0)).generate(GenerationRun(sampler, count, lambda _: False)))
    cost = since(begun)
    sampler.close()
    assert made == count
    return cost


def child(path: str, count: int) -> Cost:
    """Seconds for `count` tokens as the parent waits for them."""
    client = LocalBackend(EngineOptions(path, threads=1, draft="off", flash_attention="on"))
    client.info()
    request = Request(Prompt(ids=PROMPT), SAMPLING, max_tokens=count)
    list(client.reply(request))  # pieces are looked up once
    begun = now(client.pid)
    done = list(client.reply(request))[-1]
    wall, cpu = since(begun, client.pid)
    client.close()
    assert isinstance(done, Completion)
    share = count / max(done.tokens.generated, 1)
    return wall * share, cpu * share


def outside(path: str, count: int) -> float:
    """Milliseconds a token that are spent in none of llama.cpp's functions, from logits to the parent's pipe."""
    room = load_model(EngineOptions(path, threads=1, draft="off", flash_attention="on"))
    reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert reader.stdin is not None
    best: dict[int, float] = {}  # by the length of the answer
    for length in (count // 4, count, count // 4, count, count // 4, count):
        with timed() as clock:
            begun = time.perf_counter()
            for event in reply(room, Request(Prompt(ids=PROMPT), SAMPLING, max_tokens=length)):
                reader.stdin.write(to_line({"id": 1, "event": pack_event(event)}))
                reader.stdin.flush()
            seconds = time.perf_counter() - begun - clock.seconds
        assert isinstance(event, Completion) and event.tokens.generated == length
        best[length] = min(seconds, best.get(length, seconds))
    reader.communicate()
    room.close()
    more = best[count] - best[count // 4]
    return more / (count - count // 4) * 1e3


def now(pid: int | None = None) -> Cost:
    """Wall time, and the processor time of this process or of a child."""
    if pid is None:
        return time.perf_counter(), time.process_time()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return time.perf_counter(), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def since(begun: Cost, pid: int | None = None) -> Cost:
    """What has passed of both."""
    wall, cpu = now(pid)
    return wall - begun[0], cpu - begun[1]


def main() -> None:
    """Print the three, the best of three runs each, taken in turns."""
    path, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    model = Model(path, LoadSettings())
    rolling = model.window is not None
    cells = (model.window or 0) + 256 if rolling else count + 128
    decoder = LlamaContext(model, ContextSettings(cells, rolling=rolling, flash_attention="on"))
    runs = [(bare(decoder, count), engine(decoder, count), child(path, count)) for _ in range(3)]
    print(f"{'ms a token, one thread':24} {'wall':>8} {'more':>8} {'processor':>10} {'more':>8}")
    for kind, name in enumerate(("bare C loop", "engine", "through the child")):
        (wall, cpu), (wall0, cpu0) = (
            tuple(min(run[of][clock] for run in runs) / count * 1e3 for clock in (0, 1)) for of in (kind, 0)
        )
        print(f"{name:24} {wall:8.4f} {wall - wall0:+8.4f} {cpu:10.4f} {cpu - cpu0:+8.4f}")
    print(f"{'outside llama.cpp':24} {outside(path, count):8.4f}")


if __name__ == "__main__":
    main()
