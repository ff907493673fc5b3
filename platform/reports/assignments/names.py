"""The names that a user gave to clusters: ``cluster_names.json`` beside the gallery, which offers it for download.

    {"result": "selflabel-0123456789abcdef", "names": {"0": "cats", "3": "dogs"}}

``result`` says of which model's clusters they are: another model's cluster 3 is something else.
"""

import json
from collections.abc import Mapping
from pathlib import Path

FILE = "cluster_names.json"
LONGEST = 200


class NamesError(ValueError):
    """The file of names cannot be used. The text names the file, the rule it breaks and the way out."""


def read(folder: Path, result: str, num_clusters: int) -> Mapping[int, str]:
    """The names in a folder, for the clusters of one model.

    Args:
        folder: may hold the file.
        result: whose clusters they must be; a file that names no result is taken for any.

    Returns:
        Cluster -> name; empty without the file.

    Raises:
        NamesError: it is no JSON of this form, it names a cluster that there is not, or is about another model.
    """
    path = folder / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise NamesError(f"{path} cannot be read ({error}). Save it from the gallery again, or remove it.") from error
    names = content.get("names") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise NamesError(f'{path} must be {{"result": ..., "names": {{"0": "a name", ...}}}}. Save it again.')
    whose = content.get("result", result)
    if whose != result:
        raise NamesError(
            f"{path} names the clusters of {whose}, but these are the clusters of {result}; the names are not used."
            " Name the clusters of the new gallery and save the file again."
        )
    unknown = [cluster for cluster in names if not (cluster.isdecimal() and int(cluster) < num_clusters)]
    if unknown:
        raise NamesError(f"{path} names cluster {unknown[0]!r}, but clusters are 0 to {num_clusters - 1}. Correct it.")
    return {int(cluster): name.strip()[:LONGEST] for cluster, name in names.items() if name.strip()}
