"""What the documents say about installing is so: one version everywhere, and indexes that its package documents."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from docs.packaging import one_file
from tests.folders import ROOT

INSTALL = (ROOT / "docs" / "pages" / "how-to" / "install.md").read_text()
PINNED = re.compile(r"llama-cpp-python(?:\[\w+\])?==([\w.]+)")
BUILD = ROOT / "chat" / "llama" / "build.cmake"
PROJECT = """\
cmake_minimum_required(VERSION 3.21)
project(llama_cpp CXX)
set(LLAMA_BUILD_COMMON ON CACHE BOOL "" FORCE)
add_subdirectory(llama)
add_library(ggml-base SHARED ggml-backend.cpp gguf.cpp)
add_library(mtmd SHARED mtmd.cpp models/a.cpp models/b.cpp)
"""
LLAMA = """\
cmake_minimum_required(VERSION 3.14...3.28)
project("llama.cpp" CXX)
option(LLAMA_BUILD_COMMON "" OFF)
file(GLOB MODELS models/*.cpp)
set(CORE llama.cpp llama-graph.cpp llama-impl.cpp llama-kv-cache.cpp llama-memory.cpp llama-new.cpp llama-vocab.cpp)
add_library(llama SHARED ${CORE} ${MODELS})
set_target_properties(llama PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 16)
set_source_files_properties(${CORE} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
if (LLAMA_BUILD_COMMON)
    add_library(llama-common SHARED common.cpp)
endif()
"""


def test_every_document_names_the_pinned_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (pinned,) = PINNED.findall(" ".join(project["project"]["dependencies"]))
    documents = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "docs" / "packaging").iterdir()]
    named = {version for path in documents if path.is_file() for version in PINNED.findall(path.read_text())}
    assert named == {pinned}
    assert importlib.metadata.version("llama-cpp-python") == pinned


def test_the_one_file_has_the_data_and_the_libraries_of_the_package() -> None:
    """Pillow was left out of it since before the program read pictures."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    data = project["tool"]["setuptools"]["package-data"]
    assert {name: tuple(patterns) for name, patterns in data.items() if patterns != ["py.typed"]} == one_file.DATA
    needed = {re.split(r"[\[>=]", each)[0] for each in project["project"]["dependencies"]}
    packages = importlib.metadata.packages_distributions()
    assert [name for name in one_file.EXCLUDED if needed & set(packages.get(name, ()))] == []


def test_the_indexes_of_wheels_are_those_that_the_package_documents() -> None:
    metadata = importlib.metadata.metadata("llama-cpp-python")  # of the backport, too, once `keyring` has imported it
    documented = str(metadata.get("Description") or metadata.get_payload())
    theirs = set(re.findall(r"/whl/([\w-]+)", documented)) | set(re.findall(r"^- `(cu\d+)`", documented, re.MULTILINE))
    table = re.search(r"\| last part of the index \|\n(.*?)\n\n", INSTALL, re.DOTALL)
    assert table is not None
    assert set(re.findall(r"`([\w-]+)`", table[1])) == theirs
    assert "https://abetlen.github.io/llama-cpp-python/whl/cpu" in documented


def test_the_ways_to_install_name_files_that_are_there() -> None:
    named = re.findall(r"`((?:docs|tests|chat)/[\w./-]+)`", INSTALL)
    assert len(named) >= 5
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("cmake") or not shutil.which("c++"), reason="no CMake or no C++ compiler here")
def test_the_build_options_reach_the_libraries(tmp_path: Path) -> None:
    """llama-cpp-python forces llama-common on in CMake's cache; the options hide that, and change two libraries."""
    (tmp_path / "llama" / "models").mkdir(parents=True)
    (tmp_path / "models").mkdir()
    (tmp_path / "CMakeLists.txt").write_text(PROJECT)
    (tmp_path / "llama" / "CMakeLists.txt").write_text(LLAMA)
    core = re.findall(r"[\w-]+\.cpp", LLAMA.partition("set(CORE ")[2].partition(")")[0])
    made = [
        "ggml-backend.cpp",
        "gguf.cpp",
        "mtmd.cpp",
        "models/a.cpp",
        "models/b.cpp",
        "llama/models/c.cpp",
        "llama/models/d.cpp",
        "llama/common.cpp",
    ]
    for name in [*made, *(f"llama/{each}" for each in core)]:
        (tmp_path / name).write_text("")
    flags = [f"-DCMAKE_PROJECT_llama_cpp_INCLUDE={BUILD}", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON"]
    command = ["cmake", "-S", tmp_path, "-B", tmp_path / "build", *flags, "-DCMAKE_BUILD_TYPE=Release"]
    subprocess.run(command, check=True, capture_output=True)
    compiled = json.loads((tmp_path / "build" / "compile_commands.json").read_text())
    levels = {}
    for each in compiled:
        target = re.findall(r"(\w+)\.dir", each["output"] if "output" in each else each["command"])[0]
        levels[f"{target} {Path(each['file']).name}"] = re.findall(r"-O\d", each["command"])[-1]
    assert levels == {
        "base ggml-backend.cpp": "-O3",
        "base gguf.cpp": "-O1",
        "llama llama-new.cpp": "-O1",
        "llama llama-vocab.cpp": "-O2",
        "llama unity_files_cxx.cxx": "-O1",
        "llama unity_graph_cxx.cxx": "-O1",
        "llama unity_memory_cxx.cxx": "-O1",
        "llama unity_models_0_cxx.cxx": "-O1",
        "mtmd mtmd.cpp": "-O1",
        "mtmd unity_models_0_cxx.cxx": "-O1",
    }
