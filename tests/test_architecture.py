"""The house keeps its shape: imports run downhill, outside libraries come in by their doors, loading is instant."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WINGS = ("chat", "convert")

DOORS = {  # outside library -> the modules that may import it; a name ending in a dot is a whole room
    "llama_cpp": ("chat.engine.",),
    "llguidance": ("chat.engine.constraint",),
    "tiktoken": ("chat.engine.",),
    "rich": ("chat.terminal.", "chat.ground.progress", "chat.sessions.cli"),
    "prompt_toolkit": ("chat.terminal.",),
    "huggingface_hub": ("chat.ground.hub",),
    "platformdirs": ("chat.ground.folders",),
    "sqlite3": ("chat.sessions.",),
    "typer": (
        "chat.cli",
        "convert.cli",
        "chat.models.cli",
        "chat.sessions.cli",
        "chat.templates.cli",
        "chat.config_cli",
        "chat.command_tree",
        "chat.doctor.cli",
        "chat.bench.cli",
    ),
    "gguf": ("convert.",),
    "numpy": ("convert.", "chat.engine.", "chat.doctor.probe", "chat.doctor.reference"),
}
PARENT_OF_THE_CHILD = (
    "chat.engine.client",
    "chat.engine.wire",
    "chat.cli",
    "chat.oneshot",
    "chat.opening",
    "chat.doctor.cli",
    "chat.bench.cli",
)


@cache
def modules() -> dict[str, Path]:
    """Every module of both wings by its dotted name."""
    found = {}
    for wing in WINGS:
        for path in (ROOT / wing).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(module: str, *, lazy: bool = True) -> frozenset[str]:
    """The modules that `module` imports, our own by full name; those for types only do not count."""
    names: set[str] = set()

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) and not lazy:
                continue
            if isinstance(child, ast.Import):
                names.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module:
                names.update(
                    full if (full := f"{child.module}.{alias.name}") in modules() else child.module
                    for alias in child.names
                )
            visit(child)

    visit(ast.parse(modules()[module].read_text(encoding="utf-8")))
    return frozenset(names)


def ours(names: frozenset[str]) -> set[str]:
    return {name for name in names if name in modules()}


def test_no_module_imports_one_that_imports_it() -> None:
    try:
        TopologicalSorter({name: ours(imports(name)) for name in modules()}).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("module", sorted(modules()))
def test_the_wings_share_only_the_ground_floor(module: str) -> None:
    used = ours(imports(module))
    if module.startswith("chat.ground"):
        assert {name for name in used if not name.startswith("chat.ground")} == set()
    elif module.startswith("convert"):
        strangers = {name for name in used if name.startswith("chat") and not name.startswith("chat.ground")}
        doors = {"chat.engine.client", "chat.request"} if module == "convert.verify" else set()
        assert strangers <= doors
    else:
        assert {name for name in used if name.startswith("convert")} == set()


@pytest.mark.parametrize("module", sorted(modules()))
def test_outside_libraries_come_in_by_their_doors(module: str) -> None:
    for name in imports(module):
        for allowed in [DOORS.get(name.split(".")[0])]:
            if allowed is not None:
                assert module.startswith(tuple(allowed)), f"{module} imports {name}; its door is {allowed}"


@pytest.mark.parametrize("module", PARENT_OF_THE_CHILD)
def test_the_parent_process_never_loads_the_engine_library(module: str) -> None:
    reached, new = set(), {module}
    while new:
        reached |= new
        new = {name for each in new for name in ours(imports(each))} - reached
    direct = {each: imports(each) & {"llama_cpp", "numpy"} for each in reached}
    assert {each: names for each, names in direct.items() if names} == {}


def test_the_command_line_is_loaded_without_any_heavy_library() -> None:
    """What runs before we know what is asked stays light; importing it prints nothing."""
    light = ["chat.cli", "chat.layers", "chat.oneshot", "chat.opening", "chat.engine.client", "chat.models.resolve"]
    heavy = {"numpy", "llama_cpp", "huggingface_hub", "tiktoken", "llguidance", "rich", "prompt_toolkit", "sqlite3"}
    code = (
        f"import importlib, sys\nfor name in {light!r}: importlib.import_module(name)\n"
        f"print(sorted({heavy!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_help_loads_neither_numpy_nor_llama_cpp_nor_the_command_line_library() -> None:
    code = (
        "import sys; from chat.cli import run; run(['--help']); "
        "sys.stderr.write(str(sorted({'numpy', 'llama_cpp', 'typer', 'rich'} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stderr == "[]"
    assert done.stdout.startswith("Usage: mistral-chat [OPTIONS] [PROMPT]...")


def test_the_version_is_told_without_looking_for_what_is_installed() -> None:
    """That took as long as all the rest, and failed where the program runs from its folder."""
    code = (
        "import sys; before = {*sys.modules}; from chat.cli import run; run(['--version']); "
        "sys.stderr.write(str(sorted({'importlib.metadata', 'email', 'typer'} & ({*sys.modules} - before))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert (done.stdout, done.stderr) == (f"mistral-chat {version('mistral-chat')}\n", "[]")
