"""Read the sizes of a picture encoder and of what projects its output, from config.json or params.json.

Only Pixtral's encoder is known, which all of Mistral's models that see have. llama.cpp computes it with fixed values
where other programs read them from the configuration (clip.cpp, models/pixtral.cpp): these are checked here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chat.errors import DataError, ModelError
from convert.architecture.config_reader import ConfigReader, told
from convert.architecture.hyperparameters import LAYER_LIMIT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from convert.architecture.hyperparameters import Shape

ENCODER = "pixtral"  # `model_type` of the encoder
CHANNELS = 3
NORM_EPSILON = 1e-5  # of the encoder, in transformers and in mistral-inference
ROPE_THETA = 10000.0
LARGEST_PICTURE = 8192  # pixels on a side that llama.cpp allows
LARGEST_MEAN = 1e6
GELUS = ("gelu", "gelu_new", "gelu_pytorch_tanh")
# of red, green and blue: transformers' PixtralImageProcessor and mistral-common have the same
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
# transformers' PixtralVisionConfig, which a config.json may leave out
DEFAULTS: Mapping[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 1024,
    "patch_size": 16,
    "hidden_act": "gelu",
}


@dataclass(frozen=True)
class VisionSizes:
    """A picture encoder and its projector.

    Attributes:
        layers: of the encoder.
        width: of its residual stream.
        heads: of its attention.
        hidden: width of its feed-forward network.
        patch: pixels on a side of a patch.
        largest: pixels of a picture's longer side.
        merge: patches on a side of the square that becomes one token; None without a patch merger.
        activation: `silu` or `gelu`.
        has_bias: whether the projector's layers have biases; None where the configuration does not say.
        is_original: described by params.json.
        mean: of the pixels of each channel.
        deviation: of the pixels of each channel.
        tokens: ids that the configuration gives control pieces, by their names.
    """

    layers: int
    width: int
    heads: int
    hidden: int
    patch: int
    largest: int
    merge: int | None
    activation: str
    has_bias: bool | None
    is_original: bool
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    tokens: Mapping[str, int]

    @property
    def head_dim(self) -> int:
        """Columns of a head."""
        return self.width // self.heads

    def shapes(self, text_width: int, *, has_bias: bool) -> Mapping[str, Shape]:
        """Names and row-major shapes of the tensors of the GGUF but for the embedding of [IMG_BREAK].

        Args:
            text_width: of the model that reads the pictures.
            has_bias: whether the projector's layers have biases.
        """
        width, hidden = self.width, self.hidden
        shapes: dict[str, Shape] = {
            "v.patch_embd.weight": (width, CHANNELS, self.patch, self.patch),
            "v.pre_ln.weight": (width,),
            "mm.1.weight": (text_width, width),
            "mm.2.weight": (text_width, text_width),
        }
        if has_bias:
            shapes |= {"mm.1.bias": (text_width,), "mm.2.bias": (text_width,)}
        if self.merge is not None:
            shapes |= {"mm.input_norm.weight": (width,), "mm.patch_merger.weight": (width, width * self.merge**2)}
        for layer in range(self.layers):
            at = f"v.blk.{layer}."
            shapes |= {f"{at}ln{number}.weight": (width,) for number in (1, 2)}
            shapes |= {f"{at}attn_{part}.weight": (width, width) for part in ("q", "k", "v", "out")}
            shapes |= {f"{at}ffn_{part}.weight": (hidden, width) for part in ("gate", "up")}
            shapes[f"{at}ffn_down.weight"] = (width, hidden)
        return shapes


def vision_settings(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What config.json or params.json says of a picture encoder; None where it says nothing."""
    stated = config.get("vision_config") or config.get("vision_encoder")
    return stated if isinstance(stated, dict) else None


def encoder_kind(config: Mapping[str, Any]) -> str:
    """The kind of picture encoder that a configuration describes; empty where it describes none."""
    stated = vision_settings(config)
    return "" if stated is None else str(stated.get("model_type") or ENCODER)


def read_vision(
    path: Path, config: Mapping[str, Any], processor: Mapping[str, Any], processor_path: Path
) -> VisionSizes:
    """Read the sizes of Pixtral's encoder.

    Args:
        path: of the configuration, for messages.
        config: the whole of it.
        processor: how pictures are prepared, as preprocessor_config.json says; empty where there is none.
        processor_path: for messages.

    Raises:
        DataError: a value is missing or impossible.
        ModelError: llama.cpp computes this kind in another way.
    """
    is_original = "vision_encoder" in config
    stated = vision_settings(config) or {}
    read = ConfigReader(path, stated if is_original else {**DEFAULTS, **_given(stated)})
    outer = ConfigReader(path, config)
    merge = _original_merge(read) if is_original else _merge(outer)
    sizes = VisionSizes(
        layers=_needed(read, "num_hidden_layers", LAYER_LIMIT),
        width=_needed(read, "hidden_size"),
        heads=_needed(read, "num_attention_heads"),
        hidden=_needed(read, "intermediate_size"),
        patch=_side(read, "patch_size"),
        largest=_side(read, "image_size"),
        merge=merge,
        activation="silu" if is_original else _activation(read),
        has_bias=_flag(read.get("adapter_bias") if is_original else outer.get("multimodal_projector_bias")),
        is_original=is_original,
        mean=_channels(processor, "image_mean", MEAN, processor_path),
        deviation=_channels(processor, "image_std", DEVIATION, processor_path),
        tokens=_original_tokens(read) if is_original else _tokens(outer),
    )
    _check(read, sizes)
    if not is_original:
        _check_outer(outer, sizes)
    return sizes


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _needed(read: ConfigReader, name: str, limit: int = 1 << 16) -> int:
    value = read.count(name, limit=limit)
    if value is None:
        raise DataError(f"{read.path}: `{name}` of the picture encoder is missing")
    return value


