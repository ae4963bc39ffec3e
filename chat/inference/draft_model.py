"""Choose the drafter of a model: none, prompt lookup, or a small model with the same vocabulary."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from chat.core.token_ids import common_prefix
from chat.errors import MemoryLimitError, ModelError
from chat.gguf.keys import TokenizerKey
from chat.gguf.reader import read_gguf
from chat.gguf.validate_model import check_model
from chat.inference.speculative import LONGEST_DRAFT, Drafter, PromptLookupDrafter
from chat.llama.batch_invariance import why_rows_differ
from chat.llama.context import LlamaContext
from chat.llama.context_settings import ContextSettings
from chat.llama.memory_estimate import gpu_share, sizes_of
from chat.llama.memory_plan import PROCESS_BYTES, MemoryPlan, plan_memory
from chat.llama.model import LoadSettings, Model
from chat.llama.sliding_window import choose_window

if TYPE_CHECKING:
    from chat.core.request import EngineOptions
    from chat.gguf.reader import GgufFile
    from chat.llama.hardware import HostResources

CONTEXT_TOKENS = 4096  # largest context of a draft model: its drafts need no more, and the cache stays small
MOST_UNREAD = 1024  # ids read at once; of a longer text a draft model reads only the end
VOCABULARY_KEYS = (TokenizerKey.MODEL, TokenizerKey.TOKENS)
HINT = "`--draft` takes a small model of the same vocabulary, lookup or off"


class DraftModel(Drafter):
    """Proposes the ids that a small model finds likeliest.

    It reads what is new since the last draft. If that is long, or its context is full, it starts again with the first
    id and the end of the text. That may make its drafts worse; the answer stays the same.
    """

    def __init__(self, context: LlamaContext) -> None:
        """Take over a context and its model; `close` frees both."""
        self.context = context
        self._start = 1  # the context holds the first id, and the ids from this index on

    def catch_up(self, ids: array[int]) -> None:
        """Read up to the last of the ids, unless `abort` stops it."""
        self._read(ids)

    def propose(self, ids: array[int], most: int) -> list[int]:
        """The likeliest ids, one after the other; none if `abort` stopped it."""
        draft: list[int] = []
        is_ready = self._read(ids)
        while is_ready and len(draft) < most:
            draft.append(int(self.context.logits().argmax()))
            is_ready = len(draft) < most and self.context.feed((draft[-1],))
        return draft

    def _read(self, ids: array[int]) -> bool:
        """Read the new ids.

        Returns:
            Whether the logits after the last id are available.
        """
        context = self.context
        if min(ids) < 0:  # it reads no pictures
            ids = array("i", (token for token in ids if token >= 0))
        text = ids[:1] + ids[self._start :]
        kept = context.rewind(min(common_prefix(context.ids, text), len(text) - 1))
        is_full = context.free is not None and len(text) + LONGEST_DRAFT > context.cells
        if kept <= 1 or is_full or len(text) - kept > MOST_UNREAD:
            most = MOST_UNREAD if context.free is None else min(MOST_UNREAD, context.cells // 2)
            self._start = max(len(ids) - most, 1)
            text, kept = ids[:1] + ids[self._start :], 0
            context.clear()
        batch = context.settings.batch
        return all(context.feed(text[start : start + batch]) for start in range(kept, len(text), batch))

    def abort(self, flag: bool) -> None:
        """Stop computing, from any thread; False makes the drafter ready again."""
        self.context.abort(flag)

    def close(self) -> None:
        """Free the context and the model."""
        self.context.close()
        self.context.model.close()


@dataclass(frozen=True)
class DraftModelPlan:
    """A draft model's checked file, and how it is loaded."""

    file: GgufFile
    memory: MemoryPlan

    @property
    def host_bytes(self) -> int:
        """Host memory that it takes, without the process itself."""
        return self.memory.host_bytes - PROCESS_BYTES

    def remaining(self, host: HostResources) -> HostResources:
        """The memory that it leaves for the main model."""
        on_gpus = gpu_share(sizes_of(self.file), self.memory.gpu_layers)
        taken = round((self.memory.weights_bytes + self.memory.cache_bytes) * on_gpus)
        largest = max(host.gpu_free_bytes, default=0)
        gpus = tuple(free - taken if free == largest else free for free in host.gpu_free_bytes)
        return replace(host, free_bytes=host.free_bytes - self.host_bytes, gpu_free_bytes=gpus)

    def load(self, options: EngineOptions, threads: int) -> DraftModel:
        """Load the model and make its context.

        Raises:
            ModelError: llama.cpp refuses the file, or the model is recurrent.
            MemoryLimitError: there is not enough memory after all.
        """
        model = Model(str(self.file.path), LoadSettings(gpu_layers=self.memory.gpu_layers, mlock=options.mlock))
        try:
            if not model.can_rewind:
                raise ModelError(f"{self.file.path} cannot draft: a recurrent model cannot undo tokens", hint=HINT)
            settings = ContextSettings(
                cells=self.memory.cells,
                batch=self.memory.batch,
                outputs=1,
                rolling=self.memory.rolling,
                kv_type=options.kv_type,
                flash_attention=options.flash_attention,
                threads=threads,
            )
            return DraftModel(LlamaContext(model, settings))
        except BaseException:
            model.close()
            raise


