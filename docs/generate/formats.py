"""The formats that scripts and people rely on: JSON output, batches, the settings file, the files on the disk."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, get_args

from chat.app.json_report import failure_report, rendered_report, reply_report
from chat.app.tool_runs import results_report
from chat.batch.records import MESSAGE_KEYS, OPTIONS, ROLES
from chat.cli.manpage import FILES
from chat.config.option_types import option_specs
from chat.config.options import Settings
from chat.config.remotes import Remote
from chat.config.settings_file import initial_text
from chat.config.tool_table import ToolServer
from chat.core.backend import ModelInfo, Rendered
from chat.core.conversation import FinishReason, ToolCall
from chat.core.events import Completion, Seconds, TokenCounts
from chat.errors import ContextError
from chat.tools.runner import CallResult, Outcome
from docs.generate.markdown import table, text

if TYPE_CHECKING:
    from collections.abc import Mapping

_JSON = """\
# JSON output

`--json` prints one object on stdout. A [batch](batch.md) prints the same for each line, in one line each, with the
record's `id`. What a server does not tell is null. Keys are added in later versions, but not renamed.
"""
_BATCH = """\
# Batch format

A batch is a file of JSON Lines (`--batch FILE`, or `-` for stdin): each line is a string, which is the prompt, or an
object with the keys below. Empty lines are skipped. The results come in the order of the lines, a line each: an object
with the `id` and what [`--json`](json.md) prints, or the `id` with `error` and `exit_code`. A bad line does not stop
the others; the batch then exits with 1.
"""
_RECORD_KEYS = {
    "id": "any JSON value; the number of the line if it is missing. `--resume` knows finished records by it.",
    "prompt": "a text. `--template`, `-f` and the words on the command line are put around it.",
    "messages": "a conversation in place of `prompt`, as OpenAI's clients write it.",
    "tools": "functions that the model may call, in place of those of `--tools`.",
}
_MESSAGE_KEYS = {
    "role": f"one of {', '.join(f'`{role}`' for role in ROLES)}; `system` counts at the front.",
    "content": "the text; of a `tool` message any JSON value.",
    "reasoning": "of an `assistant` message: what it thought.",
    "reasoning_content": "another spelling of `reasoning`.",
    "tool_calls": "of an `assistant` message: the calls, flat as `--json` prints them, or nested as OpenAI has them.",
    "tool_call_id": "of a `tool` message: the call that it answers.",
    "name": "of a `tool` message: the function.",
}
_SETTINGS = """\
---
hide:
  - toc
---

# Settings file

`mistral-chat config init` writes this file, with every line commented out; `config path` prints where it is, `config
edit` opens it and checks it afterwards, `config set NAME VALUE` changes one setting. It is TOML. A wrong name or value
is an error that names the line. Options that are not here belong to the command line.
"""
_SERVERS = """\
## Servers

Each table `[remote.NAME]` is a server for `--remote NAME`. It gets its own key and no other.
"""
_TOOLS = """\
## Functions

The lists `allow` and `deny` of the table `[tools]` hold rules for `--run-tools`. Each table `[tools.NAME]` is a source
of functions: a server or a Python file. `enabled = false` leaves one out.
"""
_OUR_OWN = ("name", "place")  # of a server: its table's name, and where that is written
_FILES = """\
# Files on the disk

