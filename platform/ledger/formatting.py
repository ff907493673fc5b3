"""How configurations, settings and numbers are written for people: on screen, in reports and in the tracker."""

from collections import Counter
from collections.abc import Iterable, Mapping

from trainables.settings import Plain

from . import stage_metadata

FIXED = "as fixed"
"""The label of a configuration that changes nothing."""

_DIGITS = 4
_DECIMALS = 3


def configuration_label(method: str, pretext: str, params: Mapping[str, Plain], variant: str = "") -> str:
    """A configuration in one line: the name of an ablation row, or "δ=0.95 k2=20 r=0.03" in the order of the pipeline.

    Args:
        method, pretext: as ``pipeline.stages`` takes them.
        params: full setting name -> value.
        variant: the name of an ablation row, "" for a configuration of a search.

    Raises:
        KeyError: the method is not in ``pipeline.METHODS``.
    """
    if variant:
        return variant
    names = param_labels(method, pretext, params)
    return " ".join(f"{label}={format_value(params[name])}" for name, label in names.items()) or FIXED


def param_labels(method: str, pretext: str, names: Iterable[str]) -> dict[str, str]:
    """Full setting name -> its paper's symbol, or its short name, in the order in which the pipeline declares them.

    Where two would get the same label (three stages have a batch size B), both keep their full names.

    Raises:
        KeyError: the method is not in ``pipeline.METHODS``.
    """
    names = set(names)
    known = stage_metadata.of(method, pretext).settings
    labels = {setting.name: setting.symbol for setting in known if setting.name in names}
    # A setting that an older version of the method had is still in the ledger.
    labels |= {name: name for name in sorted(names) if name not in labels}
    uses = Counter(labels.values())
    return {name: label if uses[label] == 1 else name for name, label in labels.items()}


def format_value(value: Plain) -> str:
    """A setting's value: numbers with four digits, true and false as in a study file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.{_DIGITS}g}" if isinstance(value, float) else str(value)


def format_number(value: float) -> str:
    """A metric's value: three decimals, or three significant digits where those would show nothing."""
    if value == 0 or 10**-_DECIMALS <= abs(value) < 1000:
        return f"{value:.{_DECIMALS}f}"
    return f"{value:.{_DECIMALS}g}"


def format_spread(mean: float, std: float | None, n: int) -> str:
    """ "0.961 ± 0.004 (3)": mean, standard deviation and number of seeds; one seed has no deviation: "0.961 (1)"."""
    if std is None:
        return f"{format_number(mean)} ({n})"
    small = 0 < std < 0.5 * 10**-_DECIMALS
    return f"{format_number(mean)} ± {f'{std:.1g}' if small else format_number(std)} ({n})"


def format_seconds(seconds: float) -> str:
    """ "6.2 s", "4 min 10 s", "3 h 05 min"."""
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
