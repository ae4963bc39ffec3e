"""Command lines made at random from options, values, words and commands are read as what they were made from.

What a line says is written down while it is made, so that no second parser is needed to know it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

from chat.cli.argv import read_command_line
from chat.cli.main import COMMANDS
from chat.config.option_types import option_specs

LINES = 6000
NAMES = (*COMMANDS, "completion")
PAGES = {"help": ("-h", "--help"), "man": ("", "--man"), "version": ("-V", "--version")}
WORDS = ("hi", "what?", "-", "", "bash", "convert", "models", "completion")
# Every one of them would be something else if it were not read as a value
VALUES = (
    "convert",
    "models",
    "-v",
    "--verbose",
    "--help",
    "-h",
    "-qh",
    "--man",
    "-V",
    "--",
    "-",
    "",
    "a=b",
    "--no-x=y",
)


@dataclass
class Line:
    """Arguments, and what they say up to a command's name."""

    arguments: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    flags: dict[str, Any] = field(default_factory=dict)
    pages: set[str] = field(default_factory=set)
    command: str | None = None
    before: list[str] = field(default_factory=list)
    behind: list[str] = field(default_factory=list)
    fault: str | None = None

    def add(self, *arguments: str, flags: dict[str, Any] | None = None, page: str = "", fault: str = "") -> None:
        """Add an option with what it says."""
        self.arguments += arguments
        if self.command is not None:
            self.behind += arguments
            return
        self.say(flags, page, fault)

    def say(self, flags: dict[str, Any] | None = None, page: str = "", fault: str = "") -> None:
        """Write down what the arguments mean, without arguments of its own."""
        for name, value in (flags or {}).items():
            self.flags[name] = (*self.flags.get(name, ()), value) if option_specs()[name].many else value
        self.pages |= {page} - {""}
        self.fault = self.fault or fault or None

    def add_word(self, word: str) -> None:
        """Add a word; the first one may be a command."""
        if self.command is not None:
            self.behind.append(word)
        elif word in NAMES and not self.words:
            self.command, self.before = word, [*self.arguments]
        else:
            self.words.append(word)
        self.arguments.append(word)


def spelled(*, short: bool, takes_value: bool) -> list[tuple[str, str, bool]]:
    """Each spelling of the options with its setting, and what it stands for if it takes no value."""
    return [
        (flag, name, not flag.startswith("--no-") or name.startswith("no_"))
        for name, each in option_specs().items()
        for written in each.option.flags
        for flag in written.split("/")
        if (each.kind is not bool) == takes_value and flag.startswith("--") != short
    ]


SHORT_SWITCHES = spelled(short=True, takes_value=False)
LONG_SWITCHES = spelled(short=False, takes_value=False)
SHORT_OPTIONS = spelled(short=True, takes_value=True)
LONG_OPTIONS = spelled(short=False, takes_value=True)


def add_word(line: Line, random: Random) -> None:
    line.add_word(random.choice(WORDS))


def add_long_switch(line: Line, random: Random) -> None:
    flag, name, truth = random.choice(LONG_SWITCHES)
    line.add(flag, flags={name: truth})


def add_switch_with_a_value(line: Line, random: Random) -> None:
    flag = random.choice([*LONG_SWITCHES, ("--help", "", True), ("--man", "", True)])[0]
    line.add(f"{flag}={random.choice(VALUES)}", fault=f"{flag} takes no value")


def add_long_option(line: Line, random: Random) -> None:
    (flag, name, _), value = random.choice(LONG_OPTIONS), random.choice(VALUES)
    line.add(*random.choice([[flag, value], [f"{flag}={value}"]]), flags={name: value})


def add_long_page(line: Line, random: Random) -> None:
    page = random.choice([*PAGES])
    line.add(PAGES[page][1], page=page)


def add_unknown_option(line: Line, random: Random) -> None:
    value = random.choice(["", "=", "=--help"])
    line.add(f"--no-such{value}", fault="no such option: --no-such")


