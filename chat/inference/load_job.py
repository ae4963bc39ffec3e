"""Load weights and make a context within the memory that is free."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from chat.errors import ChatError, MemoryLimitError, ModelError, UsageError
from chat.gguf.keys import ModelKey
from chat.gguf.reader import read_gguf
from chat.gguf.validate_pictures import PictureSizes, check_fits, check_picture_encoder, picture_sizes
from chat.inference.draft_model import DraftModelPlan, plan_draft_model
from chat.llama.context import LlamaContext
from chat.llama.context_settings import ContextSettings
from chat.llama.hardware import HostResources, machine
from chat.llama.memory_estimate import OUTPUTS, picture_encoder_bytes, sizes_of
from chat.llama.memory_plan import MemoryPlan, plan_memory
from chat.llama.model import Adapters, LoadSettings, Model
from chat.llama.sliding_window import Window, choose_window, missing_window, missing_window_remedy
from chat.system.terminal_text import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from chat.core.request import EngineOptions
    from chat.gguf.reader import GgufFile

BYTES_PER_TOKEN = 4  # of ordinary text, about


@dataclass(frozen=True)
class LoadResult:
    """A context with its model, the plan that it was loaded by, and sentences for the user."""

    context: LlamaContext
    plan: MemoryPlan
    notices: tuple[str, ...]


@dataclass(frozen=True)
class PictureFile:
    """A checked picture encoder, and how much memory it takes."""

    file: GgufFile
    sizes: PictureSizes
    has_scores: bool

    @classmethod
    def open(cls, path: str, model: GgufFile, options: EngineOptions) -> PictureFile:
        """Check a file.

        Args:
            path: of the picture encoder.
            model: that it has to fit.
            options: how it is loaded.

        Raises:
            ModelError: it is missing, damaged, of another model or of another kind.
        """
        try:
            file = read_gguf(path)
            check_picture_encoder(file)
            check_fits(file, model)
        except ModelError:
            raise
        except ChatError as error:  # with any fault of it the model cannot be used as requested
            raise ModelError(error.message, hint=error.hint) from error
        sizes = picture_sizes(file)
        if options.picture_size is not None:
            sizes = replace(sizes, largest=min(sizes.largest, options.picture_size))
        return cls(file, sizes, options.flash_attention == "off")

    @property
    def bytes(self) -> int:
        """Of memory, on the processor or on a GPU."""
        return picture_encoder_bytes(self.file, self.sizes, scores=self.has_scores)

    def remaining(self, host: HostResources, *, uses_gpu: bool) -> HostResources:
        """The memory that it leaves for the model."""
        largest = max(host.gpu_free_bytes, default=0)
        if not (uses_gpu and largest):
            return replace(host, free_bytes=host.free_bytes - self.bytes)
        gpus = tuple(max(free - self.bytes, 0) if free == largest else free for free in host.gpu_free_bytes)
        return replace(host, gpu_free_bytes=gpus)


@dataclass(frozen=True)
class LoadJob:
    """A checked file, and everything that decides how it is loaded."""

    options: EngineOptions
    file: GgufFile
    window: Window
    host: HostResources
    draft: DraftModelPlan | None
    pictures: PictureFile | None = None
    outputs: int = OUTPUTS
    eval_callback: Any = None

    @classmethod
    def prepare(
        cls, options: EngineOptions, file: GgufFile, outputs: int = OUTPUTS, eval_callback: Any = None
    ) -> LoadJob:
        """Look at the machine, and at the draft model if there is one.

        Args:
            options: how to load it.
            file: checked.
            outputs: rows of logits of one batch.
            eval_callback: llama.cpp calls it between the nodes of a graph.

        Raises:
            UsageError: `--window` has no meaning for this model.
            ModelError: the draft model or the picture encoder cannot be used.
            MemoryLimitError: there is not enough memory for the draft model.
        """
        window = choose_window(file, options.window)
        host = machine(options, file.size)
        pictures = PictureFile.open(options.mmproj, file, options) if options.mmproj else None
        if pictures is not None:
            host = pictures.remaining(host, uses_gpu=options.wants_gpus)
        draft = plan_draft_model(options, file, host)
        return cls(options, file, window, host, draft, pictures, outputs, eval_callback)

    def run(self, on_progress: Callable[[float], bool] | None = None) -> LoadResult:
        """Load the model; if a GPU has less memory than it reported, with fewer layers on it.

        Args:
            on_progress: gets the loaded fraction in 0..1; False stops the loading.

        Raises:
            ModelError: llama.cpp refuses the file or an adapter.
            MemoryLimitError: there is not enough memory.
            UsageError: the context is longer than the model supports.
        """
        notices = self._missing_gpu_notices()
        options = self.options
        plan = self.plan(options)
        while True:
            model: Model | None = None
            try:
                model = Model(str(self.file.path), self._load_settings(plan), on_progress)
                if options.lora:
                    model.adapters = Adapters(model, self.file, options.lora)
                return LoadResult(LlamaContext(model, self._context_settings(plan)), plan, notices)
            except MemoryLimitError as error:
                if model is not None:
                    model.close()
                if plan.gpu_layers == 0:
                    raise
                if options.gpu_layers != "auto":
                    more = (error.hint or "").removeprefix("use ")
                    hint = f"use fewer `--gpu-layers`{',' if ',' in more else ' or'} {more}"
                    raise MemoryLimitError(error.message, hint=hint) from error
                fewer = plan.gpu_layers * 3 // 4
                plan = self.plan(replace(options, most_gpu_layers=fewer))
                notices = (
                    f"the GPU's memory ran out: it now holds {counted(fewer, 'layer')}, the processor the others",
                )

    def _missing_gpu_notices(self) -> tuple[str, ...]:
        """A sentence for a user who asked for layers on a GPU where there is none."""
        options = self.options
        if options.gpu_layers == "auto" or not options.wants_gpus or self.host.gpu_free_bytes:
            return ()
        reason = "llama.cpp finds no GPU (`mistral-chat doctor` says why)"
        return (f"`--gpu-layers {options.gpu_layers}` has no effect: {reason}, so everything is on the processor",)

    def plan(self, options: EngineOptions) -> MemoryPlan:
        """Where the layers go, and how many tokens are kept.

        Args:
            options: of this job; with fewer layers on GPUs where these have run out of memory.

        Raises:
            UsageError: the context is larger than the model can read.
            MemoryLimitError: there is not enough memory.
        """
        sizes = replace(sizes_of(self.file, options.window), outputs=self.outputs)
        if options.context is not None and options.context > sizes.trained_context:
            is_windowless = sizes.trained_context == missing_window(self.file)
            hint = f"{missing_window_remedy(self.file)}; `--window off` runs it without" if is_windowless else None
            most = f"{sizes.trained_context:,} tokens that the model can read"
            raise UsageError(f"`--context {options.context}` is more than the {most}", hint=hint)
        host = self.host if self.draft is None else self.draft.remaining(self.host)
        try:
            return plan_memory(sizes, options, self.window, host, options.first_prompt_bytes // BYTES_PER_TOKEN)
        except MemoryLimitError as error:
            if self.draft is None and self.pictures is not None:
                hint = f"use `--mmproj off` or a smaller `--picture-size`, {(error.hint or '').removeprefix('use ')}"
                raise MemoryLimitError(f"{error.message} beside {self.pictures.file.path}", hint=hint) from error
            if self.draft is None:
                raise
            hint = f"leave out `--draft`, {error.hint}"
            raise MemoryLimitError(f"{error.message} beside {self.draft.file.path}", hint=hint) from error

    def _load_settings(self, plan: MemoryPlan) -> LoadSettings:
        key = f"{self.file.architecture}.{ModelKey.SLIDING_WINDOW}"
        return LoadSettings(
            gpu_layers=plan.gpu_layers,
            gpu_split=plan.gpu_split,
            repack=plan.repack,
            mlock=self.options.mlock,
            overrides=() if self.window.override is None else ((key, self.window.override),),
        )

    def _context_settings(self, plan: MemoryPlan) -> ContextSettings:
        return ContextSettings(
            cells=plan.cells,
            batch=plan.batch,
            outputs=self.outputs,
            rolling=plan.rolling,
            kv_type=self.options.kv_type,
            flash_attention=self.options.flash_attention,
            threads=self.host.threads,
            eval_callback=self.eval_callback,
        )
