"""Train the guide: draws dialogues, learns the answers only, saves a Hugging Face checkpoint and the loss curve.

    python tests/guide/making/train.py FOLDER --steps N [--first FOLDER --gentle 0.6] [--threads 2]

FOLDER holds the blind classifiers (ranker.py) and tokenizer.model.v3 (tokenizer.py). The learning rate falls as a
cosine over the steps. Interrupted runs go on from FOLDER/training.pt; what was done is written to training.json.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sentencepiece
import torch
from corpus import Turn, Writer
from model import Mistral, Sizes
from ranker import blind
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from multiprocessing.queues import Queue

SEED = 1871
LONGEST = 384  # tokens of a dialogue
TOKENS = 3072  # of a batch, padding included
POOL = 1024  # dialogues that are sorted by their length, so that little is padded
CUT = 0.8  # share of dialogues whose last answer is learnt only in its beginning, where it is decided which it is
WARM_UP = 20  # steps
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
    """(rows, length) ids, a dialogue in each row, and whether they are to be learnt."""

    ids: Tensor
    learnt: Tensor
    tokens: int  # without the padding


Dialogue = tuple[list[int], list[bool]]


def batches(folder: Path, seed: int) -> Iterator[tuple[Dialogue, ...]]:
    """Dialogues of like lengths, `TOKENS` together, without end."""
    chance = random.Random(seed)
    reader, writer = Reader(folder, seed), Writer(seed, blind=blind(folder))
    stream = (reader.dialogue(turns, unsure=True, cut=chance.random() < CUT) for turns in writer.dialogues())
    fitting = (dialogue for dialogue in stream if len(dialogue[0]) <= LONGEST)
    while True:
        pool = sorted(islice(fitting, POOL), key=lambda dialogue: len(dialogue[0]))
        found: list[list[Dialogue]] = [[]]
        for dialogue in pool:
            if (len(found[-1]) + 1) * len(dialogue[0]) > TOKENS:
                found.append([])
            found[-1].append(dialogue)
        chance.shuffle(found)
        yield from map(tuple, found)


def ahead(folder: Path, seed: int) -> Iterator[Batch]:
    """The same batches, made by another process while this one multiplies matrices."""
    waiting: Queue[tuple[Dialogue, ...]] = get_context("spawn").Queue(maxsize=64)
    get_context("spawn").Process(target=_make, args=(folder, seed, waiting), daemon=True).start()
    while True:
        yield padded(waiting.get())


def _make(folder: Path, seed: int, waiting: Queue[tuple[Dialogue, ...]]) -> None:
    for batch in batches(folder, seed):
        waiting.put(batch)


def padded(dialogues: Sequence[Dialogue]) -> Batch:
    """Dialogues as rows; what comes after the end of one is seen by nothing before it and never learnt."""
    length = max(len(ids) for ids, _ in dialogues)
    ids = torch.tensor([ids + [0] * (length - len(ids)) for ids, _ in dialogues])
    learnt = torch.tensor([flags + [False] * (length - len(flags)) for _, flags in dialogues])
    return Batch(ids, learnt, sum(len(ids) for ids, _ in dialogues))


def loss_of(model: Mistral, batch: Batch, drop: float = 0.0) -> Tensor:
    """Mean negative log-likelihood of the tokens to be learnt."""
    hidden = model.hidden(batch.ids, drop)[:, :-1]
    wanted = batch.learnt[:, 1:]
    return functional.cross_entropy(model.lm_head(hidden[wanted]), batch.ids[:, 1:][wanted])


class Muon(torch.optim.Optimizer):
    """Momentum whose direction is made orthogonal, for matrices (Jordan 2024, https://kellerjordan.github.io/posts/muon)."""

    def __init__(self, weights: Sequence[nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.02) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """One step; matrices of one shape are turned together."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for weight in group["params"]:
                alike[weight.shape].append(weight)
            for (rows, columns), weights in alike.items():
                ahead = torch.stack([self._direction(weight, group["momentum"]) for weight in weights])
                for weight, turned in zip(weights, orthogonal(ahead), strict=True):
                    weight.mul_(1 - group["lr"] * group["decay"])
                    weight.add_(turned, alpha=-group["lr"] * max(1, rows / columns) ** 0.5)

    def _direction(self, weight: nn.Parameter, momentum: float) -> Tensor:
        kept = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
        kept.lerp_(weight.grad, 1 - momentum)
        return weight.grad.lerp(kept, momentum)


def orthogonal(matrices: Tensor) -> Tensor:
    """(count, rows, columns) -> the nearest orthogonal matrices, by five Newton-Schulz steps."""
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    turned = x.shape[1] > x.shape[2]
    x = x.mT if turned else x
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.mT if turned else x


@dataclass
class Progress:
    """How far a run is; `curve` has (step, training loss, held-back loss)."""

    step: int = 0
    seconds: float = 0.0
    tokens: int = 0
    curve: list[tuple[int, float, float | None]] = field(default_factory=list)


def run(folder: Path, steps: int, first: Path | None, gentle: float) -> None:
    """Train until the steps are done, from where an earlier run stopped, or from the weights of a `first` one."""
    torch.manual_seed(SEED)
    model = Mistral(Sizes(vocabulary=Reader(folder, SEED).pieces.get_piece_size()))
    if first:
        _take(model, first)
    matrices = [weight for name, weight in model.blocks.named_parameters() if weight.ndim == 2]
    known = {id(weight) for weight in matrices}
    rest = [weight for weight in model.parameters() if id(weight) not in known]
    optimizers = (Muon(matrices, MATRIX_RATE), torch.optim.AdamW(rest, REST_RATE, betas=(0.9, 0.95), weight_decay=0.01))
    progress = _resumed(folder, model, optimizers)
    held_back = [padded(batch) for batch in islice(batches(folder, SEED + 1), 8)]
    stream = ahead(folder, SEED + 2 + progress.step)
    _count(model)
    window: deque[float] = deque(maxlen=50)
    while progress.step < steps:
        began = time.monotonic()
        rate = min(1.0, (progress.step + 1) / WARM_UP) * (
            0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress.step / steps))
        )
        _set_rates(optimizers, gentle * rate)
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
        progress.tokens += batch.tokens
        progress.seconds += time.monotonic() - began
        if progress.step % 50 == 0:
            _report(folder, model, optimizers, progress, sum(window) / len(window), held_back)
    _save(folder, model, progress, first, gentle)


def _take(model: Mistral, folder: Path) -> None:
    """The weights of a run that was saved; it had the same vocabulary."""
    saved = load_file(folder / "model.safetensors")
    for name, weight in model.checkpoint().items():
        weight.copy_(saved[name])


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


def _save(folder: Path, model: Mistral, progress: Progress, first: Path | None, gentle: float) -> None:
    """The checkpoint as `convert` takes it, and what made it."""
    save_file(model.checkpoint(), folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(model.sizes.config(), indent=1) + "\n")
    tokenizer = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "chat_template": CHAT_TEMPLATE}
    tokenizer |= {"add_bos_token": True, "add_eos_token": False, "tokenizer_class": "LlamaTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer, indent=1) + "\n")
    digest = sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    made = {"seed": SEED, "sizes": model.sizes.plain(), "longest": LONGEST, "batch": TOKENS, "matrix_rate": MATRIX_RATE}
    made |= {"rest_rate": REST_RATE, "drop": DROP, "unsure_pieces": UNSURE_PIECES, "torch": torch.__version__}
    made |= {"first": first and sha256((first / "model.safetensors").read_bytes()).hexdigest(), "gentle": gentle}
    made |= {"threads": torch.get_num_threads(), "sha256": digest, **vars(progress)}
    (folder / "training.json").write_text(json.dumps(made, indent=1) + "\n")


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--first", type=Path, help="folder of a run whose weights this one goes on with")
    parser.add_argument("--gentle", type=float, default=1.0, help="share of the learning rates to use")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    run(given.folder, given.steps, given.first, given.gentle)


if __name__ == "__main__":
    main()
