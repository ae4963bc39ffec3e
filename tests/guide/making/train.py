"""Train the guide: draws dialogues, learns the answers only, saves a Hugging Face checkpoint and the loss curve.

    python tests/guide/making/train.py FOLDER [--steps N] [--threads 1]

FOLDER holds the classifiers (ranker.py) and tokenizer.model.v3 (tokenizer.py); FOLDER/mistral-chat-guide is written.
The learning rate stays where it is after the warm-up, and falls in a straight line to nothing over the last `COOL_DOWN`
of the steps. An interrupted run goes on from FOLDER/training.pt as if it had not been: the random numbers' state
is stored, and the dialogues that were learnt are drawn again and passed over. So a seed, a number of threads and a kind
of processor make the same weights again; training.json keeps the first losses to be compared.
"""

from __future__ import annotations

import argparse
import json
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
from ranker import blind, whole
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from multiprocessing.queues import Queue

NAME = "mistral-chat-guide"  # of the checkpoint, which the GGUF keeps
SEED = 1871
STEPS = 3400  # from nothing
LONGEST = 384  # tokens of a dialogue
TOKENS = 3072  # of a batch, padding included
POOL = 1024  # dialogues that are sorted by their length, so that little is padded
CUT = 0.8  # share of dialogues whose last answer is learnt only in its beginning, where it is decided which it is
WARM_UP = 20  # steps
COOL_DOWN = 0.6  # share of the steps in which the learning rate falls
FIRST = 20  # losses that are kept, for a second run to be compared with
MATRIX_RATE = 0.02
REST_RATE = 0.003
DROP = 0.05
UNSURE_PROMPTS, UNSURE_PIECES = 0.1, 0.2  # share of prompts in which a share of the pieces is split at random
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
        self.halves: dict[int, list[tuple[int, ...]]] = {}

    def prompt(self, text: str, *, unsure: bool = False) -> list[int]:
        """`[INST] text[/INST]`."""
        ids = self.pieces.encode(text)
        if unsure and self.random.random() < UNSURE_PROMPTS:
            ids = [part for id in ids for part in self._halved(id)]
        return [INST, *ids, END_INST]

    def _halved(self, id: int) -> tuple[int, ...]:
        """A piece, or two that it can be made of; SentencePiece's own sampling takes no seed."""
        if id not in self.halves:
            piece = self.pieces.id_to_piece(id)
            pairs = ((piece[:at], piece[at:]) for at in range(1, len(piece)))
            known = [tuple(map(self.pieces.piece_to_id, pair)) for pair in pairs]
            self.halves[id] = [pair for pair in known if self.pieces.unk_id() not in pair]
        if not self.halves[id] or self.random.random() >= UNSURE_PIECES:
            return (id,)
        return self.random.choice(self.halves[id])

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
    reader, writer = Reader(folder, seed), Writer(seed, whole(folder), blind=blind(folder))
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


def ahead(folder: Path, seed: int, passed: int = 0) -> Iterator[Batch]:
    """The same batches but for the first `passed`, made by another process while this one multiplies matrices."""
    waiting: Queue[tuple[Dialogue, ...]] = get_context("spawn").Queue(maxsize=64)
    get_context("spawn").Process(target=_make, args=(folder, seed, passed, waiting), daemon=True).start()
    while True:
        yield padded(waiting.get())


def _make(folder: Path, seed: int, passed: int, waiting: Queue[tuple[Dialogue, ...]]) -> None:
    for batch in islice(batches(folder, seed), passed, None):
        waiting.put(batch)


def padded(dialogues: Sequence[Dialogue]) -> Batch:
    """Dialogues as rows; what comes after the end of one is seen by nothing before it and never learnt."""
    length = max(len(ids) for ids, _ in dialogues)
    ids = torch.tensor([ids + [0] * (length - len(ids)) for ids, _ in dialogues])
    learnt = torch.tensor([flags + [False] * (length - len(flags)) for _, flags in dialogues])
    return Batch(ids, learnt, sum(len(ids) for ids, _ in dialogues))


def loss_of(model: Mistral, batch: Batch, drop: float = 0.0) -> Tensor:
    """Mean negative log-likelihood of the tokens to be learnt."""
    wanted = functional.pad(batch.learnt[:, 1:], (0, 1))  # the tokens before those to be learnt
    hidden = model.hidden(batch.ids, drop, wanted)
    return functional.cross_entropy(model.lm_head(hidden), batch.ids[:, 1:][batch.learnt[:, 1:]])


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
    """How far a run is; `first` has the losses of the first steps, `curve` (step, training loss, held-back loss)."""

    step: int = 0
    seconds: float = 0.0
    tokens: int = 0
    first: list[float] = field(default_factory=list)
    curve: list[tuple[int, float, float | None]] = field(default_factory=list)


def share_of_rate(step: int, steps: int) -> float:
    """The share of the full learning rates that a step, from 0, is made with."""
    return min(1.0, (step + 1) / WARM_UP, (steps - step) / (COOL_DOWN * steps))


