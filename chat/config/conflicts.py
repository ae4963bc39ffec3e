"""Options that exclude or need each other, checked so that no option is silently without effect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chat.config.option_types import option_specs
from chat.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from chat.config.options import Settings

# Of each row only one holds: the one from the last source; on one command line only one is allowed
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

_NO_TEMPLATE = (
    "system", "system_file", "effort", "think", "think_limit", "tools", "prompt_format", "session", "continue_last",
    "tool_result", "run_tools",
)  # fmt: skip
# With the first option of a row the others have no effect. `--dry-run` has no row: its name says what it leaves out.
NO_EFFECT_WITH = {
    "remote": (
        "lora", "mmproj", "picture_size", "prompt_format", "raw_ids", "context", "window", "overflow", "kv_type",
        "gpu_layers", "threads", "flash_attention", "repack", "mlock", "draft", "state_cache", "log_file",
        "think_limit",
    ),
    "offline": ("remote", "remote_model", "insecure"),
    "raw": _NO_TEMPLATE,
    "raw_ids": (*_NO_TEMPLATE, "file", "template", "batch"),
    "batch": ("session", "continue_last"),
    "no_history": ("session", "continue_last"),
    "tool_result": ("file", "template"),
    "choice": ("logprobs", "stop", "run_tools"),
    "schema": ("stop", "run_tools"),
    "grammar": ("stop", "run_tools"),
    "regex": ("stop", "run_tools"),
}  # fmt: skip


def superseded_by(values: Mapping[str, Any]) -> set[str]:
    """The options that these values, from a later source, replace."""
    given = {name for name, value in values.items() if _is_set(value)}
    return {name for group in ALTERNATIVES if given & set(group) for name in group} - given


def check_conflicts(flags: Mapping[str, Any], settings: Settings, origins: Mapping[str, str]) -> None:
    """Refuse flags that have no effect.

    Args:
        flags: checked values from the command line.
        settings: the resolved settings, with the flags.
        origins: where the other values came from, in words.

    Raises:
        UsageError: two flags, or a flag and a setting, cannot be used together, or a flag lacks what it needs.
    """
    given = [name for name, value in flags.items() if _is_set(value)]
    for group in ALTERNATIVES:
        if len(both := [name for name in given if name in group]) > 1:
            raise _exclusion(both, HINTS.get(group, "give only one of them"))
    for name in given:
        if needs := option_specs()[name].option.needs:
            _check_needed(name, needs, settings)
        for other, without_effect in NO_EFFECT_WITH.items():
            if name in without_effect and _is_set(getattr(settings, other)):
                hint = "give only one of them" if other in given else f"`{other}` comes from {origins.get(other)}"
                raise _exclusion(sorted((other, name), key=[*flags, other].index), hint)


def check_effect(names: Iterable[str], settings: Settings) -> None:
    """Refuse to change options that have no effect in a session, in the words of the command line.

    Raises:
        UsageError: one of them has no effect with another setting.
    """
    for name in names:
        for other, without_effect in NO_EFFECT_WITH.items():
            if name in without_effect and _is_set(getattr(settings, other)):
                hint = "`/model` switches to a local model, which takes it" if other == "remote" else None
                raise _exclusion((other, name), hint or f"`{other}` is set")


def has_effect(name: str, settings: Settings) -> bool:
    """Whether an option counts for what answers: a server, or a local model."""
    if settings.remote:
        return name != "model" and name not in NO_EFFECT_WITH["remote"]
    return "remote" not in option_specs()[name].option.needs


def _check_needed(name: str, needs: Iterable[str], settings: Settings) -> None:
    if not any(_is_set(getattr(settings, needed)) for needed in needs):
        raise UsageError(
            f"{_flag(name)} needs {' or '.join(map(_flag, needs))}", hint="`mistral-chat --help` shows what each does"
        )


def _exclusion(names: Iterable[str], hint: str) -> UsageError:
    return UsageError(f"{' and '.join(map(_flag, names))} cannot be used together", hint=hint)


def _flag(name: str) -> str:
    return option_specs()[name].option.flag


def _is_set(value: Any) -> bool:
    """Whether a value was given; an empty text counts, because it may be the unset variable of a script."""
    return value is not None and value is not False and value != ()
