"""Say which options cannot stand together, so that none silently does nothing. Knows names, not what options do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chat.config.option_types import option_specs
from chat.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from chat.config.options import Settings

# Of these only one holds: the last that was said, and on one command line only one may be
ALTERNATIVES: tuple[tuple[str, ...], ...] = (
    ("model", "remote"),
    ("system", "system_file"),
    ("schema", "grammar", "regex", "choice"),
    ("extract", "extract_last"),
    ("session", "continue_last"),
    ("quiet", "verbose"),
    ("quiet", "stats"),
)
HINTS: dict[tuple[str, ...], str] = {("model", "remote"): "`--remote-model` names the server's model"}

_NO_TEMPLATE = ("system", "system_file", "tools", "prompt_format", "session", "continue_last", "tool_result")
# Beside the first of a row the others would do nothing. What `--dry-run` leaves undone is no fault: its name says it.
NO_EFFECT_WITH = {
    "remote": (
        "lora", "prompt_format", "raw_ids", "context", "window", "overflow", "kv_type", "gpu_layers", "threads",
        "flash_attention", "repack", "mlock", "draft", "state_cache", "parallel", "log_file",
    ),
    "raw": _NO_TEMPLATE,
    "raw_ids": (*_NO_TEMPLATE, "file", "template", "batch"),
    "batch": ("session", "continue_last"),
    "no_history": ("session", "continue_last"),
    "tool_result": ("file", "template"),
    "choice": ("logprobs", "stop"),
    "schema": ("stop",),
    "grammar": ("stop",),
    "regex": ("stop",),
}  # fmt: skip


def superseded_by(values: Mapping[str, Any]) -> set[str]:
    """The options that values said later take the place of."""
    given = {name for name, value in values.items() if _is_set(value)}
    return {name for group in ALTERNATIVES if given & set(group) for name in group} - given


def check_conflicts(flags: Mapping[str, Any], settings: Settings, origins: Mapping[str, str]) -> None:
    """Refuse flags of which one would do nothing.

    Args:
        flags: checked values that the command line gives.
        origins: where other values came from, in words.

    Raises:
        UsageError: two flags, or a flag and a setting, exclude each other.
    """
    given = [name for name, value in flags.items() if _is_set(value)]
    for group in ALTERNATIVES:
        if len(both := [name for name in given if name in group]) > 1:
            raise _exclusion(both, HINTS.get(group, "give one of them"))
    for name in given:
        if needs := option_specs()[name].option.needs:
            _check_needed(name, needs, settings)
        for beside in (
            each for each, idle in NO_EFFECT_WITH.items() if name in idle and _is_set(getattr(settings, each))
        ):
            hint = "give one of them" if beside in given else f"`{beside}` comes from {origins.get(beside)}"
            raise _exclusion(sorted((beside, name), key=[*flags, beside].index), hint)


def _check_needed(name: str, needs: Iterable[str], settings: Settings) -> None:
    if not any(_is_set(getattr(settings, each)) for each in needs):
        raise UsageError(
            f"{_flag(name)} needs {' or '.join(map(_flag, needs))}", hint="`mistral-chat --help` shows what each does"
        )


def _exclusion(names: Iterable[str], hint: str) -> UsageError:
    return UsageError(f"{' and '.join(map(_flag, names))} exclude each other", hint=hint)


def _flag(name: str) -> str:
    return option_specs()[name].option.flag


def _is_set(value: Any) -> bool:
    """Whether a value was given; an empty text was, and says that a script's variable is empty."""
    return value is not None and value is not False and value != ()
