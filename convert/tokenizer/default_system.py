"""Find the system prompt that a release comes with: in its chat template, or in SYSTEM_PROMPT.txt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.errors import DataError
from convert.checkpoint.folder import inside
from convert.checkpoint.json_file import read_small_file

if TYPE_CHECKING:
    from pathlib import Path

    from jinja2 import nodes

SYSTEM_PROMPT_FILE = "SYSTEM_PROMPT.txt"
DATES = {"today": "{today}", "yesterday": "{yesterday}"}  # the variables of Mistral's templates, as the chat fills them
_VARIABLE = "default_system_message"


def default_system_prompt(template: str | None, folder: Path) -> str:
    """The system prompt of the template, else that of the file; empty where there is none.

    It may hold `{name}`, `{today}` and `{yesterday}`, which stand for the model's name and for dates.

    Raises:
        DataError: the file is too large, not UTF-8, or a link out of the folder, whose text the GGUF would hold.
    """
    if template and (text := _in_template(template)):
        return text
    path = folder / SYSTEM_PROMPT_FILE
    if not path.exists():
        return ""
    try:
        return read_small_file(inside(folder, SYSTEM_PROMPT_FILE)).decode("utf-8-sig").rstrip("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8") from error


def _in_template(template: str) -> str:
    """The value that a template sets its variable of that name to; the template is parsed, not run."""
    if _VARIABLE not in template:
        return ""
    from jinja2 import Environment, TemplateError, nodes

    try:
        for assignment in Environment().parse(template).find_all(nodes.Assign):
            target = assignment.target
            if isinstance(target, nodes.Name) and target.name == _VARIABLE:
                return _constant(assignment.node) or ""
    except (TemplateError, RecursionError):  # no template that this program runs either
        pass
    return ""


def _constant(node: nodes.Node) -> str | None:
    """The text of an expression of constants and dates; None for any other."""
    from jinja2 import nodes

    if isinstance(node, nodes.Const):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, nodes.Name):
        return DATES.get(node.name)
    if isinstance(node, nodes.Add):
        parts = [_constant(node.left), _constant(node.right)]
    elif isinstance(node, nodes.Concat):
        parts = [_constant(part) for part in node.nodes]
    else:
        return None
    return None if None in parts else "".join(part or "" for part in parts)
