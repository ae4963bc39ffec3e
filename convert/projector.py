"""Draft the mmproj file of a model that sees: its picture encoder, and what brings the output to the model's width."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chat.errors import ChatError, DataError, UsageError
from chat.gguf.keys import PICTURE_ARCHITECTURE, PICTURE_ENCODER_FILE, GeneralKey, MistralChatKey, ModelKey, PictureKey
from chat.gguf.writer import KeyValue
from convert.architecture.supported import can_hear
from convert.architecture.vision import ENCODER, NORM_EPSILON, ROPE_THETA, encoder_kind, read_vision
from convert.checkpoint.folder import inside
from convert.checkpoint.json_file import read_json_object
from convert.draft import ConversionDraft, ProjectorDetails, make_jobs
from convert.output.metadata import QUANTIZATION_VERSION, fingerprint, rounded_count, short_name
from convert.quantize.kernels import BLOCK_TYPES
from convert.quantize.recipes import find_recipe, place_tensors
from convert.tensors.layout import count_parameters
from convert.tensors.vision_model import lay_out_vision, read_vision_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from convert.architecture.vision import VisionSizes
    from convert.checkpoint.folder import Checkpoint
    from convert.draft import ConversionReport
    from convert.quantize.kernels import TensorType
    from convert.tensors.layout import OutputTensor
    from convert.tokenizer.vocabulary import GgufVocabulary

TYPES = ("F16", "F32", "BF16", "Q8_0")
DEFAULT_TYPE = "F16"
CONTROL_PIECES = ("[IMG]", "[IMG_BREAK]", "[IMG_END]")
WITHOUT = "`--no-mmproj` converts the model without it"
# llama.cpp lays patches out by an operation that knows F16 and F32 only (ggml_im2col)
_UNROLLED = ("v.patch_embd.weight", "mm.patch_merger.weight")
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")  # the second one counts


@dataclass(frozen=True)
class Projector:
    """What a model sees with.

    Attributes:
        tensors: of the mmproj file.
        sizes: of the encoder.
        name: of the checkpoint.
        sha256: of the encoder's tensors and the configuration.
        warnings: for the user.
    """

    tensors: tuple[OutputTensor, ...]
    sizes: VisionSizes
    name: str
    sha256: str
    warnings: tuple[str, ...] = ()

    def draft(self, type_name: str, path: Path, model_keys: Sequence[KeyValue]) -> ConversionDraft:
        """Decide the whole mmproj file.

        Args:
            type_name: of its matrices, one of `TYPES`.
            path: of the file.
            model_keys: of the model that it belongs to.
        """
        chosen = [(each.name, each.shape, _type_of(each.name, each.shape, type_name)) for each in self.tensors]
        plan = place_tensors(type_name, chosen)
        parameters = count_parameters(self.tensors)
        return ConversionDraft(
            path=path,
            keys=tuple(self._keys(find_recipe(type_name).file_type, parameters)),
            plan=plan,
            jobs=make_jobs(plan, self.tensors),
            architecture=PICTURE_ARCHITECTURE,
            source=self.name,
            details=ProjectorDetails(
                image_size=self.sizes.largest,
                patch_size=self.sizes.patch,
                merge_size=self.sizes.merge or 1,
                parameters=parameters,
                sha256=self.sha256,
            ),
            warnings=self.warnings,
            model_keys=tuple(model_keys),
        )

    def notes(self, path: Path) -> tuple[KeyValue, ...]:
        """What the model's file says of this one."""
        return (
            KeyValue(MistralChatKey.MMPROJ, "str", path.name),
            KeyValue(MistralChatKey.MMPROJ_SHA256, "str", self.sha256),
        )

    def _keys(self, file_type: int, parameters: int) -> list[KeyValue]:
        """The keys of llama.cpp's converter, in its order, and our own."""
        sizes = self.sizes
        width = self.tensors[-1].shape[-1]
        activation = PictureKey.SILU if sizes.activation == "silu" else PictureKey.GELU
        theta_key = f"{PICTURE_ARCHITECTURE}.{ModelKey.ROPE_FREQ_BASE}"
        theta = [KeyValue(theta_key, "f32", ROPE_THETA)] if sizes.is_original else []
        merge = [] if sizes.merge is None else [KeyValue(PictureKey.MERGE, "u32", sizes.merge)]
        return [
            KeyValue(GeneralKey.ARCHITECTURE, "str", PICTURE_ARCHITECTURE),
            KeyValue(GeneralKey.TYPE, "str", PICTURE_ENCODER_FILE),
            KeyValue(GeneralKey.NAME, "str", short_name(self.name)),
            KeyValue(GeneralKey.SIZE_LABEL, "str", rounded_count(parameters)),
            KeyValue(GeneralKey.FILE_TYPE, "u32", file_type),
            KeyValue(PictureKey.HAS_VISION, "bool", True),
            KeyValue(PictureKey.TEXT_WIDTH, "u32", width),
            KeyValue(PictureKey.SIDE, "u32", sizes.largest),
            KeyValue(PictureKey.PATCH, "u32", sizes.patch),
            KeyValue(PictureKey.WIDTH, "u32", sizes.width),
            KeyValue(PictureKey.HIDDEN, "u32", sizes.hidden),
            KeyValue(PictureKey.LAYERS, "u32", sizes.layers),
            KeyValue(PictureKey.HEADS, "u32", sizes.heads),
            KeyValue(PictureKey.MEAN, "f32", sizes.mean),
            KeyValue(PictureKey.DEVIATION, "f32", sizes.deviation),
            KeyValue(PictureKey.PROJECTOR, "str", ENCODER),
            KeyValue(PictureKey.EPSILON, "f32", NORM_EPSILON),
            *theta,
            KeyValue(activation, "bool", True),
            *merge,
            KeyValue(MistralChatKey.SOURCE, "str", self.name),
            KeyValue(MistralChatKey.MMPROJ_SHA256, "str", self.sha256),
            KeyValue(GeneralKey.QUANTIZATION_VERSION, "u32", QUANTIZATION_VERSION),
        ]


