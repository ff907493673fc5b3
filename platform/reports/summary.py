"""The types in which the results of a launch are reported; ``summarize`` fills them from the ledger.

Standard deviations divide by n - 1 and always carry their n.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trainables.runner.messages import StageRecord

from ..ledger.aggregate import Objective, Spread
from ..ledger.outcomes import status
from ..ledger.rows import Launch, Trial

ACCURACY = "acc"
MERGED = "_majority"
"""Behind the name of a label metric: of clusters merged into classes, where they outnumber these."""

Exclusion = Literal["", "pruned", "collapsed"]


@dataclass(frozen=True)
class Failure:
    """A trial that failed, or was stopped early.

    label: of its configuration, or "prepare". error: the last error, on one line.
    """

    label: str
    seed: int
    error: str


@dataclass(frozen=True)
class ConfigurationRow:
    """A configuration of a search (variant ""), or a row of an ablation, over its seeds.

    done, wanted: how many seeds finished, and how many the study asks for. metrics: name -> spread over the finished
    seeds. objective: the spread of the study's first objective; None without a finished seed, and with an exclusion.
    trials: the ledger's rows, by seed. failed, stopped: the failed ones; the pruned and the collapsed ones.
    """

    number: int
    variant: str
    label: str
    params: Mapping[str, Any]
    done: int
    wanted: int
    metrics: Mapping[str, Spread]
    objective: Spread | None
    failed: tuple[Failure, ...]
    trials: tuple[Trial, ...]
    stopped: tuple[Failure, ...] = ()

    def count(self, state: str) -> int:
        """How many seeds are in a state of the ledger."""
        return sum(trial.state == state for trial in self.trials)

    @property
    def missing(self) -> int:
        """How many seeds have no result, failed ones included."""
        return self.wanted - self.done

    @property
    def is_overclustered(self) -> bool:
        """Whether it has more clusters than there are classes: its one-to-one accuracy compares with no other."""
        return ACCURACY + MERGED in self.metrics

    @property
    def exclusion(self) -> Exclusion:
        """Why it is not compared with others: a seed collapsed, or a seed was pruned. Empty: it is compared.

        The mean over the seeds that survived would flatter it.
        """
        ends = {status(trial) for trial in self.trials}
        if "collapsed" in ends:
            return "collapsed"
        return "pruned" if "pruned" in ends else ""


@dataclass(frozen=True)
class AblationRow:
    """A row of an ablation beside its published values, on our scale. differences: ours minus published, by metric."""

    row: ConfigurationRow
    published: Mapping[str, float]
    differences: Mapping[str, float]


@dataclass(frozen=True)
class PrepareRow:
    """The stages that all configurations share for one seed. stages: as in ``Trial``."""

    seed: int
    status: str
    stages: tuple[StageRecord, ...]
    seconds: float | None
    error: str


@dataclass(frozen=True)
class Cost:
    """Seconds summed over processes, and how many stage results were computed and how many reused."""

    prepare_s: float
    trials_s: float
    computed: int
    reused: int


@dataclass(frozen=True)
class Importance:
    """How much of a metric each parameter explains, by one evaluator. shares: full name -> share; they sum to one."""

    metric: str
    evaluator: str
    shares: Mapping[str, float]


@dataclass(frozen=True)
class ClusterNumber:
    """What a search found for one number of clusters, without labels.

    agreements: adjusted Rand index of every pair of seeds' clusterings. merged_agreements: the same of the clusterings
    with the largest number, merged down to this one. criterion: the objective; None if it looks at labels.
    num_clusterings: of how many seeds.
    """

    number: int
    agreements: tuple[float, ...]
    merged_agreements: tuple[float, ...]
    criterion: Spread | None
    num_clusterings: int

    @property
    def mean(self) -> float:
        """Of the agreements, of which there must be one."""
        return statistics.fmean(self.agreements)


@dataclass(frozen=True, eq=False)
class Summary:
    """The results of a launch. Two summaries are equal only if they are the same object.

    objectives: those of the study; the first one ranks. search: parameter -> its domain, of grid and search.
    configurations: all of them, by number. ranking: those with every objective, best first, ties by number; with
    several objectives by Pareto rank, then by the first. ablation: in the order of the file. best: first of the
    ranking. oracle: the one with the best mean accuracy. regret: accuracy of ``oracle`` minus that of ``best``; None
    where either has none. published: values for the whole study, on our scale. looks_at_labels: the objective is a
    label metric, or the file says ``oracle: true``. trials: every row of the ledger, shared stages first.
    importances: empty until ``importance.with_importances`` has computed them. cluster_numbers: by number, empty until
    ``num_clusters.evidence.with_cluster_numbers`` has read the clusterings.
    """

    launch: Launch
    method: str
    pretext: str
    probes: tuple[str, ...]
    dataset: Mapping[str, Any]
    seeds: tuple[int, ...]
    objectives: tuple[Objective, ...]
    looks_at_labels: bool
    search: Mapping[str, Mapping[str, Any]]
    configurations: tuple[ConfigurationRow, ...]
    ranking: tuple[ConfigurationRow, ...]
    ablation: tuple[AblationRow, ...]
    prepare: tuple[PrepareRow, ...]
    published: Mapping[str, float]
    best: ConfigurationRow | None
    oracle: ConfigurationRow | None
    regret: float | None
    failures: tuple[Failure, ...]
    cost: Cost
    trials: tuple[Trial, ...]
    importances: tuple[Importance, ...] = ()
    cluster_numbers: tuple[ClusterNumber, ...] = ()

    @property
    def study(self) -> str:
        return self.launch.study

    @property
    def is_smoke(self) -> bool:
        """Whether the launch ran under ``--smoke``, so that its numbers mean nothing."""
        return bool(self.launch.facts.get("smoke"))

    @property
    def objective(self) -> Objective:
        """The objective that ranks."""
        return self.objectives[0]

    @property
    def accuracy(self) -> str:
        """The accuracy that configurations are compared by; see ``accuracy_metric``."""
        return accuracy_metric(self.configurations)

    @property
    def figure_metrics(self) -> list[str]:
        """The metrics that figures and their tables show: accuracy, then the objective.

        Each only if every configuration with a result has it; empty without a result.
        """
        rows = [row for row in self.configurations if row.metrics]
        names = dict.fromkeys((self.accuracy, self.objective.metric))
        return [name for name in names if rows and all(name in row.metrics for row in rows)]

    @property
    def color_metric(self) -> str:
        """The metric that colors stand for: the first of ``figure_metrics``; empty without a result."""
        return next(iter(self.figure_metrics), "")

    def comparable(self, metric: str) -> list[ConfigurationRow]:
        """The configurations that have the metric and no exclusion, by number.

        One with more clusters than classes has no one-to-one accuracy that compares.
        """
        rows = [row for row in self.configurations if metric in row.metrics and not row.exclusion]
        return [row for row in rows if metric != ACCURACY or not row.is_overclustered]

    def objective_of(self, metric: str) -> Objective:
        """The metric with its good end: the study's word for its objective; any other metric is better higher.

        Accuracy is better higher, whatever a study asks for.
        """
        is_own = metric == self.objective.metric and metric != self.accuracy
        return self.objective if is_own else Objective(metric, "max")


def accuracy_metric(rows: Sequence[ConfigurationRow]) -> str:
    """The accuracy that configurations are compared by.

    One to one, and those with more clusters than classes take no part. Where all have more, it is that of the clusters
    merged into classes, which grows with the number of clusters.
    """
    with_result = [row for row in rows if row.metrics]
    return ACCURACY + MERGED if with_result and all(row.is_overclustered for row in with_result) else ACCURACY


def metrics_of_best(summary: Summary) -> dict[str, float]:
    """The best configuration's means and deviations as flat metrics ("best/acc", "best/acc_std"), and "regret"."""
    metrics: dict[str, float] = {}
    for name, value in (summary.best.metrics if summary.best else {}).items():
        metrics[f"best/{name}"] = value.mean
        if value.std is not None:
            metrics[f"best/{name}_std"] = value.std
    return metrics if summary.regret is None else metrics | {"regret": summary.regret}
