"""The options of a conversion, and a file that is decided but not written, with the report of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from chat.gguf.writer import encode_header
from convert.output.tensor_writer import Job
from convert.quantize.recipes import Facts, Plan, make_plan

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from chat.gguf.writer import KeyValue
    from convert.architecture.hyperparameters import Hyperparameters
    from convert.quantize.fit_goal import Goal
    from convert.quantize.type_overrides import TypeOverrides
    from convert.tensors.layout import OutputTensor


@dataclass(frozen=True)
class ConversionOptions:
    """The options of a conversion; names have been resolved to files and folders of this machine."""

    source: Path
    output: Path | None = None  # None: a name made of the source's and the type, in the current folder
    type: str | None = None  # None: Q4_K_M for a checkpoint, F32 for an adapter, a GGUF keeps its own types
    window: str = "auto"  # auto | off | a number of tokens
    overwrite: bool = False
    verify: bool = True
    show_progress: bool = True
    adapters: tuple[tuple[Path, float], ...] = ()  # with the scale of each, merged in this order
    base: Path | None = None  # `source` is an adapter to write for this model
    imatrix: Path | None = None
    calibrate: Path | None = None  # a text: an importance matrix is made with it first
    tensor_types: tuple[str, ...] = ()  # REGEX=TYPE; the first that matches a tensor counts
    fit: Goal | None = None  # choose the types for a size
    projector: Literal["beside", "only", "off"] = "beside"  # whether the file for pictures is written, and the model
    projector_type: str | None = None  # None is F16
    further_types: tuple[str, ...] = ()  # each makes one more file; `output` is then the folder of all of them

    @property
    def file(self) -> Path | None:
        """The one file to write; None makes a name of the source's and the type."""
        return None if self.further_types else self.output

    @property
    def folder(self) -> Path | None:
        """The folder of several files; None is the current one."""
        return self.output if self.further_types else None


@dataclass(frozen=True)
class ModelDetails:
    """What is reported of a model only."""

    JSON_KEYS: ClassVar[tuple[str, ...]] = (
        *("output", "size", "type", "architecture", "window", "context", "prompt_format", "parameters", "tensors"),
        *("tensor_bytes", "source", "source_bytes", "source_sha256", "filled_in", "warnings", "verified", "seconds"),
    )

    window: int | None  # tokens, as the file applies it
    context: int  # tokens
    prompt_format: str | None
    parameters: int
    source_bytes: int
    source_sha256: str
    filled_in: tuple[str, ...] = ()  # values that the source does not give


@dataclass(frozen=True)
class AdapterDetails:
    """What is reported of an adapter only."""

    JSON_KEYS: ClassVar[tuple[str, ...]] = (
        *("output", "size", "type", "architecture", "alpha", "tensors", "source", "base", "warnings", "verified"),
    )

    alpha: float
    base: str


@dataclass(frozen=True)
class ProjectorDetails:
    """What is reported only of a file that turns pictures into what a model reads."""

    JSON_KEYS: ClassVar[tuple[str, ...]] = (
        *("output", "size", "type", "architecture", "image_size", "patch_size", "merge_size", "parameters", "tensors"),
        *("tensor_bytes", "source", "sha256", "kept", "warnings", "verified", "seconds"),
    )

    image_size: int  # pixels of a picture's longer side
    patch_size: int  # pixels on a side
    merge_size: int  # patches on a side of the square that becomes one token
    parameters: int
    sha256: str  # of the encoder, as the model's file notes it
    kept: bool = False  # the file was there already


@dataclass(frozen=True)
class FitDetails:
    """What is reported of types that were chosen for a size.

    Attributes:
        goal: as the user wrote it.
        budget_bytes: that the file may have.
        context: tokens that the memory has room for; None where the goal is the size of the file.
        expected_kl: Kullback-Leibler divergence from the source, in nats for a token, that is expected of the file.
        by_importance: each column's error counted by an importance matrix.
        recipes: for each of some recipes the bytes of its file, and what is expected of it.
    """

    goal: str
    budget_bytes: int
    context: int | None
    expected_kl: float
    by_importance: bool
    recipes: dict[str, dict[str, float]]


@dataclass(frozen=True)
class ConversionReport:
    """What was written, or would be, for `--json` and the summary."""

    output: str
    size: int  # bytes
    type: str
    architecture: str
    tensors: int
    tensor_bytes: int
    source: str
    warnings: tuple[str, ...]
    details: ModelDetails | AdapterDetails | ProjectorDetails
    verified: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # sentences for the user, not in the JSON
    fit: FitDetails | None = None
    projector: ConversionReport | None = None

    def to_json(self) -> dict[str, Any]:
        """The report as plain values: `fit` where types were chosen for a size, `mmproj` of a model that sees."""
        values = asdict(self)
        values |= values.pop("details")
        fit = {"fit": values["fit"]} if self.fit else {}
        projector = {"mmproj": self.projector.to_json()} if self.projector else {}
        return {name: values[name] for name in self.details.JSON_KEYS} | fit | projector


@dataclass(frozen=True)
class ConversionDraft:
    """Everything about the new file that is known before the first weight is read."""

    path: Path
    keys: tuple[KeyValue, ...]
    plan: Plan
    jobs: tuple[Job, ...]  # the tensors of `plan`, each with its rows
    architecture: str
    source: str  # its name
    details: ModelDetails | AdapterDetails | ProjectorDetails
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # sentences for the user, before the file is written
    fit: FitDetails | None = None
    projector: ConversionDraft | None = None  # the file beside it that turns pictures into what the model reads
    model_keys: tuple[KeyValue, ...] = ()  # of an mmproj file's model

    @cached_property
    def header(self) -> bytes:
        """The file up to the first tensor."""
        return encode_header(self.keys, self.plan.tensors)

    @property
    def size(self) -> int:
        """Bytes of the new file."""
        return len(self.header) + self.plan.data_bytes

    def report(self) -> ConversionReport:
        """The report before the file is written."""
        return ConversionReport(
            output=str(self.path),
            size=self.size,
            type=self.plan.type_name,
            architecture=self.architecture,
            tensors=len(self.plan.tensors),
            tensor_bytes=self.plan.data_bytes,
            source=self.source,
            warnings=self.warnings,
            details=self.details,
            notes=self.notes,
            fit=self.fit,
            projector=self.projector.report() if self.projector else None,
        )

    def within(self, folder: Path) -> ConversionDraft:
        """The same file, and the one beside it, in another folder."""
        projector = self.projector and self.projector.within(folder)
        return replace(self, path=folder / self.path.name, projector=projector)


def plan_model(outputs: Sequence[OutputTensor], sizes: Hyperparameters, types: TypeOverrides) -> Plan:
    """Choose the type and the place of each tensor of a model with these sizes."""
    facts = Facts(
        sizes.layers,
        sizes.heads,
        sizes.kv_heads,
        sizes.experts,
        has_importance=types.has_importance,
        is_tied=sizes.is_tied,
        is_70b=sizes.is_70b,
    )
    return make_plan(types.recipe, [(tensor.name, tensor.shape) for tensor in outputs], facts, types.overrides)


def make_jobs(plan: Plan, outputs: Sequence[OutputTensor], types: TypeOverrides | None = None) -> tuple[Job, ...]:
    """The planned tensors in the order of the file, each with its rows.

    Raises:
        DataError: the importance matrix was made with another model.
    """
    rows = {tensor.name: tensor.rows for tensor in outputs}
    return tuple(
        Job(tensor, rows[tensor.name], types.importance_of(tensor) if types else None) for tensor in plan.tensors
    )