def _side(read: ConfigReader, name: str) -> int:
    """Pixels on a side; transformers also writes height and width."""
    value = read.get(name)
    if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
        read = ConfigReader(read.path, {name: value[0]})
    return _needed(read, name, LARGEST_PICTURE)


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _activation(read: ConfigReader) -> str:
    name = str(read.get("hidden_act"))
    if name != "silu" and name not in GELUS:
        raise ModelError(
            f"{read.path}: the picture encoder's activation {name[:60]} cannot be converted; only silu and gelu can"
        )
    return "silu" if name == "silu" else "gelu"


def _merge(outer: ConfigReader) -> int | None:
    stated = outer.count("spatial_merge_size", limit=16)
    if stated is None and "Mistral3ForConditionalGeneration" in str(outer.get("architectures")):
        return 2  # transformers' default
    return stated


def _original_merge(read: ConfigReader) -> int | None:
    kind = read.get("mm_projector_id") or ""
    has_norm = bool(read.get("add_pre_mm_projector_layer_norm"))
    if kind not in ("", "patch_merge") or has_norm != (kind == "patch_merge"):
        norm = "a norm" if has_norm else "no norm"
        raise ModelError(
            f"{read.path}: a projector of the kind {told(kind)} with {norm} before it cannot be converted: llama.cpp "
            "has no graph for it"
        )
    return _needed(read, "spatial_merge_size", 16) if kind else None


def _tokens(outer: ConfigReader) -> dict[str, int]:
    image = outer.get("image_token_index", "image_token_id")
    return {"[IMG]": image} if type(image) is int else {}


def _original_tokens(read: ConfigReader) -> dict[str, int]:
    stated = {f"[{name}]": read.get(f"{key}_token_id") for name, key in (
        ("IMG", "image"), ("IMG_BREAK", "image_break"), ("IMG_END", "image_end"))}  # fmt: skip
    return {name: token for name, token in stated.items() if type(token) is int and token >= 0}


def _channels(processor: Mapping[str, Any], name: str, default: tuple[float, ...], path: Path) -> tuple[float, ...]:
    """Three numbers, one for each colour."""
    values = processor.get(name)
    if values is None:
        return default
    is_list = isinstance(values, list) and len(values) == CHANNELS
    if not is_list or not all(type(value) in (int, float) and abs(value) < LARGEST_MEAN for value in values):
        raise DataError(f"{path}: `{name}` is {told(values)}, but must be {CHANNELS} numbers")
    if name == "image_std" and min(values) <= 0:
        raise DataError(f"{path}: `{name}` is {told(values)}, but must be {CHANNELS} positive numbers")
    return tuple(float(value) for value in values)


def _check(read: ConfigReader, sizes: VisionSizes) -> None:
    """Refuse what llama.cpp's graph does not compute."""
    if sizes.width % sizes.heads or sizes.head_dim % 4:
        raise DataError(
            f"{read.path}: a picture encoder of {sizes.width} columns cannot have {sizes.heads} heads, each of which "
            "is turned by height and by width"
        )
    if sizes.largest % sizes.patch:
        raise DataError(
            f"{read.path}: pictures of {sizes.largest} pixels do not divide into patches of {sizes.patch} pixels"
        )
    channels = read.get("num_channels")
    if channels not in (None, CHANNELS):
        raise ModelError(f"{read.path}: pictures of {told(channels)} channels cannot be converted; only {CHANNELS} can")
    theta = read.inner("rope_parameters").number("rope_theta") or read.number("rope_theta")
    if theta not in (None, ROPE_THETA):
        raise ModelError(
            f"{read.path}: a picture encoder with `rope_theta` {theta:g} cannot be converted: llama.cpp has "
            f"{ROPE_THETA:g} for all"
        )


def _check_outer(outer: ConfigReader, sizes: VisionSizes) -> None:
    activation = outer.get("projector_hidden_act") or "gelu"
    if activation not in GELUS:
        raise ModelError(
            f"{outer.path}: the projector's activation {told(activation)} cannot be converted; only gelu can"
        )
    layer = outer.get("vision_feature_layer")
    first = layer[0] if isinstance(layer, list) and len(layer) == 1 else layer
    if first not in (None, -1, sizes.layers):
        raise ModelError(
            f"{outer.path}: a projector of the output of layer {told(layer)} cannot be converted: llama.cpp takes the "
            "last layer's"
        )
    if outer.get("vision_feature_select_strategy") == "default":
        raise ModelError(f"{outer.path}: a projector without a picture's first patch cannot be converted")
