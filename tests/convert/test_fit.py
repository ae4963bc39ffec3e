"""`--fit`: the file is no larger than asked, its types are those that lose least, and what it will lose is told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from chat.cli.main import run
from chat.core.calibration import CalibrationReport
from chat.core.request import EngineOptions
from chat.errors import UsageError
from chat.gguf.reader import read_gguf
from chat.llama.hardware import HostResources
from chat.llama.memory_estimate import sizes_of
from chat.llama.memory_plan import plan_memory
from chat.llama.sliding_window import choose_window
from chat.system.progress import Progress, Silent
from convert import calibration, pipeline
from convert.checkpoint.rows import ConstantRow
from convert.draft import ConversionOptions
from convert.drafting import make_draft
from convert.native.widen import Numbers
from convert.output.tensor_writer import Checksum, NewFile, write_tensors
from convert.pipeline import convert
from convert.quantize.allocation import Choice, allocate
from convert.quantize.fit_goal import memory_with, read_goal
from convert.quantize.kernels import BLOCK_TYPES, dequantize, quantize
from convert.quantize.sensitivity import Sampled, measure_errors, types_for
from tests.convert import imatrix_files
from tests.convert.adapters import linear_modules, pairs_for, write_peft
from tests.convert.samples import V01, Sizes, hugging_face_tensors, make_checkpoint

SMALL = Sizes(layers=2)


@pytest.fixture(autouse=True)
def small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convert.quantize.sensitivity.SAMPLED_NUMBERS", 1 << 13)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "model", SMALL)


def size_of(model: Path, kind: str) -> int:
    return make_draft(ConversionOptions(model, type=kind)).size


@pytest.mark.parametrize("recipe", ["Q4_K_M", "Q5_K_M"])
@pytest.mark.parametrize("with_matrix", [False, True])
def test_at_a_recipes_size_less_is_lost(recipe: str, with_matrix: bool, model: Path, tmp_path: Path) -> None:
    matrix = None
    if with_matrix:
        convert(ConversionOptions(model, tmp_path / "f16.gguf", "F16", verify=False))
        matrix = imatrix_files.write_gguf(tmp_path / "matrix.gguf", imatrix_files.measure(tmp_path / "f16.gguf"))
    size = size_of(model, recipe)
    draft = make_draft(ConversionOptions(model, fit=read_goal(f"{size / 1e6:.6f}MB"), imatrix=matrix))
    assert draft.fit is not None
    assert 0.93 * size < draft.size <= size + (1000 if with_matrix else 0)  # the matrix is noted in the file
    assert draft.fit.by_importance == with_matrix
    assert draft.fit.expected_kl <= draft.fit.recipes[recipe]["expected_kl"]
    losses = [each["expected_kl"] for each in draft.fit.recipes.values()]
    assert losses == sorted(losses, reverse=True)


def test_the_file_is_written_and_told_of(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told: list[str] = []

    def tell_and_write(files: Sequence[NewFile], threads: int, progress: Progress) -> tuple[tuple[Checksum, ...], ...]:
        told.append(capsys.readouterr().err)
        return write_tensors(files, threads, progress)

    monkeypatch.setattr(pipeline, "write_tensors", tell_and_write)
    command = ["convert", str(model), "--fit", "1.1MB", "--tensor-type", "blk.0.attn_q=F16", "--tensor-type", "x=Q8_0"]
    assert run([*command, "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert run(command) == 0
    shown = capsys.readouterr()
    assert shown.out == "model-fit-1.1MB.gguf\n"
    kinds, loss = told[0].splitlines()  # before the first weight is written
    warning, summary = shown.err.splitlines()
    assert warning == "warning: `--tensor-type x=Q8_0` matches no tensor"
    assert kinds.startswith("tensors: ") and "1 F16" in kinds
    assert loss.startswith(f"expected loss, by the weights alone: a KL divergence of {plan['fit']['expected_kl']:.2g} ")
    assert summary.startswith("fit-1.1MB, ")
    written = read_gguf("model-fit-1.1MB.gguf")
    assert {name: info.type for name, info in written.tensors.items()} == {
        each["name"]: each["type"] for each in plan["plan"]
    }
    assert written.tensors["blk.0.attn_q.weight"].type == "F16"
    assert 1_000_000 < written.size <= 1_100_000
    assert written.size == plan["size"]
    assert written.metadata["general.file_type"] in (15, 17, 18, 7, 30)
    assert (plan["type"], plan["fit"]["goal"], plan["fit"]["budget_bytes"]) == ("fit-1.1MB", "1.1MB", 1_100_000)
    assert make_draft(ConversionOptions(Path("model-fit-1.1MB.gguf"), type="Q4_0")).path == Path("model-Q4_0.gguf")


def test_a_goal_of_plenty_gives_the_largest_types(model: Path) -> None:
    draft = make_draft(ConversionOptions(model, fit=read_goal("5GiB")))
    assert {each.type.name for each in draft.plan.tensors} == {"Q8_0", "F32"}


def test_the_matrix_of_a_text_decides(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert(ConversionOptions(model, tmp_path / "f16.gguf", "F16", verify=False))
    text = tmp_path / "text.txt"
    text.write_text("word " * 2000)

    def measure(_model: Path, _text: object, matrix: Path, **_: object) -> CalibrationReport:
        imatrix_files.write_gguf(matrix, imatrix_files.measure(tmp_path / "f16.gguf"))
        return CalibrationReport(2, 512, 9, 0, 0)

    monkeypatch.setattr(calibration, "measure_importance", measure)
    monkeypatch.setattr(calibration, "check_length", lambda *_: None)
    out, goal = tmp_path / "out.gguf", read_goal("1.1MB")
    report = convert(ConversionOptions(model, out, fit=goal, calibrate=text, verify=False, show_progress=False))
    assert report.fit is not None
    assert report.fit.by_importance
    assert report.notes[0].startswith(f"importance matrix: {tmp_path / 'out.imatrix.gguf'}")
    again = ConversionOptions(model, tmp_path / "again.gguf", fit=goal, imatrix=tmp_path / "out.imatrix.gguf")
    convert(replace(again, verify=False))
    assert (tmp_path / "again.gguf").read_bytes() == out.read_bytes()


def test_what_a_quantized_source_holds_is_copied(model: Path, tmp_path: Path) -> None:
    convert(ConversionOptions(model, tmp_path / "old.gguf", "Q4_K_M", verify=False))
    draft = make_draft(ConversionOptions(tmp_path / "old.gguf", fit=read_goal("1GB")))
    assert all(job.copied or job.tensor.type.name == "F32" for job in draft.jobs)
    assert draft.fit is not None
    assert draft.fit.expected_kl == 0


@pytest.mark.parametrize("folder", ["window", "none"])
def test_the_engine_accepts_the_file_on_such_a_machine(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's own plan of memory is asked; the goal leaves no room for the largest types."""
    monkeypatch.setattr(pipeline, "try_out", lambda _: None)
    source, out = V01 if folder == "window" else make_checkpoint(tmp_path / "model", SMALL), tmp_path / "out.gguf"
    largest = make_draft(ConversionOptions(source, fit=read_goal("1GB-ram")))
    assert largest.fit is not None
    beside = 750_000_000 - largest.fit.budget_bytes
    goal = read_goal(f"{memory_with(largest.size + beside - 200_000) / 1e6:.3f}MB-ram")
    report = convert(ConversionOptions(source, out, fit=goal))
    assert report.fit is not None
    file = read_gguf(out)
    assert report.fit.budget_bytes - 100_000 < file.size <= report.fit.budget_bytes < largest.size
    options = EngineOptions(str(out), context=report.fit.context, gpu_layers="0", repack="off")
    host = HostResources(goal.nbytes - goal.for_system)
    plan = plan_memory(sizes_of(file), options, choose_window(file, "auto"), host)
    assert plan.host_bytes > 0.99 * host.free_bytes


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--fit", "5"], 2, "`--fit 5` is not a size"),
        (["--fit", "5e9"], 2, "`--fit 5e9` is not a size"),
        (["--fit", "0GB"], 2, "`--fit 0GB` is not a size"),
        (["--fit", "-1GB"], 2, "`--fit -1GB` is not a size"),
        (["--fit", "8GB-disk"], 2, "`--fit 8GB-disk` is not a size"),
        (["--fit", ""], 2, "`--fit ` is not a size"),
        (["--fit", "5GB", "-t", "Q8_0"], 2, "`--fit` and `-t` cannot be used together"),
        (["--fit", "0.5MB"], 2, "`--fit 0.5MB` is too small: the smallest file takes 749 kB"),
        (["--fit", "60MB-ram"], 4, "`--fit 60MB-ram` is too small: the smallest file takes 749 kB, and a machine for "),
        (["--fit", "1MB", "--imatrix", "no"], 3, "no: no such file"),
        (["--fit", "1MB", "--tensor-type", "x"], 2, "`--tensor-type x` is not of the form REGEX=TYPE"),
        (["--fit", "5GB", "--base", "model"], 2, "`--fit` has no effect on an adapter"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    arguments: list[str],
    code: int,
    message: str,
    model: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(model.parent)
    assert run(["convert", "model", *arguments]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"error: {message}")
    assert [path.name for path in model.parent.iterdir()] == ["model"]


def test_the_smallest_size_that_is_named_is_enough(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    for goal in ("0.1MB", "1MB-ram"):
        run(["convert", "model", "--fit", goal])
        hint = capsys.readouterr().err.splitlines()[1]
        enough = hint.split("`")[1].split()[1]
        assert make_draft(ConversionOptions(Path("model"), fit=read_goal(enough))).fit is not None


def test_an_adapter_is_merged_before_its_model_is_measured(model: Path, tmp_path: Path) -> None:
    tensors = hugging_face_tensors(SMALL)
    adapter = write_peft(tmp_path / "poet", pairs_for(tensors, linear_modules(tensors)))
    draft = make_draft(ConversionOptions(model, fit=read_goal("1MB"), adapters=((adapter, 1.0),)))
    assert draft.size <= 1_000_000 and "+poet-fit-1MB" in draft.path.name


# --- the parts


@pytest.mark.parametrize(
    ("text", "nbytes", "for_system"),
    [
        ("5GB", 5 * 10**9, 0),
        ("4.5gib", 4_831_838_208, 0),
        ("4500MB", 45 * 10**8, 0),
        ("4 GB-RAM", 4 * 10**9, 10**9),
        ("64GB-ram", 64 * 10**9, 2 * 10**9),
    ],
)
def test_sizes_are_read(text: str, nbytes: int, for_system: int) -> None:
    goal = read_goal(text)
    assert (goal.nbytes, goal.for_system, goal.is_memory) == (nbytes, for_system, text.lower().endswith("ram"))


@pytest.mark.parametrize("nbytes", [1, 10**9, 6 * 10**9, 6 * 10**9 + 1, 10**11])
def test_the_memory_that_leaves_so_much_is_the_smallest(nbytes: int) -> None:
    def left(memory: int) -> int:
        return memory - read_goal(f"{memory / 1e6:.6f}MB-ram").for_system if memory >= 10**6 else memory - memory // 4

    memory = memory_with(nbytes)
    assert left(memory) >= nbytes > left(memory - 2)


def test_the_allocation_is_nearly_the_best_there_is() -> None:
    """All ways to store six tensors are tried: none within the budget loses less, but for the last step's bytes."""
    generator = np.random.default_rng(3)
    tensors = []
    for _ in range(6):
        weights, factor = int(generator.integers(10, 100)), float(generator.uniform(0.1, 10))
        tensors.append([Choice(weights * bits, factor * 4.0**-bits) for bits in (4, 5, 6, 8)])
    least = sum(choices[0].nbytes for choices in tensors)
    largest_step = max(choices[-1].nbytes - choices[0].nbytes for choices in tensors)
    for budget in range(least, 2 * least, 97):
        chosen = allocate(tensors, budget)
        assert chosen is not None
        picked = [choices[place] for choices, place in zip(tensors, chosen, strict=True)]
        assert sum(each.nbytes for each in picked) <= budget
        best = min(
            sum(each.loss for each in way)
            for way in product(*tensors)
            if sum(each.nbytes for each in way) <= budget - largest_step or way == tuple(each[0] for each in tensors)
        )
        assert sum(each.loss for each in picked) <= best + 1e-12
    assert allocate(tensors, least - 1) is None


def test_a_choice_that_is_larger_and_loses_more_is_never_taken() -> None:
    tensors = [[Choice(4, 1.0), Choice(5, 1.5), Choice(6, 0.9), Choice(8, 0.0)]]
    assert [allocate(tensors, budget) for budget in (4, 7, 8)] == [[0], [0], [3]]


def test_errors_are_those_of_the_packed_rows_with_each_experts_importance() -> None:
    generator = np.random.default_rng(5)
    numbers = generator.standard_normal((6, 256), dtype=np.float32)
    importance = generator.gamma(0.5, 1.0, (2, 256)).astype(np.float32)

    class Rows:
        count, columns = 6, 256

        def read(self, start: int, stop: int) -> np.ndarray:
            return numbers[start:stop].copy()

    kinds = types_for(Rows())
    (errors,) = measure_errors([Sampled("x", Rows(), 3, kinds, importance)], 1, Silent())
    for kind in kinds:
        lost = whole = 0.0
        for expert in (0, 1):
            rows = numbers[3 * expert : 3 * expert + 3]
            back = dequantize(quantize(Numbers("F32", rows), kind, "x", 0, importance[expert]).tobytes(), kind, 3, 256)
            lost += float(((back - rows).astype(np.float64) ** 2 @ importance[expert]).sum())
            whole += float((rows.astype(np.float64) ** 2 @ importance[expert]).sum())
        assert errors[kind.name] == pytest.approx(lost / whole, rel=1e-5)
    assert list(errors.values()) == sorted(errors.values(), reverse=True)


def test_a_sample_stays_within_matrices_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convert.quantize.sensitivity.SAMPLED_NUMBERS", 64 * 40)
    read: list[tuple[int, int]] = []

    class Rows:
        count, columns = 7 * 100, 64

        def read(self, start: int, stop: int) -> np.ndarray:
            read.append((start, stop))
            return np.ones((stop - start, 64), np.float32)

    (errors,) = measure_errors([Sampled("x", Rows(), 7, (BLOCK_TYPES["Q8_0"],))], 1, Silent())
    assert sum(stop - start for start, stop in read) <= 40
    assert len(read) == 8
    assert all(0 <= start < stop <= 700 and start // 7 == (stop - 1) // 7 for start, stop in read)
    assert 0 <= errors["Q8_0"] < 1e-6


@pytest.mark.parametrize(("columns", "last"), [(512, "Q8_0"), (576, "Q8_0"), (100, "F16")])
def test_types_fit_the_columns(columns: int, last: str) -> None:
    kinds = types_for(ConstantRow(1.0, columns))
    assert all(kind.fits(columns) for kind in kinds)
    assert kinds[-1].name == last
    bits = [kind.block_bytes / kind.block for kind in kinds]
    assert bits == sorted(set(bits))


def test_an_unreadable_goal_names_both_forms() -> None:
    with pytest.raises(UsageError) as fault:
        read_goal("five")
    assert fault.value.hint == "such as `--fit 5GB` for a file, or `--fit 8GB-ram` for a machine"
