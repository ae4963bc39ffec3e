"""Train the guide: draws dialogues, learns the answers only, saves a Hugging Face checkpoint and the loss curve.

    python tests/guide/making/train.py FOLDER [--minutes 60 | --steps N] [--threads 1]

FOLDER holds tokenizer.model.v3 (tokenizer.py makes it). Interrupted runs go on from FOLDER/training.pt.
The learning rate falls as a cosine over the steps; where the machine's speed is not known beforehand, `--minutes` ends
it by the clock instead, and what was done is written to training.json.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from bisect import bisect_right, insort
from collections import deque
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import TYPE_CHECKING, Any

import sentencepiece
import torch
from corpus import Turn, Writer
from model import Mistral, Sizes
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SEED = 1871
ROW = 384  # tokens
ROWS = 6
POOL = 48  # dialogues to choose from when a row is filled
CUT = 0.8  # share of dialogues whose last answer is learnt only in its beginning, where it is decided which it is
WARM_UP = 0.02  # share of the run
MATRIX_RATE = 0.02
REST_RATE = 0.003
DROP = 0.05
UNSURE_PIECES = 0.1  # share of prompts whose words are split at random (BPE dropout)
BOS, EOS, INST, END_INST = 1, 2, 3, 4
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + '[/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
)


class Reader:
    """Turns dialogues into ids, as the v3 format writes them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model.v3"))
        self.random = random.Random(seed)

    def prompt(self, text: str, *, unsure: bool = False) -> list[int]:
        """`[INST] text[/INST]`."""
        if unsure and self.random.random() < UNSURE_PIECES:
            return [INST, *self.pieces.encode(text, enable_sampling=True, alpha=0.1, nbest_size=-1), END_INST]
        return [INST, *self.pieces.encode(text), END_INST]

    def dialogue(
        self, turns: Sequence[Turn], *, unsure: bool = False, cut: bool = False
    ) -> tuple[list[int], list[bool]]:
        """All ids of a dialogue, and which of them are to be learnt."""
        ids, learnt = [BOS], [False]
        for turn in turns:
            prompt = self.prompt(turn.prompt, unsure=unsure)
            answer = [*self.pieces.encode(turn.answer), EOS]
            if cut and turn is turns[-1]:
                answer = answer[: self.random.randint(5, 11)]
            ids += prompt + answer
            learnt += [False] * len(prompt) + [True] * len(answer)
        return ids, learnt


@dataclass
class Batch:
    """(rows, length) ids, the dialogue each belongs to, and whether it is to be learnt."""

    ids: Tensor
    dialogues: Tensor
    learnt: Tensor


@dataclass
class _Row:
    ids: list[int] = field(default_factory=list)
    dialogues: list[int] = field(default_factory=list)
    learnt: list[bool] = field(default_factory=list)


def batches(writer: Writer, reader: Reader) -> Iterator[Batch]:
    """Rows filled with whole dialogues, without end."""
    cut = random.Random(SEED)
    stream = (reader.dialogue(turns, unsure=True, cut=cut.random() < CUT) for turns in writer.dialogues())
    fitting = (dialogue for dialogue in stream if len(dialogue[0]) <= ROW)
    pool = sorted(islice(fitting, POOL), key=_length)
    while True:
        rows = []
        for _ in range(ROWS):
            row = _Row()
            while (found := _longest(pool, ROW - len(row.ids), oldest=not row.ids)) is not None:
                ids, learnt = pool.pop(found)
                row.dialogues += [row.dialogues[-1] + 1 if row.dialogues else 0] * len(ids)
                row.ids += ids
                row.learnt += learnt
                insort(pool, next(fitting), key=_length)
            rows.append(row)
        yield _padded(rows)


def _length(dialogue: tuple[list[int], list[bool]]) -> int:
    return len(dialogue[0])


def _longest(pool: list[tuple[list[int], list[bool]]], room: int, *, oldest: bool) -> int | None:
    """Which dialogue to put into a row next: the longest first, then what fits best."""
    at = len(pool) if oldest else bisect_right(pool, room, key=_length)
    return at - 1 if at else None


