"""Tune keeps every trial for ever, as an object and as text: a controller of many trials is made to forget.

A sweep of ten thousand trials would otherwise hold all of them in the driver's memory a second time, look through all
of them at each step, and write all into snapshots from which nobody restores (``trials``).
"""

from typing import Any

_KEPT = 256
"""Ended trials that may stay, so that forgetting costs next to nothing per trial."""


def forget_ended(controller: Any) -> None:
    """Drop the trials that have ended from a ``TuneController``, once there are ``_KEPT`` of them.

    The names are Ray's own. What another release lacks is left alone: its driver then grows, and a test says so.
    """
    ended: set[Any] = getattr(controller, "_stopped_trials", set()) | getattr(controller, "_failed_trials", set())
    if len(ended) < _KEPT:
        return
    ended -= set(getattr(controller, "_trial_to_actor", {}))  # the process of these is still being stopped
    for name in ("_stopped_trials", "_failed_trials", "_live_trials", "_trials_to_cache"):
        getattr(controller, name, set()).difference_update(ended)
    known, texts = getattr(controller, "_trials", []), getattr(controller, "_trial_metadata", {})
    known[:] = [trial for trial in known if trial not in ended]
    for trial in ended:
        texts.pop(trial.trial_id, None)
