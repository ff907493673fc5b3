"""What is shown to Prometheus, with the metrics of Ray replaced by ones that remember."""

from dataclasses import dataclass, field

import pytest

from trainables import prometheus


@dataclass
class Metric:
    """A gauge keeps the last value for each set of tags, a counter their sum."""

    name: str
    description: str
    tag_keys: tuple[str, ...]
    tags: dict[str, str] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)

    def set_default_tags(self, tags: dict[str, str]) -> None:
        self.tags = tags

    def set(self, value: float, tags: dict[str, str] | None = None) -> None:
        self.values[self._key(tags)] = value

    def inc(self, value: float, tags: dict[str, str] | None = None) -> None:
        self.values[self._key(tags)] = self.values.get(self._key(tags), 0) + value

    def _key(self, tags: dict[str, str] | None) -> str:
        given = self.tags | (tags or {})
        assert set(given) == set(self.tag_keys), "Ray refuses a metric whose tags are not all given"
        return " ".join(given.values())


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> dict[str, Metric]:
    made: dict[str, Metric] = {}

    def make(name: str, description: str, tag_keys: tuple[str, ...]) -> Metric:
        made[name] = Metric(name, description, tag_keys)
        return made[name]

    monkeypatch.setattr(prometheus, "Gauge", make)
    monkeypatch.setattr(prometheus, "Counter", make)
    return made


def test_answers_are_counted_once_each(shown: dict[str, Metric]) -> None:
    search = prometheus.SearchGauges("0")
    search.show({"requests": 3, "hits": 1, "joined": 0, "computed": 2}, queue=1, kept_bytes=10)
    search.show({"requests": 5, "hits": 2, "joined": 1, "computed": 2}, queue=0, kept_bytes=20)
    assert shown["clustersweep_search_answers"].values == {"0 hits": 2, "0 joined": 1, "0 computed": 2}
    assert shown["clustersweep_search_queue"].values == {"0": 0}
    assert shown["clustersweep_search_kept_bytes"].values == {"0": 20}


def test_trials_are_shown_by_state_and_stages_by_how_they_came(shown: dict[str, Metric]) -> None:
    states = {"PENDING": 0, "RUNNING": 1, "DONE": 1}
    prometheus.SweepGauges("spc", 0.5).show(states, {"computed": 2})
    assert shown["clustersweep_trials"].values == {"spc pending": 0, "spc running": 1, "spc done": 1}
    assert shown["clustersweep_stages"].values == {"spc cached": 0, "spc computed": 2}
    assert shown["clustersweep_trial_gpus"].values == {"spc": 0.5}


def test_trials_are_counted_once_in_a_few_seconds(shown: dict[str, Metric], monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(prometheus.time, "monotonic", lambda: now_s)
    sweep = prometheus.SweepGauges("spc", 0.0)
    sweep.show({"RUNNING": 1, "DONE": 0}, {})
    now_s = 104.0
    sweep.show({"RUNNING": 0, "DONE": 1}, {})
    assert shown["clustersweep_trials"].values["spc running"] == 1
    now_s = 105.0
    sweep.show({"RUNNING": 0, "DONE": 1}, {})
    assert shown["clustersweep_trials"].values == {"spc running": 0, "spc done": 1}
