"""What is wrong in a study file: every error with its place, the key, the rule, the value and the way out."""

import difflib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# What must not be shown: the password of scheme://user:password@host, the value of ?password=... and of the signatures
# in the addresses that object stores hand out, what follows "Bearer", and what secret environment variables hold.
_USER = re.compile(r"://[^/?#\s:@]*:(?!\d+/)(\S+)@")
_QUERY = re.compile(
    r"\b(?:[\w-]*(?:password|passwd|token|secret|(?:api|access|secret)[_-]?key|signature|credential)|sig)=([^&\s'\"]+)",
    re.IGNORECASE,
)
_BEARER = re.compile(r"\bBearer\s+([\w.~+/=-]{8,})", re.IGNORECASE)
_SECRET_NAME = re.compile(r".*(PASSWORD|PASSWD|TOKEN|SECRET|CREDENTIALS|_KEY)")
_SHORTEST = 8
"""A shorter value of a secret variable would also be found inside harmless words."""
_REFERENCE = re.compile(r"\$\{ENV:[A-Za-z_][A-Za-z0-9_]*\}")
_FEW = 12
_hidden: set[str] = set()
"""Parts of addresses that a study takes from the environment."""


def hide_address(text: str) -> None:
    """Hide the secrets in an address from the environment wherever a text is shown: a key may be any part of it.

    Host and database are shown, and so is the user of a database. Of a web address only the host is; a text that is no
    address may be a password, and is hidden whole.
    """
    scheme, is_address, rest = text.partition("://")
    # A password with a slash in it would end the login for a parser of addresses, but not for who wrote it.
    login, _, place = rest.rpartition("@")
    if not is_address:
        secret = text
    elif scheme in ("http", "https"):
        secret = " ".join([login, *re.split("[/?#]", place, maxsplit=1)[1:]])
    else:
        secret = " ".join([login.partition(":")[2], place.partition("?")[2]])
    _hidden.update(part for part in (secret, *re.split(r"[/?#&=@:,;\s]+", secret)) if len(part) >= _SHORTEST)


def has_secret(text: str) -> bool:
    """Whether ``text`` spells out a password or token, as in a URI; a reference ``${ENV:NAME}`` does not count."""
    return bool(_secrets(text))


def redacted(text: str) -> str:
    """Hide every secret in a text that is shown or stored.

    Returns:
        ``text`` with every password, every token and every value of a secret environment variable replaced by ``***``.
        A reference ``${ENV:NAME}`` stays.
    """
    held = (value for name, value in os.environ.items() if _SECRET_NAME.fullmatch(name) and len(value) >= _SHORTEST)
    # The longest first: one secret may be a part of another.
    for secret in sorted({*_secrets(text), *_hidden, *held}, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def printable(text: str) -> str:
    """Spell out every letter that a terminal would obey instead of showing it, such as ESC and BEL."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _secrets(text: str) -> list[str]:
    # A reference has a colon of its own, which would pass for the one before a password.
    hidden = _REFERENCE.sub("\0", text)
    matches = [match for pattern in (_USER, _QUERY, _BEARER) for match in pattern.findall(hidden)]
    return [part for match in matches for part in match.split("\0") if part]


@dataclass(frozen=True)
class StudyError:
    """One error in a study file, in words.

    Attributes:
        file: the study file as the user named it, or ``--set #2`` for an override.
        line: counted from 1; 0 where there is none.
        key: dotted path in the study file ("search.spc.strong_threshold"), or empty.
        sentence: names the rule, the value and the way out.
    """

    file: str
    line: int
    key: str
    sentence: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        text = ": ".join(part for part in (place, self.key, self.sentence) if part)
        return redacted(printable(text))


class StudyErrors(ValueError):
    """All errors of a study file, reported together.

    Attributes:
        errors: each error once, sorted by line; those of command-line overrides come last.
    """

    def __init__(self, errors: Iterable[StudyError]) -> None:
        unique = dict.fromkeys(errors)
        self.errors: tuple[StudyError, ...] = tuple(
            sorted(unique, key=lambda error: (error.file.startswith("--set"), len(error.file), error.file, error.line))
        )
        super().__init__("\n".join(map(str, self.errors)))


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Suggest a known name in the place of an unknown one.

    Args:
        name: the unknown name.
        known: all names that are allowed here.

    Returns:
        One sentence with the nearest known name, whatever its case; if none is near, with the first 12 known ones.
    """
    folded = {candidate.casefold(): candidate for candidate in known}
    near = difflib.get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.6)
    if near:
        return f"Did you mean '{folded[near[0]]}'?"
    if not known:
        return "There is none to choose from."
    shown = ", ".join(known[:_FEW]) + (", ..." if len(known) > _FEW else "")
    return f"Known: {shown}."
