"""How the files of a report are written: each whole or not at all, and with no text that a spreadsheet would run."""

import os
from pathlib import Path

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula (OWASP, CSV injection)."""


def write_whole(path: Path, content: bytes) -> Path:
    """Write beside the place, then rename into it; the folder is made where it is missing. Returns ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        fresh.write_bytes(content)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    return path


def harmless(text: str) -> str:
    """Text as a cell of CSV: with an apostrophe before what a spreadsheet would take for a formula."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
