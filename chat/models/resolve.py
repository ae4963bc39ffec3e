"""Find the file that a model's name means. Knows names and paths, not what is in the file."""

from __future__ import annotations

from pathlib import Path

from chat.ground.errors import ModelError

WAYS_TO_A_MODEL = (
    "name a GGUF file with `-m FILE`, or make one: `mistral-chat convert CHECKPOINT_FOLDER`; "
    "`export MISTRAL_CHAT_MODEL=FILE` names it for good"
)


def resolve(name: str | None) -> Path:
    """The GGUF file that `name` means.

    Raises:
        ModelError: no name, no such file, or a folder.
    """
    if name is None:
        raise ModelError("no model is named", hint=WAYS_TO_A_MODEL)
    path = Path(name).expanduser()
    if path.is_dir():
        raise ModelError(f"{name} is a folder, not a GGUF file", hint=f"`mistral-chat convert {name}` makes one of it")
    if not path.exists():
        raise ModelError(f"no model at {name}", hint=WAYS_TO_A_MODEL)
    return path
