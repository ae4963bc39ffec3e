"""The keys of one GGUF -> the next one's: renamed, the window's put in or taken out, unknown ones kept. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast, get_args

from chat.ground.gguf_layers import CARRIER_KEYS
from chat.ground.gguf_note import NOTE_KEYS
from convert.gguf_file import KeyValue, Kind
from convert.metadata import CARRIER, QUANTIZATION_VERSION, window_keys

if TYPE_CHECKING:
    from chat.ground.gguf_reader import GgufFile
    from convert.hparams import HParams
    from convert.plan import Recipe

# what would no longer be true of the new file
STALE = ("general.alignment", "split.no", "split.count", "split.tensors.count")
OF_QUANTIZING = ("general.quantization_version", "general.file_type", "quantize.imatrix.")
# the plain graph does not ask for these, the carrier's would obey them
CARRIER_ONLY = (
    *CARRIER_KEYS,
    *("attention.key_length_swa", "attention.value_length_swa", "rope.dimension_count_swa", "rope.freq_base_swa"),
)


def remake_keys(
    file: GgufFile,
    architecture: str,
    sizes: HParams,
    recipe: Recipe | None,
    of_importance: tuple[KeyValue, ...] = (),
    note: tuple[KeyValue, ...] = (),
) -> tuple[KeyValue, ...]:
    """All keys of the new file, in the old one's order; what quantizing adds comes last, as llama-quantize puts it.

    Args:
        architecture: The new file's.
        sizes: With the window that the new file is to have.
        recipe: None where the tensors keep their types.
        note: What to say of the model's window; nothing where the old file's words stay.
    """
    keys = [
        _renamed(file, name, value, architecture)
        for name, value in file.metadata.items()
        if not _is_left_out(file, name, architecture, is_requantized=recipe is not None)
    ]
    if architecture == CARRIER and file.architecture != CARRIER:
        after = max(number for number, key in enumerate(keys) if key.key.startswith(f"{CARRIER}."))
        keys[after + 1 : after + 1] = window_keys(sizes)
    keys = _with_note(keys, note)
    if architecture == file.architecture == CARRIER:
        replaced = {key.key: key for key in window_keys(sizes) if not key.key.endswith("logit_scale")}
        keys = [replaced.get(key.key, key) if sizes.window != file.window else key for key in keys]
    if recipe is not None:
        keys.append(KeyValue("general.quantization_version", "u32", QUANTIZATION_VERSION))
        keys.append(KeyValue("general.file_type", "u32", recipe.file_type))
    return (*keys, *of_importance)


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


def _with_note(keys: list[KeyValue], note: tuple[KeyValue, ...]) -> list[KeyValue]:
    """Put a note in the old one's place, else before what quantizing adds."""
    if not note:
        return keys
    at = next(
        (number for number, key in enumerate(keys) if key.key in NOTE_KEYS or key.key.startswith(OF_QUANTIZING)),
        len(keys),
    )
    after = [key for key in keys[at:] if key.key not in NOTE_KEYS]
    return [*keys[:at], *note, *after]
