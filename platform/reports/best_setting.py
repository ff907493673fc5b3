"""The best configuration of a study that has run, for an ablation that takes it apart."""

from collections.abc import Mapping

from trainables.settings import Plain

from ..ledger.ledger import Ledger, place_of
from ..ledger.storage import Storage
from .summarize import summarize


def params(storage: Storage, study: str) -> Mapping[str, Plain]:
    """The searched values of the best configuration of the study's last launch, by its own objective.

    Raises:
        LookupError: no such study there, it searched nothing, or none of its configurations has ended. The text is a
            sentence for the user.
    """
    try:
        ledger = Ledger(place_of(storage, new=False))
    except (LookupError, ValueError) as error:
        raise LookupError(f"study {study!r} is not to be found: {error}") from None
    try:
        launches = ledger.launches(study)
        if not launches:
            known = ", ".join(sorted({launch.study for launch in ledger.launches()})) or "nothing"
            raise LookupError(f"no study {study!r} has run in {storage.folder}, but {known}. Run it there first.")
        summary = summarize(ledger, launches[-1].id)
    finally:
        ledger.close()
    if not summary.search:
        raise LookupError(f"study {study!r} searched nothing, so it has no best setting. Name another one.")
    if summary.best is None:
        raise LookupError(f"no setting of study {study!r} has ended yet. Start it again, and then this one.")
    return dict(summary.best.params)