def plan_draft_model(options: EngineOptions, main: GgufFile, host: HostResources) -> DraftModelPlan | None:
    """The plan for the small model that `--draft` names; None if it names none.

    Args:
        options: of the main model.
        main: the main model's file.
        host: free memory before either model is loaded.

    Raises:
        ModelError: the file cannot be used, or has another vocabulary.
        MemoryLimitError: there is not enough memory for it.
    """
    if options.draft in ("lookup", "off"):
        return None
    file = read_gguf(Path(options.draft))
    check_model(file)
    if any(file.metadata.get(key) != main.metadata.get(key) for key in VOCABULARY_KEYS):
        raise ModelError(
            f"{file.path} cannot draft for {main.path}: it has another vocabulary "
            f"({file.vocabulary_size:,} pieces, the model {main.vocabulary_size:,})",
            hint=HINT,
        )
    gpu_layers = "auto" if options.wants_gpus else "0"  # a number of layers is meant for the main model
    context = min(CONTEXT_TOKENS, options.context or CONTEXT_TOKENS)
    wanted = replace(options, context=context, window="auto", repack="off", gpu_layers=gpu_layers, most_gpu_layers=None)
    try:
        return DraftModelPlan(file, plan_memory(sizes_of(file), wanted, choose_window(file, "auto"), host))
    except MemoryLimitError as error:
        raise MemoryLimitError(error.message, hint="leave out `--draft`") from error


def select_drafter(
    options: EngineOptions, file: GgufFile, plan: MemoryPlan, context: LlamaContext, draft: DraftModelPlan | None
) -> tuple[Drafter | None, str]:
    """The drafter for a loaded model, and a description of it.

    Prompt lookup is used only where it cannot change an answer by a bit. A small model, which the user asked for, is
    used in any case.

    Args:
        options: of the main model.
        file: the main model's.
        plan: how the main model was loaded.
        context: the main model's.
        draft: the draft model, if `--draft` names one.

    Raises:
        ModelError: llama.cpp refuses the draft model, or one of the models is recurrent.
        MemoryLimitError: there is not enough memory for the draft model after all.
    """
    if options.draft == "off":
        return None, "off"
    difference = why_rows_differ(options, file, plan)
    if draft is not None:
        if not context.model.can_rewind:
            raise ModelError(f"{file.path} is a recurrent model, which cannot undo drafts", hint="`--draft off`")
        warning = f"; with {difference} it could change the answer" if difference else ""
        return draft.load(options, context.settings.threads), f"{draft.file.path.name}{warning}"
    if not context.model.can_rewind:
        difference = "a recurrent model"
    if difference:
        return None, f"off: with {difference} it could change the answer"
    return PromptLookupDrafter(), "lookup"
