"""All options of `mistral-chat`: their names, spellings, types, limits, defaults and help."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from chat.core.document_kinds import DOCUMENTS

if TYPE_CHECKING:
    from chat.config.remotes import Remote
    from chat.config.tool_table import ToolTable

MOST = 2**31 - 1  # what llama.cpp counts with


class Group(Enum):
    """The sections of `--help`, in their order."""

    MODEL = "Model"
    PROMPT = "Prompt"
    ANSWER = "Answer"
    TOOLS = "Tools"
    SESSION = "Session"
    OUTPUT = "Output"
    ENGINE = "Engine"


@dataclass(frozen=True)
class Option:
    """How one setting is written, checked and explained; stored in the metadata of its field.

    Attributes:
        flags: the spellings on the command line; messages show the first long one.
        lowest: the least value of a number, or of one that may stand for a text such as `auto`.
        highest: the greatest value of it.
        persistent: whether the settings file and the environment may set it.
        live: whether a session can change it without loading the model again.
        needs: the settings of which it needs one to have an effect.
    """

    flags: tuple[str, ...]
    help: str
    group: Group
    metavar: str | None = None
    lowest: float | None = None
    highest: float | None = None
    persistent: bool = True
    live: bool = False
    needs: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        """The spelling used in messages."""
        return next(flag for flag in self.flags if flag.startswith("--"))


def _option(default: Any, *flags: str, help: str, group: Group, **more: Any) -> Any:
    return field(default=default, metadata={"option": Option(flags, help, group, **more)})


@dataclass(frozen=True)
class Settings:
    """The effective value of every option."""

    model: str | None = _option(
        None, "-m", "--model", group=Group.MODEL, metavar="NAME",
        help="GGUF file, catalogue name, ollama:NAME, or hf:owner/repo[:QUANT]; else that of the last session.",
    )  # fmt: skip
    lora: tuple[str, ...] = _option(
        (), "--lora", group=Group.MODEL, metavar="PATH[:SCALE]",
        help="Adapter GGUF to add, with a scale; may be given several times.",
    )  # fmt: skip
    mmproj: str = _option(
        "auto", "--mmproj", group=Group.MODEL, metavar="auto|off|FILE",
        help="GGUF by which the model sees pictures; auto is the one that belongs to the model's file.",
    )  # fmt: skip
    picture_size: int | None = _option(
        None, "--picture-size", group=Group.MODEL, metavar="N", lowest=16, highest=MOST,
        help="Most pixels of a picture's longer side, fewer than the model takes: faster, with less detail.",
    )  # fmt: skip
    prompt_format: str | None = _option(
        None, "--prompt-format", group=Group.MODEL, metavar="NAME",
        help="Instruct format, instead of the one the file names: v1, v2, v3, v3-tekken, v7, ...",
    )  # fmt: skip

    remote: str | None = _option(
        None, "--remote", group=Group.MODEL, metavar="NAME|URL",
        help="Answer through an OpenAI-compatible server: an address, whose key is $MISTRAL_CHAT_REMOTE_KEY, or a "
        "[remote.NAME] of the settings file.",
    )  # fmt: skip
    remote_model: str | None = _option(
        None, "--remote-model", group=Group.MODEL, metavar="NAME", needs=("remote",),
        help="The server's model, if it has several.",
    )  # fmt: skip
    insecure: bool = _option(
        False, "--insecure", group=Group.MODEL, needs=("remote",), help="Allow --remote over http to another machine."
    )

    system: str | None = _option(
        None, "-s", "--system", "--sys", group=Group.PROMPT, metavar="TEXT", live=True, help="System prompt."
    )
    system_file: Path | None = _option(
        None, "--system-file", group=Group.PROMPT, metavar="FILE", help="Read the system prompt from a file."
    )
    template: str | None = _option(
        None, "-t", "--template", group=Group.PROMPT, metavar="NAME", persistent=False,
        help="Put the prompt into a template; see `mistral-chat templates`.",
    )  # fmt: skip
    param: tuple[str, ...] = _option(
        (), "-p", "--param", group=Group.PROMPT, metavar="NAME=TEXT", persistent=False,
        needs=("template",),
        help="Value of a template's variable; may be given several times.",
    )  # fmt: skip
    file: tuple[str, ...] = _option(
        (), "-f", "--file", group=Group.PROMPT, metavar="FILE", persistent=False,
        help=f"Attach a text, a picture, a document ({DOCUMENTS}), a folder, an https:// page or the output of a "
        "'!command'; may be given several times; - is stdin.",
    )  # fmt: skip
    find: bool = _option(
        False, "--find", group=Group.PROMPT, persistent=False, live=True, needs=("file",),
        help="Of long files send only the passages that matter for the question, with their pages or lines.",
    )  # fmt: skip
    embedding_model: str | None = _option(
        None, "--embedding-model", group=Group.PROMPT, metavar="NAME|off",
        help="Embedding model by which --find compares passages, such as nomic-embed-text; else one that is here.",
    )  # fmt: skip
    raw: bool = _option(
        False, "--raw", group=Group.PROMPT, persistent=False, help="No template: continue the text as it is."
    )
    raw_ids: str | None = _option(
        None, "--raw-ids", group=Group.PROMPT, metavar="FILE", persistent=False,
        help="A file with a JSON list of token ids, used as the whole prompt; - is stdin.",
    )  # fmt: skip
    dry_run: bool = _option(
        False, "--dry-run", group=Group.PROMPT, persistent=False,
        help="Show the prompt's text and token ids as JSON; reads the vocabulary only.",
    )  # fmt: skip

    effort: str | None = _option(
        None, "--effort", group=Group.ANSWER, metavar="LEVEL", live=True,
        help="How much the model thinks before it answers, e.g. none or high; for models with such levels.",
    )  # fmt: skip
    think: Literal["auto", "on", "off", "hide"] = _option(
        "auto", "--think", group=Group.ANSWER, live=True,
        help="Whether the model thinks before it answers; hide keeps its thoughts off the screen.",
    )  # fmt: skip
    think_limit: int | None = _option(
        None, "--think-limit", group=Group.ANSWER, metavar="N", lowest=0, highest=MOST, live=True,
        help="Most tokens of thinking; then the model must answer.",
    )  # fmt: skip
    max_tokens: int | None = _option(
        None, "-n", "--max-tokens", "--num-predict", group=Group.ANSWER, metavar="N", lowest=0, highest=MOST, live=True,
        help="Longest answer in tokens; up to the context if not given.",
    )  # fmt: skip
    temperature: float = _option(
        0.7, "--temperature", "--temp", group=Group.ANSWER, metavar="X", lowest=0, highest=100, live=True,
        help="Randomness; 0 takes the likeliest token each time.",
    )  # fmt: skip
    top_p: float = _option(
        0.95, "--top-p", group=Group.ANSWER, metavar="X", lowest=0, highest=1, live=True,
        help="Sample from the likeliest tokens that hold this much probability.",
    )  # fmt: skip
    top_k: int = _option(
        40, "--top-k", group=Group.ANSWER, metavar="N", lowest=0, highest=MOST, live=True,
        help="Sample from this many likeliest tokens; 0 is all.",
    )  # fmt: skip
    min_p: float = _option(
        0.05, "--min-p", group=Group.ANSWER, metavar="X", lowest=0, highest=1, live=True,
        help="Leave out tokens below this share of the likeliest one's probability.",
    )  # fmt: skip
    repeat_penalty: float = _option(
        1.0, "--repeat-penalty", group=Group.ANSWER, metavar="X", lowest=0.01, highest=10, live=True,
        help="Above 1 makes tokens of the last 64 less likely.",
    )  # fmt: skip
    seed: int | None = _option(
        None, "--seed", group=Group.ANSWER, metavar="N", lowest=0, highest=2**32 - 2, live=True,
        help="Get the same answer again; random and reported if not given.",
    )  # fmt: skip
    stop: tuple[str, ...] = _option(
        (), "--stop", group=Group.ANSWER, metavar="TEXT", live=True,
        help="End the answer before this text; may be given several times.",
    )  # fmt: skip
    schema: str | None = _option(
        None, "--schema", group=Group.ANSWER, metavar="JSON|FILE|FIELDS", persistent=False,
        help="The answer is JSON that matches this schema, in full or as fields: 'name, age int, likes [str]'.",
    )  # fmt: skip
    grammar: str | None = _option(
        None, "--grammar", group=Group.ANSWER, metavar="TEXT|FILE", persistent=False,
        help="The answer matches this Lark or GBNF grammar.",
    )  # fmt: skip
    regex: str | None = _option(
        None, "--regex", group=Group.ANSWER, metavar="PATTERN", persistent=False,
        help="The answer matches this regular expression.",
    )  # fmt: skip
    choice: tuple[str, ...] = _option(
        (), "--choice", group=Group.ANSWER, metavar="TEXT", persistent=False,
        help="The answer is one of these; give it several times.",
    )  # fmt: skip
    extract: bool = _option(
        False, "-x", "--extract", group=Group.OUTPUT, persistent=False, help="Print only the first fenced code block."
    )
    extract_last: bool = _option(
        False,
        "--xl",
        "--extract-last",
        group=Group.OUTPUT,
        persistent=False,
        help="Print only the last fenced code block.",
    )
    fail_on_length: bool = _option(
        False, "--fail-on-length", group=Group.OUTPUT,
        help="Exit with 1 if the answer was cut for its length; with a schema this is always so.",
    )  # fmt: skip
    logprobs: int = _option(
        0, "--logprobs", group=Group.OUTPUT, metavar="K", lowest=0, highest=100, persistent=False,
        needs=("json", "batch"),
        help="With --json or --batch: the K likeliest tokens at each place, with log probabilities.",
    )  # fmt: skip
    tools: tuple[str, ...] = _option(
        (), "--tools", group=Group.ANSWER, metavar="FILE", persistent=False,
        help="Functions the model may call: a JSON list of them, or a Python file; may be given several times.",
    )  # fmt: skip
    tool_choice: str | None = _option(
        None, "--tool-choice", group=Group.ANSWER, metavar="CHOICE", persistent=False,
        needs=("tools", "run_tools", "batch"),
        help="Whether a function is called: auto, none, required (by a server), or the function's name.",
    )  # fmt: skip
    run_tools: bool = _option(
        False, "--run-tools", group=Group.TOOLS,
        help="Run functions that the model calls, each after a yes: those of --tools FILE.py, of MCP servers, and own "
        "ones that read files here.",
    )  # fmt: skip
    mcp_config: tuple[str, ...] = _option(
        (), "--mcp-config", group=Group.TOOLS, metavar="FILE", needs=("run_tools",),
        help="MCP servers to use, in the mcp.json of Claude or VS Code; may be given several times.",
    )  # fmt: skip
    allow_tool: tuple[str, ...] = _option(
        (), "--allow-tool", group=Group.TOOLS, metavar="RULE", persistent=False, needs=("run_tools",),
        help="Calls that run without a question: read_file, or 'read_file(path=src/*)'; may be given several times.",
    )  # fmt: skip
    deny_tool: tuple[str, ...] = _option(
        (), "--deny-tool", group=Group.TOOLS, metavar="RULE", persistent=False, needs=("run_tools",),
        help="Calls that never run, whatever allows them; may be given several times.",
    )  # fmt: skip
    tool_steps: int = _option(
        10, "--tool-steps", group=Group.TOOLS, metavar="N", lowest=1, highest=1000, live=True,
        needs=("run_tools",),
        help="Most calls for one question.",
    )  # fmt: skip
    tool_timeout: float = _option(
        60.0, "--tool-timeout", group=Group.TOOLS, metavar="SECONDS", lowest=0.1, highest=86400, live=True,
        needs=("run_tools",),
        help="Longest time of one call.",
    )  # fmt: skip
    tool_output: int = _option(
        20_000, "--tool-output", group=Group.TOOLS, metavar="N", lowest=100, highest=10_000_000, live=True,
        needs=("run_tools",),
        help="Most characters of one result; what is longer is cut.",
    )  # fmt: skip

    tool_result: tuple[str, ...] = _option(
        (), "--tool-result", group=Group.SESSION, metavar="TEXT", persistent=False,
        needs=("continue_last", "session"),
        help="With -c or --session: the result of a function that the model called; once for each call.",
    )  # fmt: skip
    continue_last: bool = _option(
        False, "-c", "--continue", group=Group.SESSION, persistent=False, help="Continue the last session."
    )
    session: str | None = _option(
        None, "--session", group=Group.SESSION, metavar="NAME", persistent=False,
        help="Continue the session of this name, or begin it.",
    )  # fmt: skip
    offline: bool = _option(
        False, "--offline", group=Group.SESSION,
        help="Open no connection: no server, no hub, no web page. On Linux the kernel holds the engine to it.",
    )  # fmt: skip
    no_history: bool = _option(False, "--no-history", group=Group.SESSION, help="Store nothing.")
    keys: Literal["emacs", "vi"] = _option(
        "emacs", "--keys", group=Group.SESSION, live=True, help="Key bindings of the session's input line."
    )
    preset: str | None = _option(
        None,
        "--preset",
        group=Group.SESSION,
        metavar="NAME",
        help="Use the values of [preset.NAME] in the settings file.",
    )

    json: bool = _option(
        False, "--json", group=Group.OUTPUT, persistent=False, help="One JSON object with the answer and its figures."
    )
    batch: str | None = _option(
        None, "--batch", group=Group.OUTPUT, metavar="FILE", persistent=False,
        help="Answer each line of a JSON Lines file; - is stdin.",
    )  # fmt: skip
    output: Path | None = _option(
        None, "-o", "--output", group=Group.OUTPUT, metavar="FILE", persistent=False,
        needs=("batch",),
        help="Write the answers of --batch to this file instead of stdout.",
    )  # fmt: skip
    resume: bool = _option(
        False, "--resume", group=Group.OUTPUT, persistent=False,
        needs=("output",),
        help="With --output: answer only what the file has no answer to; errors are asked again.",
    )  # fmt: skip
    parallel: int | None = _option(
        None, "--parallel", group=Group.ENGINE, metavar="N", lowest=1, highest=64, needs=("batch",),
        help="Answer N lines of --batch at a time (7 if memory allows; 8 on a server); with more, texts may differ "
        "in near ties.",
    )  # fmt: skip
    markdown: bool | None = _option(
        None, "--markdown/--no-markdown", group=Group.OUTPUT, live=True,
        help="Style Markdown on a terminal, or show answers as plain text.",
    )  # fmt: skip
    color: Literal["auto", "always", "never"] = _option(
        "auto", "--color", group=Group.OUTPUT, help="Colours; auto is on a terminal, unless NO_COLOR is set."
    )
    accessible: bool = _option(
        False, "--accessible", group=Group.OUTPUT,
        help="For a screen reader, as ACCESSIBLE=1: nothing on the screen changes, and every state is said in words.",
    )  # fmt: skip
    stats: bool = _option(
        False,
        "--stats",
        group=Group.OUTPUT,
        live=True,
        help="Tokens, speed and times of each answer; on stderr for a one shot or a batch.",
    )
    quiet: bool = _option(False, "-q", "--quiet", group=Group.OUTPUT, help="Only errors on stderr.")
    verbose: bool = _option(
        False, "-v", "--verbose", group=Group.OUTPUT, help="Tracebacks, and the engine's log of a one shot, on stderr."
    )
    log_file: Path | None = _option(
        None, "--log-file", group=Group.OUTPUT, metavar="FILE", help="Write the engine's log to this file."
    )

    context: int | None = _option(
        None, "--context", "--num-ctx", group=Group.ENGINE, metavar="N", lowest=16, highest=MOST,
        help="Context in tokens; what the model allows and fits in memory if not given.",
    )  # fmt: skip
    window: str = _option(
        "auto", "--window", group=Group.ENGINE, metavar="auto|off|N", lowest=1, highest=MOST,
        help="Sliding window in tokens; auto is the file's.",
    )  # fmt: skip
    overflow: Literal["error", "drop"] | None = _option(
        None, "--overflow", group=Group.ENGINE,
        help="Prompt over the context: error (default of a one shot), or drop the oldest turns (of a session).",
    )  # fmt: skip
    kv_type: Literal["f16", "f32", "q8_0", "q4_0"] = _option(
        "f16", "--kv-type", group=Group.ENGINE, help="Type of the KV cache; q8_0 halves it."
    )
    gpu_layers: str = _option(
        "auto",
        "--gpu-layers",
        group=Group.ENGINE,
        metavar="auto|N|all",
        lowest=0,
        highest=MOST,
        help="Layers on the GPU; auto is what fits.",
    )
    threads: int | None = _option(
        None, "--threads", group=Group.ENGINE, metavar="N", lowest=1, highest=4096,
        help="Threads; all available physical cores if not given, one for a very small model.",
    )  # fmt: skip
    flash_attention: Literal["auto", "on", "off"] = _option(
        "auto", "--flash-attention", group=Group.ENGINE, help="Flash attention; auto uses it where possible."
    )
    repack: Literal["auto", "on", "off"] = _option(
        "auto", "--repack", group=Group.ENGINE,
        help="Repack weights at load: long prompts read faster, loading takes longer and more memory.",
    )  # fmt: skip
    mlock: bool = _option(False, "--mlock", group=Group.ENGINE, help="Keep the model's pages in memory.")
    draft: str = _option(
        "lookup", "--draft", group=Group.ENGINE, metavar="lookup|off|FILE",
        help="Propose tokens ahead: from the conversation, or by a small GGUF of the same vocabulary.",
    )  # fmt: skip
    state_cache: float = _option(
        4.0, "--state-cache", group=Group.ENGINE, metavar="GIB", lowest=0, highest=1_000_000,
        help="Disk space for saved states in GiB; 0 saves none.",
    )  # fmt: skip

    remotes: tuple[Remote, ...] = field(default=(), compare=False, repr=False)  # that the settings file names
    tool_table: ToolTable | None = field(default=None, compare=False, repr=False)  # that it has
    # the names of the settings above that came from the user, in whatever way
    given: frozenset[str] = field(default=frozenset(), compare=False, repr=False)

    @property
    def wants_code(self) -> bool:
        """Whether only a fenced code block of the answer is wanted."""
        return self.extract or self.extract_last

    @property
    def fails_when_cut(self) -> bool:
        """Whether an answer that was cut for its length is an error: on request, or because of a constraint."""
        return bool(self.fail_on_length or self.schema or self.grammar or self.regex or self.choice)
