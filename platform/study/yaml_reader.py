"""A study file's text, read into plain data with the line of every key and value.

PyYAML only cuts the text into events; nothing is constructed by it, so a file can run no code. Unquoted values follow
the core schema of YAML 1.2.2 (section 10.3.2), not PyYAML's 1.1: ``1e-4`` is a number, only ``true`` and ``false`` are
booleans, so that ``on``, ``no`` and ``y`` are text, ``017`` is seventeen, and ``12:30:45`` and dates are text.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .errors import StudyError, StudyErrors, did_you_mean

MAX_BYTES = 1024 * 1024
MAX_NODES = 20_000
MAX_DEPTH = 20
MAX_LETTERS = 2_000
MAX_DIGITS = 18
_TOO_DEEP = f"values nest at most {MAX_DEPTH} deep, and here is one more."

Where = tuple[str | int, ...]
"""The path to a value: keys of mappings and indices of lists."""

# libyaml's parser where PyYAML was built with it: a hundred times faster on a hostile file, same events.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGERS = ((re.compile(r"[-+]?[0-9]+"), 10), (re.compile(r"0o[0-7]+"), 8), (re.compile(r"0x[0-9a-fA-F]+"), 16))
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL: Mapping[str, bool | float | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
    **{sign + word: math.inf for sign in ("", "+") for word in (".inf", ".Inf", ".INF")},
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
}


@dataclass(frozen=True)
class Place:
    """Where a value was written: a file and a line from 1, or ``--set #2`` and line 0."""

    file: str
    line: int


@dataclass(frozen=True)
class Document:
    """The plain data of a study file, with the place where each part was written.

    Attributes:
        file: the study file as the user named it.
        data: the top mapping; holds only None, booleans, numbers, texts, lists and mappings.
        keys: path -> place of each key of a mapping.
        values: path -> place of each value and list item.
        question: the comment block at the top of the file.
    """

    file: str
    data: Mapping[str, Any]
    keys: Mapping[Where, Place]
    values: Mapping[Where, Place]
    question: str = ""

    def error(self, where: Where, sentence: str, *, key: str = "", at_key: bool = False) -> StudyError:
        """Make an error that points at a place in the file.

        Args:
            where: path of the value. If it has no place, the nearest mapping or list around it is pointed at.
            sentence: what the user reads.
            key: the key to show; empty for the dotted path.
            at_key: point at the key instead of at its value.
        """
        shown = key or ".".join(map(str, where))
        places = self.keys if at_key else self.values
        for length in range(len(where), 0, -1):
            place = places.get(where[:length]) or self.keys.get(where[:length])
            if place:
                return StudyError(place.file, place.line, shown, sentence)
        return StudyError(self.file, 1, shown, sentence)


def read(path: Path) -> Document:
    """Read a study file.

    Returns:
        The file's plain data with places; its keys are not checked yet.

    Raises:
        StudyErrors: the file cannot be opened, is larger than MAX_BYTES, is not UTF-8, or is not plain YAML (see
            ``parse``).
    """
    file = str(path)
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise StudyErrors([StudyError(file, 0, "", _unreadable(path, error))]) from None
    if len(raw) > MAX_BYTES:
        sentence = f"a study file is at most {MAX_BYTES:,} bytes, and this one is larger. Is it the right file?"
        raise StudyErrors([StudyError(file, 0, "", sentence)])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        sentence = f"a study file is UTF-8 text, but has the byte 0x{raw[error.start]:02x} here. Save it as UTF-8."
        raise StudyErrors([StudyError(file, line, "", sentence)]) from None
    return parse(text, file)


