"""What the pretend GPU was asked to do: operations it launched, and how often the host had to wait for it."""

import sys
from collections import Counter
from dataclasses import dataclass, field

_PACKAGE = "/trainables/"


@dataclass
class Counts:
    """operations: by (name, place). waits: by (why, place). A place is "file:line function" of the project."""

    operations: Counter[tuple[str, str]] = field(default_factory=Counter)
    waits: Counter[tuple[str, str]] = field(default_factory=Counter)
    steps: int = 0
    """Steps of optimizers."""
    with_places: bool = False
    """Whether operations are counted by place, which takes time; waits always are."""

    def clear(self) -> None:
        self.operations.clear()
        self.waits.clear()
        self.steps = 0

    @property
    def num_operations(self) -> int:
        return self.operations.total()

    @property
    def num_waits(self) -> int:
        return self.waits.total()

    def operation(self, name: str) -> None:
        self.operations[name, _place() if self.with_places else ""] += 1

    def wait(self, why: str) -> None:
        self.waits[why, _place()] += 1


def _place() -> str:
    """The innermost line of the project on the stack."""
    frame = sys._getframe(2)
    while frame is not None:
        _, package, file = frame.f_code.co_filename.rpartition(_PACKAGE)
        if package:
            return f"{file}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return "?"