def add_letters(line: Line, random: Random) -> None:
    """Switches and pages behind one dash; the last letter may take a value, or be none that we have."""
    letters = ""
    saying: list[dict[str, Any]] = []
    for _ in range(random.randrange(4)):
        if random.random() < 0.15:
            page = random.choice(["help", "version"])
            saying.append({"page": page})
            letters += PAGES[page][0][1]
        else:
            flag, name, _ = random.choice(SHORT_SWITCHES)
            saying.append({"flags": {name: True}})
            letters += flag[1]
    value: tuple[str, ...] = ()
    end = random.random()
    if end < 0.1:
        letters += random.choice(["Z", "Zh", "Zq", "Zm"])
        saying.append({"fault": "no such option: -Z"})
    elif end < 0.7 or not letters:
        (flag, name, _), text = random.choice(SHORT_OPTIONS), random.choice(VALUES)
        saying.append({"flags": {name: text}})
        letters += flag[1]
        if text and random.random() < 0.5:
            letters += text
        else:
            value = (text,)
    line.add(f"-{letters}", *value)
    if line.command is None:
        for each in saying:
            line.say(**each)


def add_end(line: Line, random: Random) -> None:
    """What can only stand last: words behind `--`, or an option without its value."""
    if random.random() < 0.7:
        words = random.choices([*VALUES, *WORDS], k=random.randrange(4))
        line.add("--", *words)
        if line.command is None:
            line.words += words
    else:
        flag = random.choice([*SHORT_OPTIONS, *LONG_OPTIONS])[0]
        line.add(flag, fault=f"{flag} needs a value")


PARTS = {
    add_word: 5,
    add_long_switch: 2,
    add_long_option: 4,
    add_letters: 6,
    add_long_page: 1,
    add_switch_with_a_value: 1,
    add_unknown_option: 1,
}


def make_line(seed: int) -> Line:
    random = Random(seed)
    line = Line()
    for add in random.choices([*PARTS], [*PARTS.values()], k=random.randrange(6)):
        add(line, random)
    if random.random() < 0.4:
        add_end(line, random)
    return line


def test_a_generated_line_is_read_as_what_it_was_made_from() -> None:
    for seed in range(LINES):
        made = make_line(seed)
        line = read_command_line(made.arguments, NAMES)
        page = next((each for each in PAGES if each in made.pages), None)
        read = {
            "words": [*line.words],
            "flags": dict(line.flags),
            "page": line.page,
            "verbose": line.verbose,
            "command": (line.command, [*line.before], [*line.arguments]),
            "fault": line.fault and line.fault.message,
        }
        words = [] if made.command is not None else made.words
        assert read == {
            "words": words,
            "flags": made.flags,
            "page": page,
            "verbose": made.flags.get("verbose", False),
            "command": (made.command, made.before, made.behind),
            "fault": made.fault,
        }, (seed, made.arguments)


def test_the_generated_lines_cover_every_kind() -> None:
    """Otherwise the test above could pass by never getting there."""
    lines = [make_line(seed) for seed in range(LINES)]
    kinds = {
        "command": [line for line in lines if line.command and not line.before],
        "options before a command": [line for line in lines if line.before],
        "page": [line for line in lines if line.pages],
        "fault": [line for line in lines if line.fault],
        "fault beside help": [line for line in lines if line.fault and "help" in line.pages],
        "verbose": [line for line in lines if line.flags.get("verbose")],
        "-v that is no option": [line for line in lines if "-v" in line.arguments and not line.flags.get("verbose")],
        "help that is no option": [
            line for line in lines if {"-h", "--help"} & {*line.arguments} and "help" not in line.pages
        ],
        "question behind --": [line for line in lines if "--" in line.arguments and {*NAMES} & {*line.words}],
        "plain": [line for line in lines if line.words and not (line.fault or line.pages or line.command)],
    }
    assert {kind: len(found) for kind, found in kinds.items() if len(found) < 50} == {}
