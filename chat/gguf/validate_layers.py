"""Refuse models without latent attention whose sizes contradict each other or whose tensors do not fit.

Source: llama.cpp's models/llama.cpp, granite-swa.cpp, mistral3.cpp, qwen2.cpp and qwen3.cpp. Their graphs assert what
is checked here, so that a model that breaks a rule would end the process at the first token.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

from chat.errors import ModelError
from chat.gguf.cursor import shown
from chat.gguf.keys import QWEN2_ARCHITECTURE, QWEN3_ARCHITECTURE, WINDOWED_ARCHITECTURE, YARN_ARCHITECTURE, ModelKey
from chat.gguf.types import MATRIX_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from chat.gguf.reader import GgufFile

MAX_WINDOW = 1 << 30
PLAIN = frozenset({"F32"})
PATTERNS = ("[bool]", "[u32]", "[i32]")

# below `{architecture}.`, beyond what every architecture has
KEYS: dict[str, tuple[str, ...]] = {
    ModelKey.LAYER_NORM_RMS_EPSILON: ("f32",),
}
YARN_KEYS: dict[str, tuple[str, ...]] = {
    ModelKey.TEMPERATURE_SCALE: ("f32",),
    ModelKey.ROPE_SCALING_YARN_BETA_FAST: ("f32",),
    ModelKey.ROPE_SCALING_YARN_BETA_SLOW: ("f32",),
    ModelKey.ROPE_SCALING_YARN_LOG_MULTIPLIER: ("f32",),
}
WINDOWED_KEYS: dict[str, tuple[str, ...]] = {
    ModelKey.SLIDING_WINDOW: ("u32",),
    ModelKey.SLIDING_WINDOW_PATTERN: PATTERNS,
    ModelKey.ROPE_PATTERN: PATTERNS,
    ModelKey.ATTENTION_SCALE: ("f32",),
    ModelKey.DEEPSTACK_MAPPING: ("[i32]",),
    ModelKey.EMBEDDING_SCALE: ("f32",),
    ModelKey.EXPERT_SHARED_FEED_FORWARD_LENGTH: ("u32",),
    ModelKey.LOGIT_SCALE: ("f32",),
    ModelKey.RESIDUAL_SCALE: ("f32",),
}
REQUIRED = (ModelKey.LAYER_NORM_RMS_EPSILON, ModelKey.HEAD_COUNT, ModelKey.FEED_FORWARD_LENGTH)
SIZES_OF_A_HEAD = (
    ModelKey.VALUE_LENGTH,
    ModelKey.ROPE_DIMENSION_COUNT,
    ModelKey.KEY_LENGTH_SWA,
    ModelKey.VALUE_LENGTH_SWA,
    ModelKey.ROPE_DIMENSION_COUNT_SWA,
)
WINDOWED_REQUIRED = (ModelKey.LOGIT_SCALE, ModelKey.SLIDING_WINDOW, ModelKey.SLIDING_WINDOW_PATTERN)


@dataclass(frozen=True)
class LayerSizes:
    """The sizes that determine every shape."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_size: int
    feed_forward: int
    experts: int
    shared_feed_forward: int
    pieces: int

    @property
    def queries(self) -> int:
        """Columns of all query heads together."""
        return self.heads * self.head_size

    @property
    def keys(self) -> int:
        """Columns of all key heads together, and of all value heads."""
        return self.kv_heads * self.head_size


class RequiredTensor(NamedTuple):
    """A tensor that a model must have, or may have; `shape` is in ggml's order, columns first."""

    name: str
    shape: tuple[int, ...]
    kinds: frozenset[str]
    required: bool = True


def check_layers(file: GgufFile) -> None:
    """Refuse a model of one of `KNOWN_ARCHITECTURES` that llama.cpp would abort on.

    Raises:
        DataError: a rule is broken.
        ModelError: each expert is a tensor of its own, which llama.cpp no longer reads.
    """
    _check_keys(file)
    sizes = _sizes(file)
    check_tensors(file, tensor_needs(file, sizes))