def open_projector(
    checkpoint: Checkpoint, embedding: OutputTensor, vocabulary: GgufVocabulary, known_warnings: Sequence[str]
) -> Projector | None:
    """Open the picture encoder of a checkpoint, without reading weights.

    Args:
        checkpoint: of the whole model.
        embedding: of the text model.
        vocabulary: of the text model.
        known_warnings: that the text part gave already.

    Returns:
        None where the model does not see, or sees through an encoder of another family.

    Raises:
        ChatError: the picture encoder is not usable.
    """
    if can_hear(checkpoint.tensors, checkpoint.config):
        return None
    try:
        model = read_vision_model(checkpoint) if encoder_kind(checkpoint.config) in ("", ENCODER) else None
        if model is None or not (model.tensors or encoder_kind(checkpoint.config)):
            return None
        if not encoder_kind(checkpoint.config):
            raise DataError(
                f"{checkpoint.config_path}: does not describe the picture encoder, of which the checkpoint has "
                f"{len(model.stored)} tensors"
            )
        if not model.tensors:
            raise DataError(
                f"{checkpoint.folder}: has no tensors of the picture encoder in {checkpoint.config_path.name}"
            )
        sizes = read_vision(checkpoint.config_path, checkpoint.config, *_read_processor(checkpoint))
        break_id = _check_pieces(checkpoint, vocabulary, sizes.tokens)
        return Projector(
            tensors=lay_out_vision(model, sizes, embedding, break_id),
            sizes=sizes,
            name=checkpoint.name,
            sha256=fingerprint(checkpoint, model.stored),
            warnings=tuple(warning for warning in model.warnings if warning not in known_warnings),
        )
    except ChatError as error:
        raise type(error)(error.message, hint=error.hint or WITHOUT) from error


