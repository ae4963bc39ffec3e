"""Open LoRA adapters: which matrices change which tensor of the GGUF, and at which scale.

Two kinds: PEFT's (adapter_config.json beside adapter_model.safetensors or .bin; Hugging Face's names) and
mistral-finetune's (lora.safetensors; the original names; scale 2.0 unless its params.json says otherwise).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

from chat.errors import DataError, ModelError
from convert.architecture.supported import text_name
from convert.checkpoint.folder import inside, name_of
from convert.checkpoint.json_file import read_json_object
from convert.checkpoint.rows import DECODERS
from convert.checkpoint.safetensors_file import open_safetensors
from convert.dequantize.parts import Part
from convert.lora.config import LoraSettings, read_lora_settings
from convert.tensors.names import meaning_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from convert.checkpoint.mapped_file import TensorFile
    from convert.tensors.names import Meaning

MISTRAL_SCALE = 2.0  # mistral-inference's own default
PEFT_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
MISTRAL_WEIGHTS = "lora.safetensors"
# PEFT leaves the adapter's name out; who saves all of a wrapped model keeps it, `default` as a rule
_NAME = r"(\.(?!weight$)[\w-]+)?"
_HALF = re.compile(rf"^(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<half>[AB]){_NAME}(\.weight)?$")
_WHOLE = re.compile(rf"^(?P<module>.+?)(?P<kind>\.modules_to_save{_NAME}|\.original_module)?\.weight$")
OUTPUT = "output"
ENDS = ("token_embd", OUTPUT)  # which a tied model has as one
_PREFIX = "base_model.model."


@dataclass(frozen=True)
class LowRankPair:
    """The two matrices of a module: its weight gets `scale * b @ a` added.

    a is (rank, inputs) and b (outputs, rank); those of an embedding are (rank, pieces) and (width, rank), and the
    transposed product is added.
    """

    module: str  # the checkpoint's own name, without `.weight`
    meaning: Meaning
    a: Part
    b: Part
    rank: int
    scale: float
    is_embedding: bool = False


@dataclass(frozen=True)
class FullTensor:
    """A whole tensor of the adapter, which replaces the base's."""

    meaning: Meaning
    part: Part


@dataclass(frozen=True)
class Adapter:
    """One opened adapter, checked without its base."""

    path: Path
    alpha: float | None  # of its configuration, for the GGUF's key
    pairs: tuple[LowRankPair, ...]
    wholes: tuple[FullTensor, ...]
    warnings: tuple[str, ...] = ()

    @property
    def has_own_ends(self) -> bool:
        """Whether a tied model no longer is with it: it replaces an end, or changes the output layer alone."""
        replaces = any(whole.meaning.part in ENDS for whole in self.wholes)
        return replaces or any(pair.meaning.part == OUTPUT for pair in self.pairs)

    @property
    def changes_ends(self) -> bool:
        """Whether it replaces or changes the embedding or the output layer."""
        return self.has_own_ends or any(pair.meaning.part in ENDS for pair in self.pairs)

    @property
    def parts(self) -> tuple[Part, ...]:
        """All its tensors."""
        halves = [part for pair in self.pairs for part in (pair.a, pair.b)]
        return (*halves, *(whole.part for whole in self.wholes))

    @property
    def name(self) -> str:
        """The name of its repository, or of its folder."""
        return name_of(self.path.parent)


def is_adapter(path: Path) -> bool:
    """Whether a folder or file is a LoRA adapter rather than a model."""
    if not path.is_dir():
        return path.name in (*PEFT_WEIGHTS, MISTRAL_WEIGHTS)
    is_model = any((path / name).is_file() for name in ("config.json", "consolidated.safetensors"))
    names = ("adapter_config.json", *PEFT_WEIGHTS, MISTRAL_WEIGHTS)
    return not is_model and any((path / name).is_file() for name in names)


def open_adapter(path: Path) -> Adapter:
    """Open an adapter: its folder, or its file of weights.

    Raises:
        ModelError: there is none, or it is of a kind that cannot be merged.
        DataError: it breaks a rule, or its tensors are not those of a Mistral model.
    """
    weights = _weights_path(path)
    if weights.suffix == ".bin":
        from convert.checkpoint.torch_file import open_torch

        file = open_torch(weights)
    else:
        file = open_safetensors(weights)
    config_path = weights.parent / "adapter_config.json"
    if weights.name in PEFT_WEIGHTS:
        if not config_path.exists():
            raise DataError(f"{weights.parent}: `adapter_config.json` is missing, which says the adapter's scale")
        config_path = inside(weights.parent, config_path.name)
        return _read(file, read_lora_settings(config_path, read_json_object(config_path)), MISTRAL_SCALE)
    return _read(file, None, _mistral_scale(weights.parent))


