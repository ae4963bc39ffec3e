"""The JSON objects that `--json`, `--dry-run` and batches print; their keys are a contract with scripts."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chat.config.options import Settings
    from chat.core.backend import ModelInfo, Rendered
    from chat.core.events import Completion
    from chat.errors import ChatError


def failure_report(error: ChatError) -> dict[str, Any]:
    """The result of a batch record that has no answer."""
    return {"error": error.message, "exit_code": int(error.exit_code)}


def rendered_report(rendered: Rendered) -> dict[str, Any]:
    """The result of a dry run: the prompt as the model would get it."""
    return {
        "text": rendered.text,
        "ids": list(rendered.ids),
        "tokens": len(rendered.ids),
        "prompt_format": rendered.prompt_format,
    }


def wanted_block(text: str, settings: Settings) -> str | None:
    """The code block of an answer that `-x` or `--xl` asks for; None if there is none."""
    from chat.rendering.code_blocks import code_blocks

    blocks = code_blocks(text)
    return blocks[-1 if settings.extract_last else 0] if blocks else None


def _token_counts(done: Completion) -> dict[str, int]:
    """The numbers of tokens; that of the reasoning where there is any and it was counted."""
    counts = asdict(done.tokens)
    if not counts["reasoning"]:
        del counts["reasoning"]
    return counts


def reply_report(done: Completion, info: ModelInfo, settings: Settings) -> dict[str, Any]:
    """An answer with its figures, and its code block if the settings want one."""
    plain: dict[str, Any] = {
        "text": done.text,
        **({"code": wanted_block(done.text, settings)} if settings.wants_code else {}),
        "finish_reason": done.finish_reason,
        "ids": None if done.ids is None else list(done.ids),
        "prompt_ids_sha256": done.prompt_ids_sha256 or None,
        "tokens": _token_counts(done) if done.tokens.are_known else None,
        "seconds": asdict(done.seconds),
        "sampling": done.sampling,
        "model": {
            "path": info.path,
            "name": done.model or info.name or None,
            "size": info.size or None,
            "sha256": info.sha256,
            "type": info.type or None,
            "window": info.window,
            "prompt_format": info.prompt_format or None,
        },
    }
    if done.reasoning:
        plain["reasoning"] = done.reasoning
    if done.tool_calls:
        plain["tool_calls"] = [asdict(call) for call in done.tool_calls]
    if done.choice is not None:
        plain["choice"] = done.choice
    if done.logprobs:
        plain["logprobs"] = list(done.logprobs)
    return plain