def path_beside(model: Path, model_type: str, type_name: str) -> Path:
    """The mmproj file's path, as llama.cpp names it: `mmproj-NAME-F16.gguf` beside `NAME-Q4_K_M.gguf`."""
    stem = model.name.removesuffix(".gguf")
    name = re.sub(rf"-{re.escape(model_type)}$", "", stem, flags=re.IGNORECASE)
    return model.with_name(f"mmproj-{name or stem}-{type_name}.gguf")


def is_there(draft: ConversionDraft) -> bool:
    """Whether the mmproj file exists as it would be written: of the same header, which has the encoder's hash."""
    if not draft.path.is_file():  # opening a pipe would wait
        return False
    try:
        with draft.path.open("rb") as file:
            return draft.path.stat().st_size == draft.size and file.read(len(draft.header)) == draft.header
    except OSError:
        return False


def files_to_write(drafts: Sequence[ConversionDraft], *, overwrite: bool) -> tuple[ConversionDraft, ...]:
    """The drafts, and that of the mmproj file beside them unless it is there already.

    Args:
        drafts: of models of one source, which all have the same mmproj file or none.
        overwrite: an mmproj file that is there is written again.
    """
    projector = drafts[0].projector
    if projector is None or (not overwrite and is_there(projector)):
        return tuple(drafts)
    return (*drafts, projector)


def kept_report(projector: ConversionDraft) -> ConversionReport:
    """The report of an mmproj file that is there already."""
    report = projector.report()
    assert isinstance(report.details, ProjectorDetails)
    return replace(report, details=replace(report.details, kept=True))


def read_type(name: str | None) -> str:
    """The value of `--mmproj-type`.

    Raises:
        UsageError: there is no such type, or llama.cpp does not compute pictures with it.
    """
    if name is None:
        return DEFAULT_TYPE
    if name.upper() not in TYPES:
        raise UsageError(f"a picture encoder cannot be of type `{name}`", hint=f"types are {', '.join(TYPES)}")
    return name.upper()


def _type_of(name: str, shape: tuple[int, ...], type_name: str) -> TensorType:
    """The type of one tensor, as llama.cpp's converter chooses it (conversion/base.py)."""
    if len(shape) == 1:
        return BLOCK_TYPES["F32"]
    if name in _UNROLLED:
        return BLOCK_TYPES["F16" if type_name == "F16" else "F32"]
    kind = BLOCK_TYPES[type_name]
    return kind if kind.fits(shape[-1]) else BLOCK_TYPES["F16"]


def _read_processor(checkpoint: Checkpoint) -> tuple[Mapping[str, Any], Path]:
    """How pictures are prepared, as a Hugging Face folder says; nothing where it does not."""
    values: dict[str, Any] = {}
    found = checkpoint.folder / _PROCESSORS[0]
    for name in _PROCESSORS if checkpoint.config_path.name == "config.json" else ():
        if (checkpoint.folder / name).is_file():
            found = inside(checkpoint.folder, name)
            stated = read_json_object(found)
            inner = stated.get("image_processor")
            values |= {**stated, **(inner if isinstance(inner, dict) else {})}
    return values, found


def _check_pieces(checkpoint: Checkpoint, vocabulary: GgufVocabulary, stated: Mapping[str, int]) -> int:
    """The id of [IMG_BREAK].

    Raises:
        DataError: the tokenizer lacks a piece that stands for a picture, or gives it another id than the configuration.
    """
    ids = {piece.text.decode("utf-8", "replace"): token for token, piece in enumerate(vocabulary.pieces)}
    for name in CONTROL_PIECES:
        if name not in ids:
            raise DataError(f"{checkpoint.folder}: the tokenizer has no piece `{name}`, which pictures need")
        if stated.get(name, ids[name]) != ids[name]:
            raise DataError(
                f"{checkpoint.config_path}: gives `{name}` the id {stated[name]}, but the tokenizer {ids[name]}"
            )
    return ids["[IMG_BREAK]"]
