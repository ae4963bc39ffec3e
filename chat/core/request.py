"""What is asked of an engine: how to load a model, and what to answer how. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from chat.core.conversation import Message

KvType = Literal["f32", "f16", "q8_0", "q4_0"]
Switch = Literal["auto", "on", "off"]
ConstraintKind = Literal["schema", "lark", "gbnf", "regex", "choice"]


@dataclass(frozen=True)
class EngineOptions:
    """Everything that is fixed when a model is loaded. None means: the engine decides."""

    model_path: str
    context: int | None = None
    window: str = "auto"  # auto | off | a number of tokens
    kv_type: KvType = "f16"
    gpu_layers: str = "auto"  # auto | all | a number of layers
    most_gpu_layers: int | None = None  # of auto: a GPU's memory ran out with more
    threads: int | None = None
    flash_attention: Switch = "auto"
    repack: Switch = "auto"
    mlock: bool = False
    lora: tuple[tuple[str, float], ...] = ()  # (path, scale)
    draft: str = "lookup"  # lookup | off | path of a small model's GGUF
    prompt_format: str | None = None
    overflow: Literal["error", "drop"] = "error"
    vocab_only: bool = False
    first_prompt_bytes: int = 0  # about how long the first prompt is, where that is known while loading
    state_cache_bytes: int = 4 << 30
    state_folder: str | None = None  # None: states live in memory only

    @property
    def wants_gpus(self) -> bool:
        """Whether any layer may go to a GPU; else none is woken."""
        return self.gpu_layers.strip("0") != "" and self.most_gpu_layers != 0


@dataclass(frozen=True)
class Sampling:
    """The sampler chain's values; temperature 0 takes the likeliest token and bypasses the rest."""

    temperature: float = 0.7
    top_p: float = 0.95
    top_k: int = 40
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    seed: int | None = None  # None: the engine draws one and reports it


@dataclass(frozen=True)
class Constraint:
    """What an answer must match; `source` is JSON for a schema, a JSON list of strings for choices, else the text."""

    kind: ConstraintKind
    source: str


@dataclass(frozen=True)
class Prompt:
    """What is to be answered: exactly one of the three is given.

    `messages` are rendered by the prompt format, `text` is encoded with a BOS and no template,
    `ids` are the whole prompt and nothing is added.
    """

    messages: tuple[Message, ...] | None = None
    text: str | None = None
    ids: tuple[int, ...] | None = None
    tools: tuple[dict[str, Any], ...] = ()  # functions on offer, as JSON schemas
    continues: bool = False  # the last message is an unfinished answer to go on with

    def __post_init__(self) -> None:
        if sum(part is not None for part in (self.messages, self.text, self.ids)) != 1:
            raise ValueError("a prompt is either messages, text or ids")

    @property
    def length(self) -> int:
        """About how many bytes it would have as text; an id counts as four."""
        texts = [self.text or "", *(message.content for message in self.messages or ())]
        return sum(len(text.encode("utf-8", "replace")) for text in texts) + 4 * len(self.ids or ())


@dataclass(frozen=True)
class Request:
    """One reply to make."""

    prompt: Prompt
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None  # None: up to the context
    stop: tuple[str, ...] = ()
    constraint: Constraint | None = None
    logprobs: int = 0  # alternatives reported per token
    session: str | None = None  # its saved state is kept under this name
