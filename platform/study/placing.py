"""Whether machines can ever carry what a study asks for; Ray would wait for it without a word.

The FAISS service takes no share of a GPU from Ray's books (see ``trainables.service``), only memory: see ``memory``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .pages import Resources, Share


@dataclass(frozen=True)
class Node:
    """One machine's CPUs and GPUs."""

    cpus: float
    gpus: float

    def fits(self, share: Share) -> int:
        """How many processes of this share run here at once; one that asks for nothing counts as one CPU.

        A share below one lies within one GPU, so that what is left over on two of them does not add up.
        """
        found = [math.floor(self.cpus / share.cpu)] if share.cpu else []
        if share.gpu:
            whole = math.floor(self.gpus)
            found.append(whole // int(share.gpu) if share.gpu >= 1 else whole * math.floor(1 / share.gpu + 1e-9))
        return min(found) if found else int(self.cpus)


def unplaceable(resources: Resources, nodes: Sequence[Node]) -> list[str]:
    """A sentence for each part of the resources that these machines can never give."""
    largest = f"{max(node.cpus for node in nodes):g} CPUs and {max(node.gpus for node in nodes):g} GPUs"
    machines = "the machine has" if len(nodes) == 1 else f"the largest of {len(nodes)} machines has"
    sentences = []
    for name, share in (("trial", resources.trial), ("prepare", resources.prepare)):
        if name == "prepare" and not share.workers:
            continue  # without a group the shared stages run as trials do
        way_out = f"Lower resources.{name}, or join a larger cluster with --address."
        fits = [node.fits(share) for node in nodes]
        if not any(fits):
            each = "a worker" if share.workers else "a process"
            asked = f"{share.cpu:g} CPUs and {share.gpu:g} GPUs"
            sentences.append(f"resources.{name} asks for {asked} for {each}, but {machines} {largest}. {way_out}")
        elif sum(fits) < share.workers:
            sentences.append(
                f"resources.{name} asks for a group of {share.workers} workers, but only {sum(fits)} fit at once. "
                f"{way_out}"
            )
    return sentences
