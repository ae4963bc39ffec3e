"""Status lines and their figures: loading, reading, answering, the toolbar and the greeting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.rendering.styled_text import Line, Span, cut, plain
from chat.system.terminal_text import cell_width, counted, escape_line

if TYPE_CHECKING:
    from chat.core.backend import ModelInfo
    from chat.core.events import Completion, PictureProgress, PrefillProgress

BAR_CELLS = 24
LEAST_BAR_CELLS = 6
LEAST_NAME_CELLS = 8
LEAST_SECONDS = 3.0  # from which on the rest of a picture's time is estimated
SEPARATOR = " · "


def duration(seconds: float) -> str:
    """A duration such as 0.8 s, 49 s, 3:07 or 1:02:03; an int is shown without tenths of a second."""
    if seconds < 9.95 and not isinstance(seconds, int):
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def rate(count: int, seconds: float) -> str:
    """Tokens per second, with a digit after the point below 100; `-` if no time has passed."""
    if seconds <= 0:
        return "-"
    speed = count / seconds
    return f"{speed:.1f}" if speed < 100 else f"{speed:,.0f}"


def reading_line(event: PrefillProgress, since: float, width: int) -> Line:
    """How much of the prompt is processed, how fast, and how long it still takes.

    Args:
        event: the last progress.
        since: seconds since then; the next batch may take half a minute.
        width: columns of the terminal.
    """
    parts = [f"{event.done:,} of {event.total:,} tokens"]
    if event.done:
        left = (event.total - event.done) * event.seconds / event.done - since
        parts += [f"{duration(max(0.0, left))} left", f"{rate(event.done, event.seconds)}/s"]
    else:
        parts += [duration(since), "Ctrl+C stops"]
    return _bar_line("reading ", event.done / max(1, event.total), parts, width)


def encoding_line(event: PictureProgress, since: float, width: int) -> Line:
    """Which picture is being encoded, how much of it, and how long it still takes.

    Args:
        event: the last progress.
        since: seconds since then.
        width: columns of the terminal.
    """
    passed = event.seconds + since
    left = event.seconds / event.fraction - passed if event.fraction and passed >= LEAST_SECONDS else None
    time_text = duration(int(passed)) if left is None else f"{duration(max(0, int(left)))} left"
    name = cut(escape_line(event.name), max(LEAST_NAME_CELLS, width // 3))
    return _bar_line(f"encoding {name} ", event.fraction, [f"{event.fraction:.0%}", time_text, "Ctrl+C stops"], width)


def loading_text(name: str, fraction: float, width: int) -> str:
    """That the model is loading.

    Args:
        name: the model's name.
        fraction: how much is loaded, from 0 to 1; 0 if that is unknown.
        width: columns of the terminal.
    """
    progress = f"{SEPARATOR}{fraction:.0%}" if fraction else " …"
    return cut(f"loading {name}", max(LEAST_NAME_CELLS, width - 1 - len(progress))) + progress


def loading_line(name: str, fraction: float, seconds: float, width: int) -> Line:
    """That the model is loading, with a bar.

    Args:
        name: the model's name.
        fraction: how much is loaded, from 0 to 1; 0 if that is unknown.
        seconds: how long it has been loading.
        width: columns of the terminal.
    """
    if not fraction:
        return plain(cut(f"loading {name}{SEPARATOR}{duration(seconds)}", width - 1), "dim")
    return _bar_line("loading ", fraction, [f"{fraction:.0%}", duration(seconds)], width)


def silence_line(seconds: float, width: int) -> Line:
    """That no token came for a while: an engine that hangs looks like a slow one, and Ctrl+C stops both."""
    return plain(cut(f"no token for {duration(seconds)}{SEPARATOR}Ctrl+C stops", width - 1), "dim")


def thinking_line(seconds: float, width: int) -> Line:
    """That the model thinks, and how long the answer has taken so far."""
    return plain(cut(f"thinking{SEPARATOR}{duration(seconds)}", width - 1), "dim")


def completion_line(completion: Completion, width: int) -> Line:
    """Tokens, speed, time and cached part of an answer in a session, as far as they fit."""
    return plain(_joined(_figures(completion, completion.seconds.prompt), width - 1), "dim")


def stats_line(completion: Completion) -> Line:
    """All figures of the only answer of a process; the time includes the loading of the model."""
    return plain(SEPARATOR.join(_figures(completion, completion.seconds.load + completion.seconds.prompt)), "dim")


def context_usage(info: ModelInfo, used_tokens: int) -> str:
    """Tokens used of the context, or next to the sliding window if that is smaller."""
    if info.window and info.window < info.context:
        return f"{counted(used_tokens, 'token')} · window {info.window:,}"
    return f"{used_tokens:,} / {info.context:,}" if info.context else counted(used_tokens, "token")


def greeting(name: str, width: int) -> str:
    """The model's name and how to get help, which is left out if too little of the name would be left."""
    help_hint = f"{SEPARATOR}/help for help"
    cells = width - 1 - len(help_hint)
    return cut(name, cells) + help_hint if cells >= min(8, cell_width(name)) else cut(name, width - 1)


def toolbar(name: str, used: str, others: list[str], width: int) -> str:
    """The model's name, the used context, and of the other parts as many as fit; the name is cut first."""
    cells = width - 1 - (cell_width(used) + len(SEPARATOR) if used else 0)
    return _joined([part for part in (cut(name, max(LEAST_NAME_CELLS, cells)), used, *others) if part], width - 1)


def _figures(completion: Completion, first_token: float) -> list[str]:
    """The figures of an answer, the most important first; `first_token` is its time in seconds."""
    tokens, seconds = completion.tokens, completion.seconds
    is_choice = completion.choice is not None  # which comes all at once
    has_rate = seconds.generate > 0 and tokens.generated and not is_choice
    thought = f" ({tokens.reasoning:,} of thinking)" if tokens.reasoning else ""
    cached = f" ({tokens.cached:,} from the cache)" if tokens.cached else ""
    parts = [
        counted(tokens.generated, "token") + thought if tokens.are_known else "",
        f"{rate(tokens.generated, seconds.generate)} tokens/s" if has_rate else "",
        duration(first_token + seconds.generate),
        "" if is_choice else f"first token after {duration(first_token)}",
        f"prompt {counted(tokens.prompt, 'token')}{cached}" if tokens.are_known else "",
        f"{tokens.accepted:,} of {tokens.drafted:,} drafted tokens used" if tokens.drafted else "",
    ]
    return [part for part in parts if part]


def _joined(parts: list[str], width: int) -> str:
    """The first part, and of the others as many as fit."""
    kept = parts[:1]
    for part in parts[1:]:
        if cell_width(SEPARATOR.join([*kept, part])) <= width:
            kept.append(part)
    return cut(SEPARATOR.join(kept), width)


def _bar_line(label: str, fraction: float, parts: list[str], width: int) -> Line:
    """A label, a bar if there are cells for it, and as many of the parts as fit."""
    text = _joined(parts, width - 1 - cell_width(label))
    cells = min(BAR_CELLS, width - 2 - cell_width(label + text))
    if cells < LEAST_BAR_CELLS:
        return plain(label + text, "dim")
    full = round(max(0.0, min(1.0, fraction)) * cells)
    return (Span(label, "dim"), Span("━" * full, "cyan"), Span("─" * (cells - full), "dim"), Span(" " + text, "dim"))