def run(folder: Path, steps: int, until: int) -> None:
    """Train until the steps are done, or as far as `until`: from nothing, or from where a run stopped."""
    torch.manual_seed(SEED)
    model = Mistral(Sizes(vocabulary=Reader(folder, SEED).pieces.get_piece_size()))
    matrices = [weight for name, weight in model.blocks.named_parameters() if weight.ndim == 2]
    known = {id(weight) for weight in matrices}
    rest = [weight for weight in model.parameters() if id(weight) not in known]
    optimizers = (Muon(matrices, MATRIX_RATE), torch.optim.AdamW(rest, REST_RATE, betas=(0.9, 0.95), weight_decay=0.01))
    progress = _resumed(folder, model, optimizers)
    held_back = [padded(batch) for batch in islice(batches(folder, SEED + 1), 8)]
    stream = ahead(folder, SEED + 2, progress.step)
    print(f"{sum(weight.numel() for weight in model.parameters()):,} parameters", flush=True)
    window: deque[float] = deque(maxlen=50)
    while progress.step < min(steps, until):
        began = time.monotonic()
        _set_rates(optimizers, share_of_rate(progress.step, steps))
        batch = next(stream)
        window.append(_step(model, optimizers, batch))
        progress.first += [window[-1]] if progress.step < FIRST else []
        progress.step += 1
        progress.tokens += batch.tokens
        progress.seconds += time.monotonic() - began
        if progress.step == FIRST:
            print("first losses:", *(f"{loss:.4f}" for loss in progress.first), flush=True)
        if progress.step % 50 == 0:
            _report(folder, model, optimizers, progress, sum(window) / len(window), held_back)
    _save(folder, model, progress, {"steps": steps, "cool_down": COOL_DOWN})


def _step(model: Mistral, optimizers: Sequence[torch.optim.Optimizer], batch: Batch) -> float:
    """Learn from one batch; its loss before."""
    model.train()
    loss = loss_of(model, batch, DROP)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


def _set_rates(optimizers: Sequence[torch.optim.Optimizer], share: float) -> None:
    for optimizer, full in zip(optimizers, (MATRIX_RATE, REST_RATE), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = full * share


def _report(
    folder: Path,
    model: Mistral,
    optimizers: Sequence[torch.optim.Optimizer],
    progress: Progress,
    recent: float,
    held_back: list[Batch],
) -> None:
    held = None
    if progress.step % 100 == 0:
        model.eval()
        with torch.no_grad():
            held = sum(loss_of(model, batch).item() for batch in held_back) / len(held_back)
        state = {"model": model.state_dict(), "optimizers": [each.state_dict() for each in optimizers]}
        state |= {"random": torch.get_rng_state(), "progress": vars(progress)}
        torch.save(state, folder / "training.part")
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
    torch.set_rng_state(state["random"])
    return Progress(**state["progress"])


def _save(folder: Path, model: Mistral, progress: Progress, settings: Mapping[str, Any]) -> None:
    """The checkpoint as `convert` takes it, and what made it."""
    checkpoint = folder / NAME
    checkpoint.mkdir(exist_ok=True)
    save_file(model.checkpoint(), checkpoint / "model.safetensors", {"format": "pt"})
    (checkpoint / "config.json").write_text(json.dumps(model.sizes.config(), indent=1) + "\n")
    tokenizer = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "chat_template": CHAT_TEMPLATE}
    tokenizer |= {"add_bos_token": True, "add_eos_token": False, "tokenizer_class": "LlamaTokenizer"}
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(tokenizer, indent=1) + "\n")
    (checkpoint / "tokenizer.model.v3").write_bytes((folder / "tokenizer.model.v3").read_bytes())
    made = {"seed": SEED, **settings, "sizes": model.sizes.plain(), "longest": LONGEST, "batch": TOKENS}
    made |= {"matrix_rate": MATRIX_RATE, "rest_rate": REST_RATE, "warm_up": WARM_UP}
    made |= {"drop": DROP, "cut": CUT, "unsure": (UNSURE_PROMPTS, UNSURE_PIECES), "threads": torch.get_num_threads()}
    made |= {"torch": torch.__version__, "sentencepiece": sentencepiece.__version__}
    made |= {"sha256": {path.name: sha256(path.read_bytes()).hexdigest() for path in _made_of(folder)}}
    (folder / "training.json").write_text(json.dumps(made | vars(progress), indent=1) + "\n")


def _made_of(folder: Path) -> list[Path]:
    """The files that went into the weights, and the weights."""
    return [*sorted(folder.glob("*.bin")), folder / "tokenizer.model.v3", folder / NAME / "model.safetensors"]


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--until", type=int, default=STEPS * 100, help="stop after this step, to compare the losses")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    run(given.folder, given.steps, given.until)


if __name__ == "__main__":
    main()
