"""Environments that the program may meet: folders, limits, terminals, streams, modules. For tests only."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from tests.folders import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER_VARIABLES = (
    *("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"),
    *("MISTRAL_CHAT_HOME", "HF_HOME", "TMPDIR"),
)
UNPRIVILEGED = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--inh-caps", "-all")
READS = "+dac_read_search,+dac_override"
# a user whom the system does not know, and who may read what this one may
STRANGER = ("setpriv", "--reuid", "51234", "--clear-groups", "--inh-caps", READS, "--ambient-caps", READS)
SEVERAL = 12  # limits of each kind


@dataclass(frozen=True)
class Case:
    """An environment.

    Attributes:
        variables: None unsets one.
        prefix: a command that runs the program in it.
        redirection: of a shell.
    """

    kind: str
    name: str
    variables: dict[str, str | None] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    redirection: str = ""


def folder_cases(folder: Path, *, mounts: bool) -> Iterator[Case]:
    """Each variable that names a folder, and all of them, with each odd folder."""
    closed, read_only, file = folder / "closed", folder / "read-only", folder / "file"
    for path, mode in ((closed, 0o000), (read_only, 0o500)):
        path.mkdir()
        path.chmod(mode)
    file.touch()
    places = [None, "", "relative/x", "~", "/dev/null", "/proc/x", "/x" * 3000, "\x1b[2J\n", "é\udc80"]
    places += [str(path) for path in (folder / "no" / "such", file, closed, read_only)]
    if mounts:
        places += [str(folder / name) for name in MOUNTS]
    is_root = os.geteuid() == 0
    for place in places:
        for names in (*((name,) for name in FOLDER_VARIABLES), FOLDER_VARIABLES):
            has_no_home = place is None and "HOME" in names
            if has_no_home and not is_root:  # the system knows this user's folder, which is to stay as it is
                continue
            shown = repr(place if place is None else place.replace(str(folder), "."))[:30]
            name = f"{names[0] if len(names) == 1 else 'all'}={shown}"
            prefix = STRANGER if has_no_home else UNPRIVILEGED if is_root else ()
            yield Case("folders", name, dict.fromkeys(names, place), prefix)


MOUNTS = {"small": "size=64k", "full": "size=64k", "inodes": "size=1m,nr_inodes=4", "frozen": "size=64k,ro"}


def limit_cases(random: Random) -> Iterator[Case]:
    """Few descriptors, small files, little address space, few processes."""
    limits = {
        "nofile": [*range(5, 17), *range(18, 65, 6)],
        "fsize": [0, 1, 511, 4096, 8192, 16384, 32768, 65536, 100_000, 200_000, 400_000],
        "as": [*sorted(random.randrange(20, 4000) << 20 for _ in range(SEVERAL)), 100 << 20, 384 << 20, 1 << 30],
        "stack": [256 << 10, 1 << 20],
        "memlock": [0],
        "nproc": [1, 2, 3, 4, 5, 6, 8, 10, 14, 20],
    }
    for name, values in limits.items():
        for value in values:
            prefix: tuple[str, ...] = ("prlimit", f"--{name}={value}:{value}")
            if name == "nproc" and os.geteuid() == 0:  # it does not hold for root
                prefix = (*prefix, *STRANGER)
            yield Case("limits", f"{name}={value}", {}, prefix)


def terminal_cases() -> Iterator[Case]:
    """Odd terminals and locales."""
    values: dict[str, list[str | None]] = {
        "TERM": [None, "", "dumb", "unknown", "x" * 4000, "../../etc/passwd", "\x1b[2J", "linux", "vt52"],
        "COLUMNS": ["0", "1", "2", "-1", "-80", "99999999999", "1000000", "x", "", "1e9", "\u0663", "19"],
        "LINES": ["0", "1", "-5", "999999999", "x"],
        "LANG": [None, "C", "POSIX", "none", "", "de_DE.ISO-8859-1", "xx_YY.utf99", "C.UTF-8", "x" * 4000],
        "LC_ALL": ["C", "POSIX", "none", "de_DE.ISO-8859-1", "zh_CN.GBK"],
        "PYTHONIOENCODING": ["ascii", "latin-1", "cp1252", "ascii:strict"],
        "PYTHONUTF8": ["0", "1"],
        "PYTHONUNBUFFERED": ["1"],
        "TZ": ["", "nowhere", "x" * 3000, "UTC+99", ":/etc/passwd"],
        "NO_COLOR": ["", "1"],
        "ACCESSIBLE": ["1"],
        "EDITOR": ["", "/nowhere", "\x1b"],
        "PAGER": ["", "/nowhere"],
        "PATH": [None, "", "/nowhere"],
        "SSL_CERT_FILE": ["/nowhere"],
        "HTTPS_PROXY": ["x://\x1b", "http://127.0.0.1:1"],
        "OMP_NUM_THREADS": ["0", "-1", "x", "100000"],
        "MISTRAL_CHAT_THREADS": ["1", "3"],
        "LD_LIBRARY_PATH": ["/nowhere", ""],
        "PYTHONHASHSEED": ["0"],
        "PYTHONWARNINGS": ["error", "always", "x"],
        "PYTHONDEVMODE": ["1"],
        "PYTHONOPTIMIZE": ["2"],
        "PYTHONDONTWRITEBYTECODE": ["1"],
        "PYTHONPYCACHEPREFIX": ["/dev/null", "/proc/x"],
        "PYTHONNOUSERSITE": ["1"],
        "PYTHONTRACEMALLOC": ["1"],
    }
    for name, each in values.items():
        for value in each:
            yield Case("terminal", f"{name}={value!r:.30}", {name: value})
    yield Case("terminal", "no variables", dict.fromkeys(os.environ, None))


ODD_REDIRECTIONS = ("<>/dev/null 1<&0", "0>/dev/null", "1</dev/null", "2</dev/null")


def stream_cases() -> Iterator[Case]:
    """Each set of the standard streams closed, or full."""
    for closed in itertools.chain.from_iterable(itertools.combinations(("<&-", ">&-", "2>&-"), n) for n in (1, 2, 3)):
        yield Case("streams", " ".join(closed), {}, (), " ".join(closed))
    for odd in (*(f"{each}/dev/full" for each in ("<", ">", "2>")), *ODD_REDIRECTIONS):
        yield Case("streams", odd, {}, (), odd)


BROKEN = {
    "raises": "raise ValueError('odd\x1b[2J')\n",
    "exits": "raise SystemExit(5)\n",
    "empty": "",
    "no code": "x = = 1\n",
    "other": "import json\nname = 1\n",
}
MODULES = [
    "chat",
    "convert",
    "numpy",
    "rich",
    "typer",
    "click",
    "llama_cpp",
    "prompt_toolkit",
    "platformdirs",
    "huggingface_hub",
    "httpx",
    "regex",
    "jinja2",
    "tomllib",
    "sitecustomize",
    "usercustomize",
    "keyring",
    "pypdf",
    "markdown_it",
    "pygments",
    "llguidance",
    "PIL",
    "yaml",
    "gguf",
    "tests",
    "queue",
    "token",
    "test",
    "utils",
    "main",
    "config",
    "server",
]


def path_cases(folder: Path) -> Iterator[Case]:
    """Broken modules on PYTHONPATH, and a PYTHONPATH that is none."""
    for how, text in BROKEN.items():
        for module in MODULES:
            place = folder / "path" / how.replace(" ", "-") / module
            place.mkdir(parents=True)
            (place / f"{module}.py").write_text(text)
            yield Case("modules", f"{module} {how}", {"PYTHONPATH": f"{ROOT}{os.pathsep}{place}"})
    for odd in ("/nowhere", "/dev/null", "x" * 4000, "\x1b[2J", "::", str(folder / "closed")):
        yield Case("modules", f"PYTHONPATH={odd!r:.30}", {"PYTHONPATH": f"{ROOT}{os.pathsep}{odd}"})
