"""Make the metadata of a new GGUF out of another GGUF's: renamed, the window's keys changed, unknown keys kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast, get_args

from chat.gguf.keys import GeneralKey, ImatrixKey, MistralChatKey, ModelKey, SplitKey
from chat.gguf.validate_layers import WINDOWED_KEYS
from chat.gguf.writer import KeyValue, Kind
from convert.output.metadata import QUANTIZATION_VERSION, fingerprint_with, short_name
from convert.output.sliding_window import window_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chat.gguf.reader import GgufFile
    from convert.lora.adapter import Adapter
    from convert.output.sliding_window import TargetModel
    from convert.quantize.type_overrides import TypeOverrides

WINDOW_NOTE = (MistralChatKey.SLIDING_WINDOW, MistralChatKey.SLIDING_WINDOW_PATTERN)
# the new file is one whole file with the usual alignment
STALE = (GeneralKey.ALIGNMENT, SplitKey.NUMBER, SplitKey.COUNT, SplitKey.TENSOR_COUNT)
OF_QUANTIZING = (GeneralKey.QUANTIZATION_VERSION, GeneralKey.FILE_TYPE, ImatrixKey.NOTE_PREFIX)
# llama.cpp ignores these for the plain architecture and obeys them for the windowed one
WINDOWED_ONLY = (
    *WINDOWED_KEYS,
    ModelKey.KEY_LENGTH_SWA,
    ModelKey.VALUE_LENGTH_SWA,
    ModelKey.ROPE_DIMENSION_COUNT_SWA,
    ModelKey.ROPE_FREQ_BASE_SWA,
)


def change_keys(
    file: GgufFile, target: TargetModel, types: TypeOverrides | None, changed: Sequence[KeyValue] = ()
) -> tuple[KeyValue, ...]:
    """All keys of the new file, in the old one's order; what quantizing adds comes last, as llama-quantize puts it.

    Args:
        file: The old file.
        target: What the new file computes.
        types: None where the tensors keep their types.
        changed: Keys that replace the old ones; a note of the window is added where there was none.
    """
    architecture = target.architecture
    keys = [
        _renamed(file, name, value, architecture)
        for name, value in file.metadata.items()
        if not _is_left_out(file, name, architecture, is_requantized=types is not None)
    ]
    if target.is_windowed and file.architecture != architecture:
        last = max(number for number, key in enumerate(keys) if key.key.startswith(f"{architecture}."))
        keys[last + 1 : last + 1] = window_keys(target)
    keys = _with_note(keys, [key for key in changed if key.key in WINDOW_NOTE])
    replaced = {key.key: key for key in changed}
    if target.is_windowed and file.architecture == architecture and target.sizes.window != file.window:
        replaced |= {key.key: key for key in window_keys(target) if not key.key.endswith(ModelKey.LOGIT_SCALE)}
    keys = [replaced.get(key.key, key) for key in keys]
    if types is None:
        return tuple(keys)
    return (
        *keys,
        KeyValue(GeneralKey.QUANTIZATION_VERSION, "u32", QUANTIZATION_VERSION),
        KeyValue(GeneralKey.FILE_TYPE, "u32", types.recipe.file_type),
        *types.keys(),
    )


def merged_names(file: GgufFile, adapters: Sequence[tuple[Adapter, float]]) -> tuple[KeyValue, ...]:
    """The keys that name a file's origin, changed for the adapters that are merged into it; absent keys stay absent."""
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
    """Put a note of the window in the old one's place, else before what quantizing adds."""
    if not note:
        return keys
    places = (number for number, key in enumerate(keys) if key.key in WINDOW_NOTE or key.key.startswith(OF_QUANTIZING))
    place = next(places, len(keys))
    after = [key for key in keys[place:] if key.key not in WINDOW_NOTE]
    return [*keys[:place], *note, *after]