def _unreadable(path: Path, error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        folder = path.parent
        near = sorted(each.name for each in folder.glob("*.yaml")) if folder.is_dir() else []
        return f"there is no such file. {did_you_mean(path.name, near)}" if near else "there is no such file."
    return f"cannot be read: {getattr(error, 'strerror', None) or error}."


def parse(text: str, file: str) -> Document:
    """Read the text of a study file: one mapping of plain values.

    Args:
        text: YAML.
        file: the name that errors show.

    Returns:
        The plain data with places.

    Raises:
        StudyErrors: tabs, anchors, aliases, tags, duplicate or non-text keys, several documents, more than MAX_NODES
            values, MAX_DEPTH levels, MAX_LETTERS letters in one value, no mapping on top, or no YAML at all.
    """
    tabs = [number for number, line in enumerate(text.split("\n"), 1) if "\t" in line[: len(line) - len(line.lstrip())]]
    if tabs:
        sentence = "the line is indented with a tab; YAML allows spaces only. Replace each tab by two spaces."
        raise StudyErrors(StudyError(file, number, "", sentence) for number in tabs[:20])
    builder = _Builder(file, 1)
    data = builder.run(text)
    if not builder.errors and not isinstance(data, dict):
        content = "empty" if data is None else f"a {_kind(data)}"
        sentence = f"a study file is a mapping of keys to values, such as 'method: scan', but this one is {content}."
        builder.errors.append(StudyError(file, 1, "", sentence))
    if builder.errors:
        raise StudyErrors(builder.errors)
    return Document(file, data, builder.keys, builder.values, _question(text))


def parse_value(text: str, file: str) -> Any:
    """Read one value from the command line.

    Args:
        text: a plain scalar, or a quoted text, list or mapping in YAML's brackets.
        file: the name that errors show, such as ``--set #2``.

    Raises:
        StudyErrors: as ``parse``.
    """
    if text[:1] not in ("[", "{", '"', "'"):
        if sentence := _too_long(text):
            raise StudyErrors([StudyError(file, 0, "", sentence)])
        return scalar(text)
    builder = _Builder(file, 0)
    data = builder.run(text)
    if builder.errors:
        raise StudyErrors(builder.errors)
    return data


def scalar(text: str) -> bool | int | float | str | None:
    """The value of an unquoted scalar by the core schema of YAML 1.2; what the schema does not name is text."""
    if text in _SPECIAL:
        return _SPECIAL[text]
    for pattern, base in _INTEGERS:
        if pattern.fullmatch(text):
            return int(text, base)
    return float(text) if _FLOAT.fullmatch(text) else text


def _too_long(text: str) -> str | None:
    """Why an unquoted scalar is refused before arithmetic sees it; None if it is not."""
    digits = len(text.lstrip("+-"))
    if digits > MAX_DIGITS and any(pattern.fullmatch(text) for pattern, _ in _INTEGERS):
        return f"a whole number has at most {MAX_DIGITS} digits, but this one has {digits}."
    return None


def _question(text: str) -> str:
    lines = []
    for line in text.splitlines():
        if line.startswith("#"):
            lines.append(line.lstrip("#").strip())
        elif line.strip() or lines:
            break
    return "\n".join(lines).strip()


def _opened(text: str, mark: Any) -> int:
    """How many brackets and braces are open where the library stopped reading; quotes and comments count as text."""
    if mark is None:
        return 0
    lines = text.split("\n")[: mark.line + 1]
    before = "".join(lines[:-1]) + lines[-1][: mark.column + 1]
    return sum(map(before.count, "[{")) - sum(map(before.count, "]}"))


def _kind(data: Any) -> str:
    return "list" if isinstance(data, list) else "single value"


class _Stop(Exception):
    """Reading ends here; the error is noted, and the rest of the text could only mislead."""


class _Builder:
    """Builds plain data from YAML events, and collects errors on the way."""

    def __init__(self, file: str, first_line: int) -> None:
        self.file, self.first_line = file, first_line
        self.errors: list[StudyError] = []
        self.keys: dict[Where, Place] = {}
        self.values: dict[Where, Place] = {}
        self._nodes = 0
        self._aliases = 0

    def run(self, text: str) -> Any:
        try:
            return self._stream(yaml.parse(text, Loader=_LOADER))
        except _Stop:
            return None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            if _opened(text, mark) > MAX_DEPTH:
                # Some versions of the library stop at a depth of their own, before an event says how deep it is.
                self._note(mark, _TOO_DEEP)
                return None
            problem = " ".join(part for part in (error.context, error.problem) if part)
            sentence = f"this is not YAML ({problem}). Look for a missing bracket, quote, colon or space, or for a tab."
            self._note(mark, sentence)
        except yaml.YAMLError as error:
            # The pure reader's error has no mark; it names the letter and its position.
            bad = getattr(error, "character", "")
            shown = f"the letter U+{ord(bad):04X}" if isinstance(bad, str) and len(bad) == 1 else "a control letter"
            self.errors.append(StudyError(self.file, 0, "", f"YAML does not allow {shown} in a text file. Remove it."))
        return None

    def _note(self, mark: Any, sentence: str, key: str = "") -> None:
        line = mark.line + 1 if mark is not None and self.first_line else 0
        self.errors.append(StudyError(self.file, line, key, sentence))

    def _place(self, event: Any) -> Place:
        return Place(self.file, event.start_mark.line + 1 if self.first_line else 0)

    def _stream(self, events: Iterator[Any]) -> Any:
        data, documents = None, 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._note(event.start_mark, "a study file is one document; here begins a second. Split the file.")
                    raise _Stop
                data = self._value(next(events), events, ())
        return data

    def _value(self, event: Any, events: Iterator[Any], where: Where) -> Any:
        self._admit(event, where)
        self.values[where] = self._place(event)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Any] = []
            while not isinstance(event := next(events), yaml.SequenceEndEvent):
                items.append(self._value(event, events, (*where, len(items))))
            return items
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(events, where)
        return None if isinstance(event, yaml.AliasEvent) else self._scalar(event, where)

    def _mapping(self, events: Iterator[Any], where: Where) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key_event = event
            key = self._value(event, events, (*where, "?"))
            if not isinstance(key, str):
                sentence = f"a key must be text, but is {key!r}. Write it in quotes."
                self._note(key_event.start_mark, sentence, _dotted(where))
                key = f"? {len(entries)}"
            here = (*where, key)
            if key in entries:
                first = self.keys[here].line
                sentence = f"the key stands twice, in line {first} and in line {self._place(key_event).line}. Keep one."
                self._note(key_event.start_mark, sentence, _dotted(here))
                self._value(next(events), events, (*where, "?"))
                continue
            self.keys[here] = self._place(key_event)
            entries[key] = self._value(next(events), events, here)
        return entries

    def _scalar(self, event: Any, where: Where) -> Any:
        text = event.value
        if len(text) > MAX_LETTERS:
            sentence = f"a value has at most {MAX_LETTERS:,} letters, but this one has {len(text):,}. Shorten it."
            self._note(event.start_mark, sentence, _dotted(where))
            return None
        if event.style is not None and event.style != "":
            return text
        if refusal := _too_long(text):
            self._note(event.start_mark, refusal, _dotted(where))
            return None
        return scalar(text)

    def _admit(self, event: Any, where: Where) -> None:
        """Count the node and refuse what a study file never needs."""
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._note(event.start_mark, f"a study file has at most {MAX_NODES:,} values, and this one has more.")
            raise _Stop
        if len(where) > MAX_DEPTH:
            self._note(event.start_mark, _TOO_DEEP)
            raise _Stop
        if event.anchor is not None:
            self._aliases += 1
            if self._aliases == 1:
                sentence = "anchors and aliases (&name, *name) are not allowed. Write the value out where it is needed."
                self._note(event.start_mark, sentence, _dotted(where))
        if getattr(event, "tag", None) is not None:
            sentence = f"tags are not allowed, but here is {event.tag!r}. Write a plain value; quotes make it text."
            self._note(event.start_mark, sentence, _dotted(where))


def _dotted(where: Where) -> str:
    return ".".join(str(part) for part in where if part != "?")