def open_adapters(files: Sequence[tuple[Path, float]]) -> list[tuple[Adapter, float]]:
    """Open adapters, each with the scale that the user gives it.

    Raises:
        ModelError: one is missing, or of a kind that cannot be merged.
        DataError: one breaks a rule, or its tensors are not those of a Mistral model.
    """
    return [(open_adapter(path), scale) for path, scale in files]


def _weights_path(path: Path) -> Path:
    if path.is_dir():
        found = next((name for name in (*PEFT_WEIGHTS, MISTRAL_WEIGHTS) if (path / name).is_file()), None)
        if found is None:
            raise ModelError(
                f"{path}: no adapter there", hint=f"its weights are {', '.join(PEFT_WEIGHTS)} or lora.safetensors"
            )
        return inside(path, found)
    if not path.exists():
        raise ModelError(f"{path}: no such adapter")
    if path.suffix == ".gguf":
        raise ModelError(f"{path}: is a GGUF, which cannot be merged", hint="name the adapter's own folder")
    if path.suffix not in (".safetensors", ".bin"):
        raise ModelError(f"{path}: is not an adapter", hint="name the adapter's folder")
    return path


def _mistral_scale(folder: Path) -> float:
    """What mistral-finetune's params.json says, else its default."""
    if not (folder / "params.json").is_file():
        return MISTRAL_SCALE
    path = inside(folder, "params.json")
    lora = read_json_object(path).get("lora")
    scale = lora.get("scaling", MISTRAL_SCALE) if isinstance(lora, dict) else MISTRAL_SCALE
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not isfinite(scale):
        raise DataError(f"{path}: the adapter's `scaling` is {str(scale)[:40]}, but must be a number")
    return float(scale)


def _read(file: TensorFile, settings: LoraSettings | None, scale: float) -> Adapter:
    halves: dict[str, dict[str, tuple[Part, bool]]] = {}
    wholes: dict[str, tuple[Part, bool]] = {}
    image_tensors = 0
    for name, entry in file.tensors.items():
        plain = text_name(name.removeprefix(_PREFIX))
        part = Part(file, entry)
        if plain is None:
            image_tensors += 1
        elif match := _HALF.match(plain):
            half = halves.setdefault(match["module"], {})
            if match["half"] in half:
                raise part.fault("is there twice")
            half[match["half"]] = (part, match["embedding"] is not None)
        elif (match := _WHOLE.match(plain)) and settings is not None:
            _add_whole(wholes, match, part)
        else:
            raise part.fault("does not belong to a LoRA adapter")
    pairs = tuple(_pair(module, half, settings, scale) for module, half in halves.items())
    if not pairs and not wholes:
        raise DataError(f"{file.path}: the adapter changes nothing of the text model")
    return Adapter(
        file.path,
        None if settings is None else settings.alpha,
        pairs,
        tuple(FullTensor(meaning_of(f"{module}.weight"), part) for module, (part, _) in wholes.items()),
        (f"{file.path}: {image_tensors} tensors for images are left out",) if image_tensors else (),
    )


def _add_whole(wholes: dict[str, tuple[Part, bool]], match: re.Match[str], part: Part) -> None:
    """Keep the trained one of the tensors of a module, each with whether its name says that it is trained."""
    module, kind = match["module"], match["kind"] or ""
    if kind == ".original_module" or module.endswith(".base_layer"):
        return  # the base's own, which PEFT saves beside an adapter of it
    is_trained = bool(kind)
    if module in wholes and wholes[module][1] == is_trained:
        raise part.fault("is there twice")
    if module not in wholes or is_trained:
        wholes[module] = (part, is_trained)


def _pair(
    module: str, half: Mapping[str, tuple[Part, bool]], settings: LoraSettings | None, scale: float
) -> LowRankPair:
    if len(half) < 2:
        part = next(iter(half.values()))[0]
        raise part.fault("has no partner: lora_A and lora_B come in pairs")
    (a, is_embedding), (b, is_b_embedding) = half["A"], half["B"]
    for part in (a, b):
        if part.entry.dtype not in DECODERS:
            raise part.fault(f"holds {part.entry.dtype}, not floats")
        if len(part.entry.shape) != 2:
            raise part.fault(f"has shape {list(part.entry.shape)}, but must be a matrix")
    rank = a.entry.shape[0]
    if b.entry.shape[1] != rank or is_embedding != is_b_embedding or not rank:
        raise b.fault(f"has shape {list(b.entry.shape)}, but its lora_A is of rank {rank}")
    if settings is not None and settings.rank_of(module) != rank:
        raise a.fault(f"is of rank {rank}, but {settings.path.name} says {settings.rank_of(module)}")
    own = scale if settings is None else settings.scale_of(module)
    return LowRankPair(module, meaning_of(f"{module}.weight"), a, b, rank, own, is_embedding)
