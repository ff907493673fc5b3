"""What a ``resolved`` study says, read back without loading its stages."""

from collections.abc import Mapping
from typing import Any


def objectives(told: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The objectives of a ``resolved`` study, of which the first one ranks."""
    written = told.get("objective") or []
    return list(written) if isinstance(written, list) else [written]
