"""Switch a model's reasoning on or off: by its chat template, its reasoning effort, or its system prompt."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from chat.core.conversation import Message
from chat.prompts.default_system import with_default_system
from chat.prompts.model_settings import THINKING_VARIABLES
from chat.prompts.segments import BEGIN_THINK

if TYPE_CHECKING:
    from collections.abc import Callable

    from chat.core.backend import ModelInfo, ThinkingControl
    from chat.core.request import Prompt, Request
    from chat.prompts.model_settings import ReasoningEfforts

OFF = "none"  # the effort that stands for an answer without reasoning


def thinking_control(
    prompt_format: str, template: str, efforts: ReasoningEfforts | None, system_prompt: str
) -> ThinkingControl:
    """What switches the reasoning of a model; empty for nothing.

    Args:
        prompt_format: one of `FORMATS`.
        template: the chat template of the file; empty for none.
        efforts: the reasoning efforts of the model; None for none.
        system_prompt: the one that the model was released with.
    """
    if prompt_format == "template" and _reads_variable(template):
        return "template"
    if efforts is not None and efforts.is_stated and OFF in efforts.values and len(efforts.values) > 1:
        return "effort"
    return "system prompt" if BEGIN_THINK.piece in system_prompt else ""


def _reads_variable(template: str) -> bool:
    if not any(
        name in template for name in THINKING_VARIABLES
    ):  # most templates need not be compiled while a model is loaded
        return False
    from chat.prompts.jinja_sandbox import variables_of

    return not variables_of(template).isdisjoint(THINKING_VARIABLES)


def with_release_defaults(prompt: Prompt, info: ModelInfo, own_system: Callable[[], str]) -> Prompt:
    """A prompt with the model's own system prompt where the user left that to the model, and its reasoning switched.

    A model that reads about its reasoning in the system prompt gets one without a word of it where it is not to think.
    Where it is to think, its own system prompt follows that of the user.

    Args:
        prompt: `thinks` tells whether the model is to think.
        info: of the model.
        own_system: gives the model's own system prompt, with the dates of today.
    """
    control, thinks = info.thinking_control, prompt.thinks
    if not prompt.messages:
        return prompt
    if control == "system prompt" and thinks is not None:
        return _with_thoughts(prompt, prompt.messages, own_system()) if thinks else prompt
    if control == "effort" and thinks is not None and prompt.effort is None:
        prompt = replace(prompt, effort=_most(info.efforts) if thinks else OFF)
    return with_default_system(prompt, own_system)


def _with_thoughts(prompt: Prompt, messages: tuple[Message, ...], own: str) -> Prompt:
    """A prompt in whose system prompt the model reads that it is to think: its own, after that of the user."""
    head, *rest = messages
    if head.role != "system":
        return replace(prompt, messages=(Message("system", own), *messages))
    if BEGIN_THINK.piece in head.content:
        return prompt
    system = "\n\n".join(text for text in (head.content, own) if text)
    return replace(prompt, messages=(Message("system", system), *rest))


def _most(efforts: tuple[str, ...]) -> str:
    """The effort of a model that is told to think: `high`, or its last one."""
    return "high" if "high" in efforts else efforts[-1]


def refused_wishes(request: Request, info: ModelInfo, *, has_marks: bool) -> tuple[str, ...]:
    """Sentences for the user whose wishes for the reasoning the model cannot follow; none where it does.

    Args:
        request: whether the model is to think, and how long at most.
        info: of the model.
        has_marks: whether the model marks any reasoning, and so may think.
    """
    if request.prompt.messages is None:
        return ()
    limited = request.max_thinking_tokens is not None and not has_marks
    sentences = (
        "" if info.thinking_control else _refused_switch(request.prompt.thinks, has_marks=has_marks),
        "this model does not mark its reasoning, so `--think-limit` changes nothing" if limited else "",
    )
    return tuple(filter(None, sentences))


def _refused_switch(thinks: bool | None, *, has_marks: bool) -> str:
    if thinks and not has_marks:
        return "this model does not think before it answers, so `--think on` changes nothing"
    if thinks is False and has_marks:
        return "this model cannot be told not to think; `--think hide` keeps its thoughts off the screen"
    return ""
