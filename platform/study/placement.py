"""Whether machines can ever carry what a study asks for; Ray would wait for it without a word.

The FAISS service takes no share of a GPU from Ray's books (see ``trainables.vector_search.service``), only memory: see
``memory``.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass

from .file_schema import Resources, Share


@dataclass(frozen=True)
class Node:
    """One machine's CPUs and GPUs."""

    cpus: float
    gpus: float

    def fits(self, share: Share) -> int:
        """How many processes of this share run here at once; a share of nothing counts as one CPU.

        A share below one GPU lies within one GPU, so that what is left over on two of them does not add up.
        """
        limits = [math.floor(self.cpus / share.cpu)] if share.cpu else []
        if share.gpu:
            whole = math.floor(self.gpus)
            limits.append(whole // int(share.gpu) if share.gpu >= 1 else whole * math.floor(1 / share.gpu + 1e-9))
        return min(limits) if limits else int(self.cpus)


def machines(text: str) -> tuple[Node, ...]:
    """Read machines from the command line.

    Args:
        text: N:CPUS:GPUS; "8:16:1" is eight machines with 16 CPUs and one GPU each.

    Raises:
        ArgumentTypeError: it is not three whole numbers, or no machine, or more than 10,000 of them.
    """
    parts = text.split(":")
    if len(parts) != 3 or not all(part.isdecimal() and len(part) < 6 for part in parts):
        raise argparse.ArgumentTypeError(f"machines are N:CPUS:GPUS, such as 8:16:1, but here is {text!r}")
    number, cpus, gpus = map(int, parts)
    if not 1 <= number <= 10_000 or cpus + gpus == 0:
        raise argparse.ArgumentTypeError(f"1 to 10,000 machines, each with a CPU or a GPU, but here is {text!r}")
    return (Node(cpus, gpus),) * number


def with_gpus(resources: Resources, nodes: Sequence[Node]) -> Resources:
    """The resources of a study on these machines: where they have GPUs, a share that names no ``gpu`` gets one.

    Args:
        nodes: empty where they are not known: then nothing changes.
    """
    if not any(node.gpus >= 1 for node in nodes):
        return resources
    shares = {
        name: share if "gpu" in share.model_fields_set else share.model_copy(update={"gpu": 1.0})
        for name, share in (("trial", resources.trial), ("prepare", resources.prepare))
    }
    return resources.model_copy(update=shares)


def unplaceable(resources: Resources, nodes: Sequence[Node]) -> list[str]:
    """Say which resources these machines can never give.

    Args:
        nodes: at least one.

    Returns:
        One sentence for each part of the resources; empty if all can be given.
    """
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
