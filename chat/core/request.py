"""What a backend is given: the options to load a model, and the requests to answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from chat.core.conversation import Conversation, Message, Picture

KvType = Literal["f32", "f16", "q8_0", "q4_0"]
Switch = Literal["auto", "on", "off"]
ConstraintKind = Literal["schema", "lark", "gbnf", "regex", "choice"]


@dataclass(frozen=True)
class EngineOptions:
    """Everything that is fixed when a model is loaded. None lets the engine decide.

    Attributes:
        model_path: the GGUF file.
        context: tokens that fit.
        window: `auto`, `off`, or a number of tokens.
        kv_type: the type of the KV cache's cells.
        gpu_layers: `auto`, `all`, or a number of layers.
        most_gpu_layers: the most that `auto` may choose, after the GPU's memory ran out with more.
        threads: CPU threads.
        flash_attention: whether llama.cpp uses flash attention.
        repack: whether llama.cpp rearranges the weights for faster prefill.
        mlock: whether the weights are locked in memory.
        lora: (path, scale) of each adapter.
        mmproj: the GGUF that turns pictures into what the model reads; None for none.
        picture_size: the most pixels of a picture's longer side; None for what the picture encoder allows.
        draft: `lookup`, `off`, or the path of a draft model's GGUF.
        prompt_format: the format's name.
        needs_format: whether any prompt is made of messages; else the model's format need not be known.
        overflow: what happens to a prompt that does not fit: an error, or the oldest turns are dropped.
        vocab_only: load the tokenizer only.
        first_prompt_bytes: the approximate length of the first prompt, if it is known while loading; else 0.
        state_cache_bytes: the most bytes that saved states take on the disk; 0 saves none.
        state_folder: the folder of saved states; None saves none.
    """

    model_path: str
    context: int | None = None
    window: str = "auto"
    kv_type: KvType = "f16"
    gpu_layers: str = "auto"
    most_gpu_layers: int | None = None
    threads: int | None = None
    flash_attention: Switch = "auto"
    repack: Switch = "auto"
    mlock: bool = False
    lora: tuple[tuple[str, float], ...] = ()
    mmproj: str | None = None
    picture_size: int | None = None
    draft: str = "lookup"
    prompt_format: str | None = None
    needs_format: bool = True
    overflow: Literal["error", "drop"] = "error"
    vocab_only: bool = False
    first_prompt_bytes: int = 0
    state_cache_bytes: int = 4 << 30
    state_folder: str | None = None

    @property
    def wants_gpus(self) -> bool:
        """Whether any layer may be on a GPU; if not, no GPU is initialized."""
        return self.gpu_layers.strip("0") != "" and self.most_gpu_layers != 0


@dataclass(frozen=True)
class Sampling:
    """The values of the sampler chain.

    Attributes:
        temperature: 0 always takes the likeliest token, and the other values have no effect.
        top_p: the probability mass that is kept, from 0 to 1.
        top_k: how many tokens are kept.
        min_p: the least probability kept, as a fraction of the highest.
        repeat_penalty: divides the logits of repeated tokens; 1 changes nothing.
        seed: None draws one, and the completion reports it.
    """

    temperature: float = 0.7
    top_p: float = 0.95
    top_k: int = 40
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    seed: int | None = None


@dataclass(frozen=True)
class Constraint:
    """What an answer must match.

    Attributes:
        kind: the language of `source`.
        source: JSON for a schema, a JSON list of strings for a choice, else the grammar or expression.
    """

    kind: ConstraintKind
    source: str


@dataclass(frozen=True)
class Prompt:
    """What is to be answered: exactly one of messages, text and ids.

    Attributes:
        messages: rendered by the prompt format.
        text: encoded with a BOS token and without a format.
        ids: the whole prompt; nothing is added.
        tools: the functions that the model may call, as JSON objects.
        continues: whether the last message is an answer to be continued.
        default_system: whether messages without a system prompt get the one that the model was released with; None
            where nobody decided, which leaves it to a chat template.
        effort: how much the model thinks before it answers, in its own words; None for its default.
        thinks: whether the model thinks before it answers; None for its default.
        tool_choice: `auto`, `none`, `required`, or the name of the function to call; None for the default.
    """

    messages: tuple[Message, ...] | None = None
    text: str | None = None
    ids: tuple[int, ...] | None = None
    tools: tuple[dict[str, Any], ...] = ()
    continues: bool = False
    default_system: bool | None = None
    effort: str | None = None
    thinks: bool | None = None
    tool_choice: str | None = None

    @classmethod
    def of_conversation(cls, conversation: Conversation, *, continues: bool = False) -> Prompt:
        """The prompt of a conversation, with the model's own system prompt where the user decided nothing."""
        return cls(conversation.messages(), continues=continues, default_system=conversation.system is None)

    def __post_init__(self) -> None:
        if sum(part is not None for part in (self.messages, self.text, self.ids)) != 1:
            raise ValueError("a prompt is either messages, text or ids")

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """The pictures of all messages."""
        return tuple(picture for message in self.messages or () for picture in message.pictures)

    @property
    def length(self) -> int:
        """The approximate length as text, in bytes; an id counts as four."""
        texts = [self.text or "", *(message.reasoning + message.content for message in self.messages or ())]
        return sum(len(text.encode("utf-8", "replace")) for text in texts) + 4 * len(self.ids or ())


@dataclass(frozen=True)
class Request:
    """One answer to generate.

    Attributes:
        prompt: what is to be answered.
        sampling: the values of the sampler chain.
        max_tokens: the most tokens of the answer; None allows as many as fit in the context.
        stop: strings that end the answer.
        constraint: what the answer must match.
        logprobs: how many alternatives are reported for each token.
        session: the name under which the state of the cache is saved; None saves none.
        max_thinking_tokens: the most tokens of the reasoning before the answer; None sets no limit of its own.
        given: the settings that the user set, by name: a server gets only these.
    """

    prompt: Prompt
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    constraint: Constraint | None = None
    logprobs: int = 0
    session: str | None = None
    max_thinking_tokens: int | None = None
    given: tuple[str, ...] = ()
