"""The keys of one GGUF -> the next one's: renamed, the window's put in or taken out, unknown ones kept. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast, get_args

from chat.gguf.keys import WINDOWED_ARCHITECTURE, GeneralKey, ImatrixKey, MistralChatKey, ModelKey, SplitKey
from chat.gguf.validate_layers import WINDOWED_KEYS
from chat.gguf.writer import KeyValue, Kind
from convert.output.fingerprint import fingerprint_with
from convert.output.metadata import QUANTIZATION_VERSION, short_name, window_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chat.gguf.reader import GgufFile
    from convert.architecture.hyperparameters import Hyperparameters
    from convert.lora.adapter import Adapter
    from convert.quantize.type_overrides import TypeOverrides

NOTED_WINDOW = (MistralChatKey.SLIDING_WINDOW, MistralChatKey.SLIDING_WINDOW_PATTERN)
# what would no longer be true of the new file
STALE = (GeneralKey.ALIGNMENT, SplitKey.NUMBER, SplitKey.COUNT, SplitKey.TENSOR_COUNT)
OF_QUANTIZING = (GeneralKey.QUANTIZATION_VERSION, GeneralKey.FILE_TYPE, ImatrixKey.NOTE_PREFIX)
# the plain graph does not ask for these, the carrier's would obey them
WINDOWED_ONLY = (
    *WINDOWED_KEYS,
    *(
        ModelKey.KEY_LENGTH_SWA,
        ModelKey.VALUE_LENGTH_SWA,
        ModelKey.ROPE_DIMENSION_COUNT_SWA,
        ModelKey.ROPE_FREQ_BASE_SWA,
    ),
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
    if architecture == WINDOWED_ARCHITECTURE and file.architecture != WINDOWED_ARCHITECTURE:
        after = max(number for number, key in enumerate(keys) if key.key.startswith(f"{WINDOWED_ARCHITECTURE}."))
        keys[after + 1 : after + 1] = window_keys(sizes)
    keys = _with_note(keys, [key for key in changed if key.key in NOTED_WINDOW])
    replaced = {key.key: key for key in changed}
    if architecture == file.architecture == WINDOWED_ARCHITECTURE and sizes.window != file.window:
        replaced |= {key.key: key for key in window_keys(sizes) if not key.key.endswith(ModelKey.LOGIT_SCALE)}
    keys = [replaced.get(key.key, key) for key in keys]
    if choices is None:
        return tuple(keys)
    return (
        *keys,
        KeyValue(GeneralKey.QUANTIZATION_VERSION, "u32", QUANTIZATION_VERSION),
        KeyValue(GeneralKey.FILE_TYPE, "u32", choices.recipe.file_type),
        *choices.keys(),
    )


def merged_names(file: GgufFile, adapters: Sequence[tuple[Adapter, float]]) -> tuple[KeyValue, ...]:
    """What a file says of its origin, with the adapters that are merged into it; nothing where it says nothing."""
    if not adapters:
        return ()
    source = "+".join(adapter.name for adapter, _ in adapters)
    makers: dict[str, Callable[[str], str]] = {
        GeneralKey.NAME: lambda old: f"{old}+{short_name(source)}",
        MistralChatKey.SOURCE: lambda old: f"{old}+{source}",
        MistralChatKey.SOURCE_SHA256: lambda old: fingerprint_with(old, adapters),
    }
    return tuple(KeyValue(key, "str", make(file.metadata[key])) for key, make in makers.items() if key in file.metadata)


def _is_left_out(file: GgufFile, name: str, architecture: str, *, is_requantized: bool) -> bool:
    if name in STALE or (is_requantized and name.startswith(OF_QUANTIZING)):
        return True
    own = name.removeprefix(f"{file.architecture}.")
    return architecture != file.architecture and own != name and own in WINDOWED_ONLY


def _renamed(file: GgufFile, name: str, value: Any, architecture: str) -> KeyValue:
    kind = file.types[name]
    scalar = cast("Kind", kind.strip("[]"))
    assert scalar in get_args(Kind)
    if name == GeneralKey.ARCHITECTURE:
        value = architecture
    prefix = f"{file.architecture}."
    new = f"{architecture}.{name.removeprefix(prefix)}" if name.startswith(prefix) else name
    return KeyValue(new, scalar, tuple(value) if kind.startswith("[") else value)


def _with_note(keys: list[KeyValue], note: Sequence[KeyValue]) -> list[KeyValue]:
    """Put a note in the old one's place, else before what quantizing adds."""
    if not note:
        return keys
    places = (number for number, key in enumerate(keys) if key.key in NOTED_WINDOW or key.key.startswith(OF_QUANTIZING))
    at = next(places, len(keys))
    after = [key for key in keys[at:] if key.key not in NOTED_WINDOW]
    return [*keys[:at], *note, *after]
