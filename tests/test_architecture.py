"""The order of the packages, where outside libraries are imported, what loads at start, sizes and names."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.folders import ROOT

# A package may import from itself and from packages that come before it in its list.
LAYERS = (
    "chat.errors",
    "chat.platform",
    "chat.system",
    "chat.core",
    "chat.gguf",
    "chat.hub",
    "chat.config",
    "chat.prompts",
    "chat.llama",
    "chat.inference",
    "chat.worker",
    "chat.remote",
    "chat.guide",
    "chat.models",
    "chat.templates",
    "chat.documents",
    "chat.tools",
    "chat.rendering",
    "chat.history",
    "chat.app",
    "chat.batch",
    "chat.tui",
    "chat.doctor",
    "chat.bench",
    "chat.cli",
)
CONVERT_LAYERS = (
    "convert.native",
    "convert.checkpoint",
    "convert.architecture",
    "convert.dequantize",
    "convert.tensors",
    "convert.lora",
    "convert.tokenizer",
    "convert.quantize",
    "convert.output",
)
CONVERT_MODULES = (  # at the top of convert, after its packages
    "convert.draft",
    "convert.gguf_source",
    "convert.projector",
    "convert.from_checkpoint",
    "convert.from_gguf",
    "convert.from_lora",
    "convert.fit",
    "convert.drafting",
    "convert.calibration",
    "convert.pipeline",
    "convert.expected_time",
    "convert.command_output",
    "convert.source_resolver",
    "convert.cli",
)
SOURCES_OF_DRAFTS = {"convert.from_checkpoint", "convert.from_gguf", "convert.from_lora"}  # none imports another
RUN_THE_ENGINE = {"convert.output.verify", "convert.quantize.calibrate"}  # to try a file out, to read a text with it
ESTIMATE_MEMORY = {"convert.fit"}  # of a machine that will run the file
SHARED_WITH_CONVERT = ("chat.errors", "chat.platform", "chat.system", "chat.gguf", "chat.hub")
MOST_LINES = 400

IMPORTERS = {  # outside library -> the modules that may import it; a name that ends in a dot is a whole package
    "llama_cpp": ("chat.llama.",),
    "llguidance": ("chat.inference.grammar", "chat.inference.grammar_sandbox", "chat.remote.constraint_check"),
    "tiktoken": ("chat.llama.tokenizer.",),
    "jinja2": ("chat.prompts.jinja_compiler", "chat.prompts.jinja_sandbox", "convert.tokenizer.default_system"),
    "rich": ("chat.rendering.", "chat.tui.", "chat.system.progress", "chat.system.terminal_text", "chat.cli.sessions"),
    "prompt_toolkit": ("chat.tui.",),
    "huggingface_hub": ("chat.hub.",),
    "platformdirs": ("chat.system.paths",),
    "sqlite3": ("chat.history.", "chat.documents.search"),
    "typer": ("chat.cli.", "convert.cli"),
    "mcp": ("chat.tools.mcp_host",),
    "mcp_types": ("chat.tools.mcp_host",),
    "gguf": ("convert.", "chat.documents.word_vectors"),
    "numpy": (
        "chat.documents.embeddings",
        "chat.documents.meaning",
        "chat.documents.word_vectors",
        "convert.",
        "chat.llama.",
        "chat.inference.",
        "chat.doctor.probe",
        "chat.bench.quality",
        "chat.bench.log_probabilities",
        "chat.worker.encoder_trial",
    ),
}
PARENT_OF_THE_WORKER = (
    "chat.worker.client",
    "chat.worker.protocol",
    "chat.cli.main",
    "chat.app.oneshot",
    "chat.app.backends",
    "chat.cli.doctor",
    "chat.cli.bench",
    "chat.cli.bench_quality",
)


@cache
def modules() -> dict[str, Path]:
    """Every module of both packages by its dotted name."""
    found = {}
    for top in ("chat", "convert"):
        for path in (ROOT / top).rglob("*.py"):
            if path.is_relative_to(ROOT / "chat" / "launcher"):  # installed under its own name, imports `chat` alone
                continue
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(module: str, *, types_only: bool = False) -> frozenset[str]:
    """The modules that `module` imports at any time, our own by full name.

    Args:
        types_only: count imports under `if TYPE_CHECKING:` too.
    """
    names: set[str] = set()

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):  # holds no statement
                continue
            if not types_only and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.Import):
                names.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module:
                names.update(
                    full if (full := f"{child.module}.{alias.name}") in modules() else child.module
                    for alias in child.names
                )
            visit(child)

    visit(tree_of(module))
    return frozenset(names)


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


def ours(names: frozenset[str]) -> set[str]:
    return {name for name in names if name in modules()}


def package_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def test_no_module_imports_one_that_imports_it() -> None:
    try:
        TopologicalSorter({name: ours(imports(name)) for name in modules()}).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


def test_a_package_imports_only_earlier_ones() -> None:
    """Imports for types count, too: an order that only holds at run time is none for a reader."""
    wrong = {module: found for module in modules() if "." in module and (found := imported_too_early(module))}
    assert wrong == {}


def imported_too_early(module: str) -> set[str]:
    package = package_of(module)
    used = {package_of(name) for name in ours(imports(module, types_only=True))} - {package, "chat", "convert"}
    if module.startswith("chat"):
        allowed = set(LAYERS[: LAYERS.index(package)]) if package in LAYERS else {"chat.cli", "chat.system"}
    else:
        order = CONVERT_LAYERS + CONVERT_MODULES
        allowed = {*order[: order.index(package)], *SHARED_WITH_CONVERT}
        if module in SOURCES_OF_DRAFTS:
            allowed -= SOURCES_OF_DRAFTS
        if module in RUN_THE_ENGINE:
            allowed |= {"chat.worker", "chat.core"}
        if module in ESTIMATE_MEMORY:
            allowed |= {"chat.llama"}
    return used - allowed


def test_every_package_has_its_place_in_the_order() -> None:
    packages = {package_of(name) for name in modules() if "." in name} - {"chat.__main__"}
    assert {name for name in packages if name.startswith("chat.")} == set(LAYERS)
    in_folders = {package_of(name) for name in modules() if name.startswith("convert.") and name.count(".") > 1}
    assert in_folders == set(CONVERT_LAYERS)
    assert {name for name in packages if name.startswith("convert.")} == {*CONVERT_LAYERS, *CONVERT_MODULES}


def test_the_top_of_chat_holds_packages_the_errors_and_the_start() -> None:
    files = {path.name for path in (ROOT / "chat").iterdir() if path.is_file()}
    assert files == {"__init__.py", "__main__.py", "errors.py", "py.typed"}


def test_no_module_is_too_long() -> None:
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules().items()}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


def test_no_public_class_name_is_used_twice() -> None:
    places = defaultdict(list)
    for name in modules():
        for node in tree_of(name).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(name)
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_outside_libraries_are_imported_where_they_belong() -> None:
    elsewhere = [
        f"{module} imports {name}; it belongs in {allowed}"
        for module in modules()
        for name in imports(module)
        if (allowed := IMPORTERS.get(name.split(".")[0])) is not None and not module.startswith(allowed)
    ]
    assert elsewhere == []


@pytest.mark.parametrize("module", PARENT_OF_THE_WORKER)
def test_the_parent_process_never_loads_the_engine_library(module: str) -> None:
    reached, new = set(), {module}
    while new:
        reached |= new
        new = {name for each in new for name in ours(imports(each))} - reached
    direct = {each: imports(each) & {"llama_cpp", "numpy"} for each in reached}
    assert {each: names for each, names in direct.items() if names} == {}


def test_the_command_line_is_loaded_without_any_heavy_library() -> None:
    """What runs before we know what is asked stays light; importing it prints nothing.

    Nor are modules of ours loaded that only a server, a stored session or a terminal needs, or only an export.
    """
    light = [
        "chat.cli.main",
        "chat.config.resolve",
        "chat.app.oneshot",
        "chat.app.backends",
        "chat.worker.client",
        "chat.models.resolve",
    ]
    heavy = {"numpy", "llama_cpp", "huggingface_hub", "tiktoken", "llguidance", "rich", "prompt_toolkit", "sqlite3"}
    heavy |= {"chat.config.remotes", "chat.app.remotes", "chat.core.answer_details", "chat.rendering.styled_text"}
    code = (
        f"import importlib, sys\nfor name in {light!r}: importlib.import_module(name)\n"
        f"print(sorted({heavy!r} & set(sys.modules)))\n"
        f"import chat.cli.sessions\nprint(sorted(name for name in sys.modules if name.startswith('chat.rendering')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert (done.stdout, done.stderr) == ("[]\n[]\n", "")


def test_a_session_is_loaded_without_the_hub() -> None:
    """`/model` and its completion need it; to import it at each start took 65 ms."""
    code = "import chat.tui.repl, sys; print([name for name in sys.modules if name.startswith('chat.hub')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_help_loads_neither_numpy_nor_llama_cpp_nor_the_command_line_library() -> None:
    code = (
        "import sys; from chat.cli.main import run; run(['--help']); "
        "sys.stderr.write(str(sorted({'numpy', 'llama_cpp', 'typer', 'rich'} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stderr == "[]"
    assert done.stdout.startswith("Usage: mistral-chat [OPTIONS] [PROMPT]...")


def test_the_version_is_told_without_looking_for_what_is_installed() -> None:
    """That took as long as all the rest, and failed where the program runs from its folder."""
    code = (
        "import sys; before = {*sys.modules}; from chat.cli.main import run; run(['--version']); "
        "sys.stderr.write(str(sorted({'importlib.metadata', 'email', 'typer'} & ({*sys.modules} - before))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert (done.stdout, done.stderr) == (f"mistral-chat {version('mistral-chat')}\n", "[]")


def test_every_python_process_is_started_by_one_function() -> None:
    """Each place had a command of its own, and one of them ran a `chat.py` of the user."""
    starts = {
        name
        for name, path in modules().items()
        if re.search(r"sys\.executable|multiprocessing", path.read_text(encoding="utf-8"))
    }
    assert starts - {"chat.system.installer"} == {"chat.system.python_child"}  # a command that the user is shown


@pytest.mark.parametrize("top", ["chat", "convert"])
def test_importing_a_package_imports_nothing_else(top: str) -> None:
    """So it can be imported while its own folder is the only one on the import path."""
    assert imports(top) <= {"__future__"}


STARTS_PROCESSES = re.compile(r"(subprocess\.\w+|os\.(system|popen|spawn\w*|exec\w*|posix_spawnp?)|Popen)")


def test_every_child_process_gets_an_environment_without_keys() -> None:
    """A process that inherits the environment has the key of a server, which others of the same user can read."""
    lacking = []
    for path in (*ROOT.glob("chat/**/*.py"), *ROOT.glob("convert/**/*.py")):
        text = path.read_text(encoding="utf-8")
        if not STARTS_PROCESSES.search(text):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and STARTS_PROCESSES.fullmatch(ast.unparse(node.func)):
                given = next((ast.unparse(each.value) for each in node.keywords if each.arg == "env"), "")
                if (
                    not given.startswith(("child_environment(", "root"))  # all, or only where Windows is
                    and ast.unparse(node.func) != "subprocess.CalledProcessError"
                ):
                    lacking.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert lacking == []
