"""What a study optimizes. The one place where "min" and "max" become a sign."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Objective:
    """metric: its full name. mode: "min" or "max", the good end of its values."""

    metric: str
    mode: str

    @property
    def sign(self) -> float:
        """The factor that turns a value into a cost: the lower ``sign * value``, the better."""
        return -1.0 if self.mode == "max" else 1.0
