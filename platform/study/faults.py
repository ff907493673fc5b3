"""What is wrong in a study file: every fault with its place, the key, the rule, the value and the way out."""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# What must not be shown: the password of scheme://user:password@host, and the value of ?password=...
_USER = re.compile(r"://[^/?#\s:@]*:(?!\d+/)(\S+)@")
_QUERY = re.compile(r"\b(?:password|passwd|token|secret|api_?key)=([^&\s'\"]+)", re.IGNORECASE)
_REFERENCE = re.compile(r"\$\{ENV:[A-Za-z_][A-Za-z0-9_]*\}")
_FEW = 12


def has_secret(text: str) -> bool:
    """Whether ``text`` is a URI with a password or token written out; ``${ENV:NAME}`` is none."""
    return bool(_secrets(text))


def redacted(text: str) -> str:
    """``text`` with every password or token of a URI replaced by ``***``; ``${ENV:NAME}`` stays."""
    for secret in _secrets(text):
        text = text.replace(secret, "***")
    return text


def _secrets(text: str) -> list[str]:
    # A reference has a colon of its own, which would pass for the one before a password.
    hidden = _REFERENCE.sub("\0", text)
    found = [part for match in _USER.findall(hidden) + _QUERY.findall(hidden) for part in match.split("\0")]
    return [part for part in found if part]


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, in words.

    file: the study file as the user named it, or ``--set #2``. line: from 1; 0 where there is none.
    key: dotted place in the study file ("search.spc.strong_threshold"), or empty. sentence: rule, value, way out.
    """

    file: str
    line: int
    key: str
    sentence: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        text = ": ".join(part for part in (place, self.key, self.sentence) if part)
        return redacted("".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text))


class StudyFaults(ValueError):
    """Every fault of a study file at once; ``faults`` is sorted by line, command-line overrides last."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        unique = dict.fromkeys(faults)
        self.faults: tuple[Fault, ...] = tuple(
            sorted(unique, key=lambda fault: (fault.file.startswith("--set"), len(fault.file), fault.file, fault.line))
        )
        super().__init__("\n".join(map(str, self.faults)))


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """The way out of an unknown name: the nearest known one, or all of them where they are few and none is near."""
    folded = {each.casefold(): each for each in known}
    near = difflib.get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.6)
    if near:
        return f"Did you mean '{folded[near[0]]}'?"
    if not known:
        return "There is none to choose from."
    shown = ", ".join(known[:_FEW]) + (", ..." if len(known) > _FEW else "")
    return f"Known: {shown}."