`mistral-chat doctor` prints the folders of your machine. With `MISTRAL_CHAT_HOME=FOLDER` they are `FOLDER/config`,
`FOLDER/data` and `FOLDER/cache`. The folders are for their owner only.
"""
_FILES_END = """
Models in the hub's cache, and those of Ollama, LM Studio and llama.cpp, are used where they lie. Only files below our
own data folder and the hub's cache are ever removed, by `mistral-chat models rm`. A file that is being written has
another name until it is whole.
"""


def json_page() -> str:
    """The keys of an answer, from an answer that has all of them."""
    done = Completion(
        text="Yes.",
        finish_reason="stop",
        ids=(6360, 29491),
        prompt_ids_sha256="9f86d081…",
        tokens=TokenCounts(prompt=12, generated=2, reasoning=1),
        seconds=Seconds(load=0.4, prompt=0.2, generate=0.1),
        sampling={"temperature": 0.7, "seed": 1},
        tool_calls=(ToolCall("weather", '{"city": "Paris"}', "a1b2c3d4e"),),
        choice={"yes": 0.9, "no": 0.1},
        logprobs=({"id": 6360, "logprob": -0.1},),
        reasoning="Is it?",
    )
    info = ModelInfo("/home/ann/model.gguf", 4_372_811_936, "Q4_K_M", "llama", None, 32768, 32768, "v3", name="Mistral")
    full = reply_report(done, info, Settings(extract=True))
    meanings = {**_attributes(Completion), "code": "the block of code, where `-x` or `--xl` asks for one; null without"}
    meanings |= {"tokens": "counts of tokens, below", "seconds": "wall times in seconds, below", "model": "below"}
    optional = full.keys() - reply_report(_plain(done), info, Settings()).keys()
    rows = [(f"`{key}`", text(meanings[key]), "where there is one" if key in optional else "always") for key in full]
    example = json.dumps(reply_report(_plain(done), info, Settings()), indent=2, ensure_ascii=False)
    reasons = ", ".join(f"`{reason}`" for reason in get_args(FinishReason))
    parts = [
        f"{_JSON}\n```json\n{example}\n```\n",
        f"## Keys\n\n{table(('key', 'meaning', 'present'), rows)}",
        f"`finish_reason` is one of {reasons}.\n",
        f"## tokens\n\n{_fields(full['tokens'], _attributes(TokenCounts))}",
        f"## seconds\n\n{_fields(full['seconds'], _attributes(Seconds))}",
        f"## model\n\n{_fields(full['model'], _attributes(ModelInfo))}",
        "## tool_results\n\nWith `--run-tools`, a list of the calls that were run, in this form. `outcome` is one of "
        f"{', '.join(f'`{outcome}`' for outcome in get_args(Outcome))}.\n",
        f"```json\n{json.dumps(results_report([CallResult(done.tool_calls[0], 'done', '18 degrees', 0.2)])[0])}\n```\n",
        "## Dry run\n\n`--dry-run` prints the prompt instead, without a model's answer:\n",
        f"```json\n{json.dumps(rendered_report(Rendered('<s>[INST] Hi[/INST]', (1, 3, 16127, 4), 'v3')))}\n```\n",
    ]
    return "\n".join(parts)


def batch_page() -> str:
    """The keys of a record and of a message."""
    if _MESSAGE_KEYS.keys() != MESSAGE_KEYS:
        raise ValueError(f"keys of messages without a description: {_MESSAGE_KEYS.keys() ^ MESSAGE_KEYS}")
    options = [
        (f"`{name}`", f"[`{spec.option.flag}`](options.md#{name})")
        for name, spec in option_specs().items()
        if name in OPTIONS
    ]
    failed = json.dumps({"id": 2, **failure_report(ContextError("the prompt has 9,000 tokens, the context 8,192"))})
    return "\n".join(
        [
            _BATCH,
            '```json\n"What is 1+1?"\n{"id": "b", "prompt": "And 2+2?", "temperature": 0}',
            '{"id": "c", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 20}\n```\n',
            f"## Keys of a record\n\n{table(('key', 'value'), [(f'`{k}`', v) for k, v in _RECORD_KEYS.items()])}",
            "Further keys are options for this record alone; any other key is an error of the record.\n",
            table(("key", "option"), options),
            f"## Keys of a message\n\n{table(('key', 'value'), [(f'`{k}`', v) for k, v in _MESSAGE_KEYS.items()])}",
            f"## A record that failed\n\n```json\n{failed}\n```\n",
        ]
    )


def settings_page() -> str:
    """The commented settings file, and the keys of a server."""
    file = f"{_SETTINGS}\n```toml\n{initial_text()}```\n"
    return "\n".join([file, _SERVERS, _entry_table(Remote), _TOOLS, _entry_table(ToolServer)])


def files_page() -> str:
    """The files of the program."""
    rows = [(f"`{name}`", kind, text(words)) for kind, name, words in FILES]
    return f"{_FILES}\n{table(('file', 'folder', 'what it holds'), rows)}{_FILES_END}"


def _plain(done: Completion) -> Completion:
    """The answer without what only some have."""
    tokens = replace(done.tokens, reasoning=0)
    return replace(done, tokens=tokens, tool_calls=(), choice=None, logprobs=(), reasoning="")


def _key_table(meanings: Mapping[str, str]) -> str:
    return table(("key", "value"), [(f"`{key}`", words) for key, words in meanings.items()])


def _entry_table(kind: type) -> str:
    """The keys of a table of the settings file, from the dataclass that it becomes."""
    meanings = _attributes(kind).items()
    return table(("key", "meaning"), [(f"`{key}`", text(words)) for key, words in meanings if key not in _OUR_OWN])


def _fields(values: Mapping[str, object], meanings: Mapping[str, str]) -> str:
    return table(("key", "meaning"), [(f"`{key}`", text(meanings[key])) for key in values])


def _attributes(kind: type) -> dict[str, str]:
    """What the docstring of a dataclass says of its fields."""
    section = (inspect.getdoc(kind) or "").partition("Attributes:\n")[2]
    found = re.findall(r"^    (\w+): ((?:.+)(?:\n {8}.+)*)", section, re.MULTILINE)
    return {name: " ".join(words.split()).replace("None", "null") for name, words in found}
