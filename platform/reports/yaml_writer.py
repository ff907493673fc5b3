"""A study as YAML text that every reader takes for the same study.

PyYAML writes by the rules of YAML 1.1, by which ``1e-4`` and ``0o17`` are text that needs no quotes; ``yaml_reader``
reads by those of YAML 1.2. Text is quoted here where either of the two would read anything but that text.
"""

from collections.abc import Mapping
from typing import Any

import yaml

from ..study.yaml_reader import scalar


class _Dumper(yaml.SafeDumper):
    """Plain data only; no anchors, which a study file may not have."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _quoted(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if isinstance(scalar(text), str) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _quoted)


def dump(data: Mapping[str, Any]) -> str:
    """Plain data as YAML, keys in their order, lines of 120 letters."""
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text