def check_tensors(file: GgufFile, needs: Iterable[RequiredTensor]) -> None:
    """Refuse a model whose tensors are not those that its graph looks for.

    Raises:
        DataError: a tensor is missing, is of another shape or type, or has no place.
        ModelError: each expert is a tensor of its own.
    """
    known = {need.name: need for need in needs}
    for need in known.values():
        _check_tensor(file, need)
    for name in file.tensors:
        if name not in known:
            if ".ffn_gate.0." in name:
                hint = "convert the model again, or fetch a file made after March 2024"
                raise ModelError(f"{file.path}: holds every expert as a tensor of its own", hint=hint)
            raise file.fault(f"tensor {shown(name)} has no place in a {file.architecture} model of these sizes")


def _check_keys(file: GgufFile) -> None:
    is_windowed = file.architecture == WINDOWED_ARCHITECTURE
    is_yarn, original = file.architecture == YARN_ARCHITECTURE, ModelKey.ROPE_SCALING_ORIGINAL_CONTEXT_LENGTH
    more = WINDOWED_KEYS if is_windowed else YARN_KEYS if is_yarn else {}
    check_numbers(file, KEYS | more, REQUIRED + WINDOWED_REQUIRED)
    for key, wanted in ((ModelKey.CAUSAL, True), (ModelKey.NEXTN_PREDICT_LAYERS, 0), (ModelKey.EXPERT_GROUP_COUNT, 0)):
        if file.key(key, wanted) != wanted:
            raise file.key_fault(key, f"is {file.key(key)}, but the graph needs {wanted}")
    if is_windowed:
        _check_windowed(file)
    if is_yarn and file.key(ModelKey.TEMPERATURE_SCALE, 0.0) and not file.key(original, 1):
        raise file.key_fault(original, "is 0, by which positions are divided")


def check_numbers(file: GgufFile, keys: Mapping[str, tuple[str, ...]], required: Iterable[str]) -> None:
    """Refuse keys of another type than llama.cpp reads, or that are no numbers.

    Args:
        file: The model.
        keys: Below `{architecture}.`, with the types that they may have.
        required: Which of them must be there.

    Raises:
        DataError: a key is missing or wrong.
    """
    for name, kinds in keys.items():
        key = f"{file.architecture}.{name}"
        kind = file.types.get(key)
        if kind is None and name in required:
            raise file.fault(f"key '{key}' is missing")
        if kind is not None and kind not in kinds:
            raise file.fault(f"key '{key}' is {kind}, but must be {' or '.join(kinds)}")
        value = file.metadata.get(key)
        if isinstance(value, float) and not isfinite(value):
            raise file.fault(f"key '{key}' is {value}, but must be a finite number")
    for key in (ModelKey.LAYER_NORM_RMS_EPSILON, ModelKey.LAYER_NORM_EPSILON):
        epsilon = file.key(key, 0.0) if key in keys else 0.0
        if epsilon < 0:  # ggml asserts
            raise file.key_fault(key, f"is {epsilon}, below 0")


def _check_windowed(file: GgufFile) -> None:
    window, layers = file.key(ModelKey.SLIDING_WINDOW), file.key(ModelKey.BLOCK_COUNT)
    if not 1 <= window <= MAX_WINDOW:
        raise file.key_fault(ModelKey.SLIDING_WINDOW, f"is {window}, but must be 1 to {MAX_WINDOW}")
    for key in (ModelKey.SLIDING_WINDOW_PATTERN, ModelKey.ROPE_PATTERN):
        pattern = file.key(key)
        if pattern is not None and len(pattern) != layers:
            raise file.key_fault(key, f"has {len(pattern)} items for {layers} layers")
    if not any(file.key(ModelKey.SLIDING_WINDOW_PATTERN)):  # llama.cpp asserts
        raise file.key_fault(ModelKey.SLIDING_WINDOW_PATTERN, "gives no layer a window")
    if not any(file.key(ModelKey.ROPE_PATTERN, (True,))):  # llama.cpp asserts that the graph uses the positions
        raise file.key_fault(ModelKey.ROPE_PATTERN, "rotates no layer")
    if file.key(ModelKey.LOGIT_SCALE) == 0:
        raise file.key_fault(ModelKey.LOGIT_SCALE, "is 0, by which the logits are divided")
    if any(index >= 0 for index in file.key(ModelKey.DEEPSTACK_MAPPING, ())):
        raise file.key_fault(ModelKey.DEEPSTACK_MAPPING, "asks for pictures, which this program does not read")


