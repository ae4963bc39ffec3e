"""Say in a line how loading, reading and answering go. Pure: figures in, words out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.rendering.styled_text import Line, Span, cell_width, cut, plain

if TYPE_CHECKING:
    from chat.core.backend import ModelInfo
    from chat.core.events import Completion, PrefillProgress

BAR_CELLS = 24


def duration(seconds: float) -> str:
    """A span of time as people read it: 0.8 s, 49 s, 3:07, 1:02:03; whole seconds, given as int, without tenths."""
    if seconds < 9.95 and not isinstance(seconds, int):
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def rate(count: int, seconds: float) -> str:
    """Tokens per second, as many digits as mean something."""
    if seconds <= 0:
        return "-"
    speed = count / seconds
    return f"{speed:.1f}" if speed < 100 else f"{speed:.0f}"


def bar(fraction: float, cells: int) -> tuple[Span, ...]:
    """A bar of `cells` columns that is full at 1."""
    full = round(max(0.0, min(1.0, fraction)) * cells)
    return (Span("━" * full, "cyan"), Span("─" * (cells - full), "dim"))


def reading_line(event: PrefillProgress, since: float, width: int) -> Line:
    """How far the prompt is read, how fast, and how long still.

    Args:
        since: seconds since the event; none comes before a batch is read, which may take half a minute.
        width: of the terminal.
    """
    parts = [f"{event.done:,} of {event.total:,} tokens"]
    if event.done:
        left = (event.total - event.done) * event.seconds / event.done - since
        parts += [f"{duration(max(0.0, left))} left", f"{rate(event.done, event.seconds)}/s"]
    else:
        parts += [duration(since), "Ctrl+C stops"]
    return _with_bar("reading ", event.done / max(1, event.total), parts, width)


def loading_words(name: str, fraction: float, width: int) -> str:
    """That the model is being loaded, and how far where that is known, which 0 is not."""
    far = f" · {fraction:.0%}" if fraction else " …"
    return cut(f"loading {name}", max(8, width - 1 - len(far))) + far


def loading_line(name: str, fraction: float, seconds: float, width: int) -> Line:
    """The same with a bar, and since when."""
    if not fraction:
        return plain(cut(f"loading {name} · {duration(seconds)}", width - 1), "dim")
    return _with_bar("loading ", fraction, [f"{fraction:.0%}", duration(seconds)], width)


def waiting_line(seconds: float, width: int) -> Line:
    """That no token came for a while: an engine that hangs looks like a slow one, and Ctrl+C stops both."""
    return plain(cut(f"no token for {duration(seconds)} · Ctrl+C stops", width - 1), "dim")


def done_line(done: Completion, width: int) -> Line:
    """Tokens, speed, time and the cached part of a reply, as much as fits."""
    return plain(_fitting(_figures(done, [duration(done.seconds.prompt + done.seconds.generate)]), width - 1), "dim")


def stats_line(done: Completion) -> Line:
    """The same of a process's only reply, whole: what was loaded for it counts, and when its first token came."""
    first = done.seconds.load + done.seconds.prompt
    times = [duration(first + done.seconds.generate)]
    if done.choice is None:
        times.append(f"first token after {duration(first)}")
    return plain(" · ".join(_figures(done, times)), "dim")


def _figures(done: Completion, times: list[str]) -> list[str]:
    tokens, seconds = done.tokens, done.seconds
    cached = f" ({tokens.cached:,} cached)" if tokens.cached else ""
    has_rate = seconds.generate > 0 and tokens.generated and done.choice is None  # which comes all at once
    parts = [
        counted(tokens.generated, "token") if tokens.are_known else "",
        f"{rate(tokens.generated, seconds.generate)}/s" if has_rate else "",
        *times,
        f"prompt {tokens.prompt:,}{cached}" if tokens.are_known else "",
        f"{tokens.accepted:,} of {tokens.drafted:,} drafted" if tokens.drafted else "",
    ]
    return [part for part in parts if part]


def used_of(info: ModelInfo, used: int) -> str:
    """Tokens used of the context, or of the window that rolls over them."""
    if info.window and info.window < info.context:
        return f"{used:,} tokens · window {info.window:,}"
    return f"{used:,} / {info.context:,}" if info.context else f"{used:,} tokens"


def greeting(name: str, width: int) -> str:
    """The model's name, cut so that the way to the help stands behind it, or alone where too little of it is left."""
    way = " · /help for help"
    room = width - 1 - len(way)
    return cut(name, room) + way if room >= min(8, cell_width(name)) else cut(name, width - 1)


def toolbar(name: str, used: str, more: list[str], width: int) -> str:
    """The model's name, what is used, and of the rest as much as fits; the name is cut first."""
    room = width - 1 - (cell_width(used) + 3 if used else 0)
    return _fitting([part for part in (cut(name, max(8, room)), used, *more) if part], width - 1)


def _fitting(parts: list[str], width: int) -> str:
    kept = parts[:1]
    for part in parts[1:]:
        if cell_width(" · ".join([*kept, part])) <= width:
            kept.append(part)
    return cut(" · ".join(kept), width)


def _with_bar(before: str, fraction: float, parts: list[str], width: int) -> Line:
    """A bar and words behind it, in order of weight as many as fit; the bar where there is still room."""
    words = _fitting(parts, width - 1 - cell_width(before))
    room = width - 2 - cell_width(before + words)
    if room < 6:
        return plain(before + words, "dim")
    return (Span(before, "dim"), *bar(fraction, min(BAR_CELLS, room)), Span(" " + words, "dim"))


def counted(count: int, noun: str) -> str:
    """`1 token`, `1,234 tokens`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
