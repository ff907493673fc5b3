"""What a study is forecast to take: runs counted, seconds added up, memory and price."""

import json
from dataclasses import replace
from pathlib import Path
from platform import sweep
from platform.study import estimate
from platform.study.study import Study, load_study
from typing import Any

import pytest
import torch

from trainables.data import datasets, synthetic
from trainables.runner import profiling

PAGE = """
method: scan
dataset: {name: digits}
seeds: [0, 1]
fixed: {pretext.epochs: 10, scan.epochs: 5, selflabel.epochs: 4}
"""
SEARCH = "search: {selflabel.optimizer.lr: {choice: [0.001, 0.01, 0.1]}}\nsampler: grid\n"
ABLATION = (
    "ablate: {base: {}, more: {scan.optimizer.lr: 0.5}, other: {method: kmeans}}\n"
    "objective: {metric: scan/loss, mode: min}\n"
)


@pytest.fixture(autouse=True)
def _small_pipeline() -> None:
    """The real pipelines, in place of this folder's small one."""


@pytest.fixture
def shown() -> synthetic.Shown:
    return synthetic.real(datasets.load(datasets.Spec(name="digits")))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list[profiling.Failed]:
    """Each stage takes 1 s an epoch and 2 s beside them for all images; those in the list fail."""
    failed: list[profiling.Failed] = []

    def measure(stages: Any, configs: Any, data: Any, process_group: Any, search: Any) -> list[Any]:
        num, broken = 1437, {each.slot for each in failed}
        found = [
            profiling.Measured(slot, slot, num, num / 1.0, 1.0, 2.0, 2**30, 5e9)
            for slot in stages
            if slot not in broken
        ]
        return [*found, *(each for each in failed if each.slot in stages)]

    monkeypatch.setattr(profiling, "measure", measure)
    monkeypatch.setattr(profiling, "peak_flops_per_s", lambda device: 1e10)
    monkeypatch.setattr(profiling, "device_bytes", lambda device: 5 * 2**30)
    monkeypatch.setattr(estimate.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(estimate.os, "getloadavg", lambda: (1.0, 1.0, 1.0))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return failed


def study(tmp_path: Path, text: str) -> Study:
    path = tmp_path / "page.yaml"
    path.write_text(text)
    return load_study(path)


def test_a_sweep_is_its_shared_stages_per_seed_and_its_trials(
    tmp_path: Path, shown: synthetic.Shown, fake: list[profiling.Failed]
) -> None:
    found = estimate.forecast(study(tmp_path, PAGE + SEARCH), shown, price_per_hour=3600.0)
    assert [(each.measured.slot, each.runs) for each in found.stages] == [
        ("pretext", 2), ("neighbors", 2), ("kmeans", 2), ("scan", 2), ("selflabel", 6),
    ]  # fmt: skip
    # Two at once. Shared: 2 x (10 + 2 + 2 of the search + 2 of k-means + 5 + 2); trials: 6 x (4 + 2).
    assert (found.prepare_s, found.trials_s) == pytest.approx((23.0, 18.0))
    assert found.cost == pytest.approx(41.0)
    assert (found.peak_bytes, found.fit, found.at_once) == (2**30, 5, 2)
    assert found.stages[0].share_of_peak == pytest.approx(0.5)


def test_rows_of_an_ablation_count_equal_stages_once(
    tmp_path: Path, shown: synthetic.Shown, fake: list[profiling.Failed]
) -> None:
    found = estimate.forecast(study(tmp_path, PAGE + ABLATION), shown)
    runs: dict[str, int] = {}
    for each in found.stages:
        runs[each.measured.slot] = runs.get(each.measured.slot, 0) + each.runs
    # One pretext and one table of neighbors per seed for all rows, SCAN and self-labeling for two of them.
    assert runs == {"pretext": 2, "neighbors": 2, "scan": 4, "selflabel": 4, "kmeans": 4}
    assert found.cost is None


def test_the_lines_name_what_was_not_measured(
    tmp_path: Path, shown: synthetic.Shown, fake: list[profiling.Failed]
) -> None:
    fake.append(profiling.Failed("selflabel", "selflabel", "ValueError: no"))
    page = study(tmp_path, PAGE + SEARCH)
    lines = estimate.rows(estimate.forecast(page, shown))
    assert lines[1] == (
        "stage      pretext (pretext): 1,437 images/s, 50% of the peak, 1.0 GiB at most; 12.0 s a run x 2"
    )
    assert "stage      selflabel (selflabel): NOT MEASURED, ValueError: no" in lines
    assert lines[-1].endswith("(without what was not measured)")
    assert lines[-2] == "memory     1.0 GiB a trial: 5 fit on one device, 2 at once by the file's resources"


def test_a_busy_machine_is_told(
    tmp_path: Path, shown: synthetic.Shown, fake: list[profiling.Failed], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate.os, "getloadavg", lambda: (5.0, 1.0, 1.0))
    lines = estimate.rows(estimate.forecast(study(tmp_path, PAGE + SEARCH), shown))
    assert lines[1] == "busy       2.5 processes waited for each CPU: all that follows is too slow"


def test_images_that_are_only_generated_count_as_if_all_lay_there(
    tmp_path: Path, shown: synthetic.Shown, fake: list[profiling.Failed]
) -> None:
    large = replace(shown, num_pretext=2**24 - 360, is_generated=True)
    found = estimate.forecast(study(tmp_path, PAGE + SEARCH), large)
    # 2^24 images of 64 bytes are another GiB, but for what lies there.
    assert found.peak_bytes / 2**30 == pytest.approx(2.0, abs=0.001)
    assert "generated images of the data set's shape" in estimate.rows(found)[0]
    # The pretext alone trains on so many.
    assert found.stages[0].seconds / found.stages[3].seconds == pytest.approx((2**24 - 360) / 1437 * 12 / 7)


def test_a_dry_run_profiles_generated_images_where_files_are_missing(
    tmp_path: Path,
    fake: list[profiling.Failed],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(synthetic, "LARGEST", 2000)
    Path("page.yaml").write_text((PAGE + SEARCH).replace("digits", "mnist"))
    assert sweep.main(["page.yaml", "--dry-run"]) == 2
    assert "train-images-idx3-ubyte is missing" in capsys.readouterr().err
    assert sweep.main(["page.yaml", "--dry-run", "--profile", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    told = json.loads(line)
    assert told["status"] == "planned" and told["profile"]["is_generated"]
    assert "images     60,000 to train on, 10,000 to judge" in told["plan"]
    assert not Path("runs").exists()


def test_a_profile_belongs_to_a_dry_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--profile"], ["--dry-run", "--price", "2.5"]):
        assert sweep.main([str(tmp_path / "page.yaml"), *arguments]) == 2
        assert "--profile belongs to --dry-run, and --price to --profile" in capsys.readouterr().err