def _sizes(file: GgufFile) -> LayerSizes:
    """The model's sizes, checked against each other."""
    width = file.key(ModelKey.EMBEDDING_LENGTH)
    heads = count(file, ModelKey.HEAD_COUNT)
    kv_heads = count(file, ModelKey.HEAD_COUNT_KV, heads)
    if heads % kv_heads:
        raise file.fault(f"{heads} heads cannot share {kv_heads} key-value heads evenly")
    head_size = _head_size(file, width // heads)
    if file.key(ModelKey.EMBEDDING_LENGTH_OUT, width) not in (0, width):
        raise file.key_fault(ModelKey.EMBEDDING_LENGTH_OUT, f"is not the {width} of embedding_length")
    experts = file.key(ModelKey.EXPERT_COUNT, 0)
    if experts:
        count(file, ModelKey.EXPERT_USED_COUNT)
    return LayerSizes(
        layers=file.key(ModelKey.BLOCK_COUNT),
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        feed_forward=count(file, ModelKey.FEED_FORWARD_LENGTH),
        experts=experts,
        shared_feed_forward=_shared_feed_forward(file),
        pieces=file.vocabulary_size,
    )


def _shared_feed_forward(file: GgufFile) -> int:
    """Columns of the expert that every token uses, 0 where there is none; the plain graph has none."""
    if file.architecture != WINDOWED_ARCHITECTURE:
        return 0
    return int(file.key(ModelKey.EXPERT_SHARED_FEED_FORWARD_LENGTH, 0))


def _head_size(file: GgufFile, usual: int) -> int:
    """Columns of a head, which every key must agree on; `usual` where the file does not say."""
    size = file.key(ModelKey.KEY_LENGTH, usual)
    if not size or size % 2:
        raise file.fault(f"a head has {size} columns, but rotating them by pairs needs an even number")
    for key in SIZES_OF_A_HEAD:
        found = file.key(key, usual if key == ModelKey.VALUE_LENGTH else size)  # llama.cpp's own defaults
        if found != size:
            raise file.key_fault(key, f"is {found}, but a head has {size} columns")
    return int(size)


def count(file: GgufFile, key: str, usual: int | None = None) -> int:
    """A number that must be at least 1 and, where the file gives one for each layer, the same for all."""
    value: Any = file.key(key, usual)
    if value is None:
        raise file.key_fault(key, "is missing")
    if isinstance(value, tuple):
        if len(set(value)) != 1:
            raise file.key_fault(key, "differs between layers, which the graph cannot do")
        value = value[0]
    if value < 1:
        raise file.key_fault(key, f"is {value}, but must be at least 1")
    return int(value)


def _check_tensor(file: GgufFile, need: RequiredTensor) -> None:
    tensor = file.tensors.get(need.name)
    if tensor is None:
        if need.required:
            raise file.fault(f"tensor '{need.name}' is missing")
        return
    if _without_ones(tensor.shape) != _without_ones(need.shape):
        raise file.fault(f"tensor '{need.name}' has shape {list(tensor.shape)}, but must have {list(need.shape)}")
    if tensor.type not in need.kinds:
        usable = "F32" if need.kinds == PLAIN else "a type that matrices are multiplied in"
        raise file.fault(f"tensor '{need.name}' is {tensor.type}, but must be {usable}")


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without outer dimensions of 1, which a file may leave out."""
    count = len(shape)
    while count and shape[count - 1] == 1:
        count -= 1
    return shape[:count]


def tensor_needs(file: GgufFile, sizes: LayerSizes) -> Iterator[RequiredTensor]:
    """Every tensor that llama.cpp looks for."""
    yield matrix("token_embd", sizes.width, sizes.pieces)
    yield RequiredTensor("output_norm.weight", (sizes.width,), PLAIN)
    yield matrix("output", sizes.width, sizes.pieces, required=False)
    output = file.tensors.get("output.weight")
    if output and output.type == "NVFP4":
        yield from scales("output", 1)
    if file.architecture == QWEN2_ARCHITECTURE:
        yield RequiredTensor("output.bias", (sizes.pieces,), PLAIN, required=False)
    longrope = file.key(ModelKey.ROPE_SCALING_TYPE) == "longrope"
    for name in ("rope_factors_long", "rope_factors_short") if longrope else ("rope_freqs",):
        yield RequiredTensor(f"{name}.weight", (sizes.head_size // 2,), PLAIN, required=False)
    for layer in range(sizes.layers):
        yield from _attention(file, sizes, f"blk.{layer}.")
        yield from (_experts if sizes.experts else _feed_forward)(file, sizes, f"blk.{layer}.")


def _attention(file: GgufFile, sizes: LayerSizes, layer: str) -> Iterator[RequiredTensor]:
    yield RequiredTensor(f"{layer}attn_norm.weight", (sizes.width,), PLAIN)
    parts = {"attn_q": sizes.queries, "attn_k": sizes.keys, "attn_v": sizes.keys}
    if f"{layer}attn_qkv.weight" in file.tensors:
        rows = sum(parts.values())
        yield matrix(f"{layer}attn_qkv", sizes.width, rows)
        yield from scales(f"{layer}attn_qkv", 1)
        if f"{layer}attn_qkv.bias" in file.tensors:
            parts = {"attn_qkv": rows}
    else:
        for part, rows in parts.items():
            yield matrix(layer + part, sizes.width, rows)
            yield from scales(layer + part, 1)
    for part, rows in parts.items():
        yield RequiredTensor(f"{layer}{part}.bias", (rows,), PLAIN, required=False)
    yield matrix(f"{layer}attn_output", sizes.queries, sizes.width)
    yield RequiredTensor(f"{layer}attn_output.bias", (sizes.width,), PLAIN, required=False)
    yield from scales(f"{layer}attn_output", 1)
    if file.architecture == QWEN3_ARCHITECTURE:
        yield RequiredTensor(f"{layer}attn_q_norm.weight", (sizes.head_size,), PLAIN)
        yield RequiredTensor(f"{layer}attn_k_norm.weight", (sizes.head_size,), PLAIN)
    if file.architecture == WINDOWED_ARCHITECTURE:
        yield RequiredTensor(f"{layer}attn_sinks.weight", (sizes.heads,), PLAIN)


def _feed_forward(_file: GgufFile, sizes: LayerSizes, layer: str) -> Iterator[RequiredTensor]:
    width, rows = sizes.width, sizes.feed_forward
    yield RequiredTensor(f"{layer}ffn_norm.weight", (width,), PLAIN)
    for part, shape in {"ffn_gate": (width, rows), "ffn_down": (rows, width), "ffn_up": (width, rows)}.items():
        yield matrix(layer + part, *shape)
        yield RequiredTensor(f"{layer}{part}.bias", shape[1:], PLAIN, required=False)
        yield from scales(layer + part, 1)


def _experts(file: GgufFile, sizes: LayerSizes, layer: str) -> Iterator[RequiredTensor]:
    width, rows, experts = sizes.width, sizes.feed_forward, sizes.experts
    yield RequiredTensor(f"{layer}ffn_norm.weight", (width,), PLAIN)
    yield matrix(f"{layer}ffn_gate_inp", width, experts)
    parts = {"ffn_down_exps": (rows, width), "ffn_gate_exps": (width, rows), "ffn_up_exps": (width, rows)}
    fused = f"{layer}ffn_gate_up_exps.weight" in file.tensors and file.architecture == WINDOWED_ARCHITECTURE
    if fused:
        parts = {"ffn_down_exps": (rows, width), "ffn_gate_up_exps": (width, 2 * rows)}
    for part, shape in parts.items():
        yield matrix(layer + part, *shape, experts)
        if part != "ffn_gate_up_exps":
            yield from scales(layer + part, experts)
    shared = sizes.shared_feed_forward
    if shared:
        yield matrix(f"{layer}ffn_up_shexp", width, 2 * shared)
        yield matrix(f"{layer}ffn_down_shexp", shared, width)
        yield from scales(f"{layer}ffn_up_shexp", 1)
        yield from scales(f"{layer}ffn_down_shexp", 1)


def matrix(name: str, *shape: int, required: bool = True) -> RequiredTensor:
    """A tensor that others are multiplied by; `shape` is in ggml's order."""
    return RequiredTensor(f"{name}.weight", shape, MATRIX_TYPES, required)


def scales(name: str, count: int) -> Iterator[RequiredTensor]:
    """The factors of a whole tensor, or of each of its experts, that some 4-bit formats have."""
    for suffix in ("scale", "input_scale"):
        yield RequiredTensor(f"{name}.{suffix}", (count,), PLAIN, required=False)
