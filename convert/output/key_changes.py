"""The keys of one GGUF -> the next one's: renamed, the window's put in or taken out, unknown ones kept. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast, get_args

from chat.gguf.keys import NOTE_KEYS
from chat.gguf.validate_layers import CARRIER_KEYS
from chat.gguf.writer import KeyValue, Kind
from convert.output.fingerprint import fingerprint_with
from convert.output.metadata import CARRIER, QUANTIZATION_VERSION, short_name, window_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chat.gguf.reader import GgufFile
    from convert.architecture.hyperparameters import Hyperparameters
    from convert.lora.adapter import Adapter
    from convert.quantize.type_overrides import TypeOverrides

PROMPT_FORMAT = "mistral_chat.prompt_format"
SOURCE = "mistral_chat.source"
SOURCE_SHA256 = "mistral_chat.source_sha256"
# what would no longer be true of the new file
STALE = ("general.alignment", "split.no", "split.count", "split.tensors.count")
OF_QUANTIZING = ("general.quantization_version", "general.file_type", "quantize.imatrix.")
# the plain graph does not ask for these, the carrier's would obey them
CARRIER_ONLY = (
    *CARRIER_KEYS,
    *("attention.key_length_swa", "attention.value_length_swa", "rope.dimension_count_swa", "rope.freq_base_swa"),
)


def change_keys(
    file: GgufFile,
    architecture: str,
    sizes: Hyperparameters,
    choices: TypeOverrides | None,
    changed: Sequence[KeyValue] = (),
) -> tuple[KeyValue, ...]:
    """All keys of the new file, in the old one's order; what quantizing adds comes last, as llama-quantize puts it.

    Args:
        architecture: The new file's.
        sizes: With the window that the new file is to have.
        choices: None where the tensors keep their types.
        changed: Keys that take the old ones' places, and a note of the window where there was none.
    """
    keys = [
        _renamed(file, name, value, architecture)
        for name, value in file.metadata.items()
        if not _is_left_out(file, name, architecture, is_requantized=choices is not None)
    ]
    if architecture == CARRIER and file.architecture != CARRIER:
        after = max(number for number, key in enumerate(keys) if key.key.startswith(f"{CARRIER}."))
        keys[after + 1 : after + 1] = window_keys(sizes)
    keys = _with_note(keys, [key for key in changed if key.key in NOTE_KEYS])
    replaced = {key.key: key for key in changed}
    if architecture == file.architecture == CARRIER and sizes.window != file.window:
        replaced |= {key.key: key for key in window_keys(sizes) if not key.key.endswith("logit_scale")}
    keys = [replaced.get(key.key, key) for key in keys]
    if choices is None:
        return tuple(keys)
    return (
        *keys,
        KeyValue("general.quantization_version", "u32", QUANTIZATION_VERSION),
        KeyValue("general.file_type", "u32", choices.recipe.file_type),
        *choices.keys(),
    )


def merged_names(file: GgufFile, adapters: Sequence[tuple[Adapter, float]]) -> tuple[KeyValue, ...]:
    """What a file says of its origin, with the adapters that are merged into it; nothing where it says nothing."""
    if not adapters:
        return ()
    source = "+".join(adapter.name for adapter, _ in adapters)
    makers: dict[str, Callable[[str], str]] = {
        "general.name": lambda old: f"{old}+{short_name(source)}",
        SOURCE: lambda old: f"{old}+{source}",
        SOURCE_SHA256: lambda old: fingerprint_with(old, adapters),
    }
    return tuple(KeyValue(key, "str", make(file.metadata[key])) for key, make in makers.items() if key in file.metadata)


def _is_left_out(file: GgufFile, name: str, architecture: str, *, is_requantized: bool) -> bool:
    if name in STALE or (is_requantized and name.startswith(OF_QUANTIZING)):
        return True
    own = name.removeprefix(f"{file.architecture}.")
    return architecture != file.architecture and own != name and own in CARRIER_ONLY


def _renamed(file: GgufFile, name: str, value: Any, architecture: str) -> KeyValue:
    kind = file.types[name]
    scalar = cast("Kind", kind.strip("[]"))
    assert scalar in get_args(Kind)
    if name == "general.architecture":
        value = architecture
    prefix = f"{file.architecture}."
    new = f"{architecture}.{name.removeprefix(prefix)}" if name.startswith(prefix) else name
    return KeyValue(new, scalar, tuple(value) if kind.startswith("[") else value)


def _with_note(keys: list[KeyValue], note: Sequence[KeyValue]) -> list[KeyValue]:
    """Put a note in the old one's place, else before what quantizing adds."""
    if not note:
        return keys
    places = (number for number, key in enumerate(keys) if key.key in NOTE_KEYS or key.key.startswith(OF_QUANTIZING))
    at = next(places, len(keys))
    after = [key for key in keys[at:] if key.key not in NOTE_KEYS]
    return [*keys[:at], *note, *after]