def ahead(stream: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches, made by another thread while the processor multiplies matrices."""
    waiting: Queue[Batch] = Queue(maxsize=4)

    def make() -> None:
        for batch in stream:
            waiting.put(batch)

    Thread(target=make, daemon=True).start()
    while True:
        yield waiting.get()


def _padded(rows: list[_Row]) -> Batch:
    def fill(values: list[Any], value: Any) -> list[Any]:
        return values + [value] * (ROW - len(values))

    return Batch(
        torch.tensor([fill(row.ids, 0) for row in rows]),
        torch.tensor([fill(row.dialogues, -1) for row in rows]),
        torch.tensor([fill(row.learnt, False) for row in rows]),
    )


def loss_of(model: Mistral, batch: Batch, drop: float = 0.0) -> Tensor:
    """Mean negative log-likelihood of the tokens to be learnt."""
    hidden = model.hidden(batch.ids, batch.dialogues, drop)[:, :-1]
    wanted = batch.learnt[:, 1:]
    return functional.cross_entropy(model.lm_head(hidden[wanted]), batch.ids[:, 1:][wanted])


class Muon(torch.optim.Optimizer):
    """Momentum whose direction is made orthogonal, for matrices (Jordan 2024, https://kellerjordan.github.io/posts/muon)."""

    def __init__(self, weights: Sequence[nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.02) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """One step."""
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                kept = state.setdefault("momentum", torch.zeros_like(weight))
                kept.lerp_(weight.grad, 1 - group["momentum"])
                ahead = weight.grad.lerp(kept, group["momentum"])
                rows, columns = weight.shape
                weight.mul_(1 - group["lr"] * group["decay"])
                weight.add_(orthogonal(ahead), alpha=-group["lr"] * max(1, rows / columns) ** 0.5)


def orthogonal(matrix: Tensor) -> Tensor:
    """The nearest orthogonal matrix, by five Newton-Schulz steps."""
    x = matrix / (matrix.norm() + 1e-7)
    turned = x.shape[0] > x.shape[1]
    x = x.T if turned else x
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if turned else x


@dataclass
class Progress:
    """How far a run is; `curve` has (step, training loss, held-back loss)."""

    step: int = 0
    seconds: float = 0.0
    tokens: int = 0
    curve: list[tuple[int, float, float | None]] = field(default_factory=list)


def run(folder: Path, minutes: float, steps: int | None) -> None:
    """Train until the steps are done or the time is up, from where an earlier run stopped."""
    torch.manual_seed(SEED)
    reader = Reader(folder, SEED)
    model = Mistral(Sizes(vocabulary=reader.pieces.get_piece_size()))
    matrices = [weight for name, weight in model.blocks.named_parameters() if weight.ndim == 2]
    known = {id(weight) for weight in matrices}
    rest = [weight for weight in model.parameters() if id(weight) not in known]
    optimizers = (Muon(matrices, MATRIX_RATE), torch.optim.AdamW(rest, REST_RATE, betas=(0.9, 0.95), weight_decay=0.01))
    progress = _resumed(folder, model, optimizers)
    held_back = list(islice(batches(Writer(SEED + 1), Reader(folder, SEED)), 6))
    stream = ahead(batches(Writer(SEED + 2 + progress.step), reader))
    _count(model)
    window: deque[float] = deque(maxlen=50)
    while (done := progress.step / steps if steps else progress.seconds / (60 * minutes)) < 1:
        began = time.monotonic()
        rate = min(1.0, (progress.step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        _set_rates(optimizers, rate)
        batch = next(stream)
        model.train()
        loss = loss_of(model, batch, DROP)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        window.append(loss.item())
        progress.step += 1
        progress.tokens += int((batch.dialogues >= 0).sum())
        progress.seconds += time.monotonic() - began
        if progress.step % 50 == 0:
            _report(folder, model, optimizers, progress, sum(window) / len(window), held_back)
    _save(folder, model, progress)


def _set_rates(optimizers: Sequence[torch.optim.Optimizer], share: float) -> None:
    for optimizer, full in zip(optimizers, (MATRIX_RATE, REST_RATE), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = full * share


def _count(model: Mistral) -> None:
    print(f"{sum(weight.numel() for weight in model.parameters()):,} parameters", flush=True)


def _report(
    folder: Path,
    model: Mistral,
    optimizers: Sequence[torch.optim.Optimizer],
    progress: Progress,
    recent: float,
    held_back: list[Batch],
) -> None:
    held = None
    if progress.step % 200 == 0:
        model.eval()
        with torch.no_grad():
            held = sum(loss_of(model, batch).item() for batch in held_back) / len(held_back)
        state = {"model": model.state_dict(), "optimizers": [each.state_dict() for each in optimizers]}
        torch.save({**state, "progress": vars(progress)}, folder / "training.part")
        (folder / "training.part").rename(folder / "training.pt")
    progress.curve.append((progress.step, recent, held))
    speed = progress.tokens / progress.seconds
    print(f"{progress.step} {progress.seconds:.0f}s {recent:.4f} {held} {speed:.0f} tokens/s", flush=True)


def _resumed(folder: Path, model: Mistral, optimizers: Sequence[torch.optim.Optimizer]) -> Progress:
    path = folder / "training.pt"
    if not path.exists():
        return Progress()
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return Progress(**state["progress"])


def _save(folder: Path, model: Mistral, progress: Progress) -> None:
    """The checkpoint as `convert` takes it, and what made it."""
    save_file(model.checkpoint(), folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(model.sizes.config(), indent=1) + "\n")
    tokenizer = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "chat_template": CHAT_TEMPLATE}
    tokenizer |= {"add_bos_token": True, "add_eos_token": False, "tokenizer_class": "LlamaTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer, indent=1) + "\n")
    digest = sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    made = {"seed": SEED, "sizes": model.sizes.plain(), "row": ROW, "rows": ROWS, "matrix_rate": MATRIX_RATE}
    made |= {"rest_rate": REST_RATE, "drop": DROP, "unsure_pieces": UNSURE_PIECES, "torch": torch.__version__}
    made |= {"threads": torch.get_num_threads(), "sha256": digest, **vars(progress)}
    (folder / "training.json").write_text(json.dumps(made, indent=1) + "\n")


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    run(given.folder, given.minutes, given.steps)


if __name__ == "__main__":
    main()
