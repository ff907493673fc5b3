"""What a user sees: a real report and MLflow's own pages on a real storage, in Chromium."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from platform.tracking.mlflow import DATABASE
from platform.ui import HOST
from typing import Any

import pytest

from tests.fixtures.browsers import Browser

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture
def report(browser: Browser, small_storage: Path) -> Browser:
    """The browser on the sweep's report."""
    browser.driver.get((small_storage / "spc" / "report.html").as_uri())
    return browser


def test_the_report_asks_the_network_for_nothing_and_has_no_errors(report: Browser) -> None:
    report.wait("return document.readyState === 'complete'")
    asked = report.requests()
    assert [url for url in asked if url.endswith("/spc/report.html")]
    assert {url.partition(":")[0] for url in asked} == {"file", "data"}
    assert report.errors() == []


@pytest.mark.parametrize("width_px", [390, 1400])
def test_the_report_is_no_wider_than_the_screen(report: Browser, width_px: int) -> None:
    report.size(width_px)
    report.keep(f"report-{width_px}")
    assert report.run("return innerWidth") == width_px
    assert report.run("return document.documentElement.scrollWidth") <= width_px


def test_a_click_on_a_head_sorts_numbers_as_numbers(report: Browser) -> None:
    # Three rows more, since one digit sorts the same way as text and as number.
    shown = """
        const heads = [...document.querySelectorAll('table')[0].tHead.rows[0].cells];
        const place = heads.findIndex(head => head.textContent === 'rank');
        return [...document.querySelectorAll('table')[0].tBodies[0].rows].map(row => row.cells[place].textContent)"""
    report.run("""
        const body = document.querySelector('table').tBodies[0];
        for (const rank of [10, 9, 100]) {
            const row = body.rows[0].cloneNode(true);
            row.cells[0].textContent = row.cells[0].dataset.order = rank;
            body.append(row);
        }""")
    click = "document.querySelector('table th button').click(); "
    ranks = ["1", "2", "3", "4", "5", "9", "10", "100"]
    assert report.run(click + shown) == ranks
    assert report.run(click + shown) == ranks[::-1]
    assert report.run("return document.querySelector('table th').ariaSort") == "descending"


def test_the_reports_pictures_load_and_have_a_text(report: Browser, small_storage: Path) -> None:
    found = report.run("return [...document.images].map(image => [image.naturalWidth, image.alt])")
    drawn = {path.stem.partition("_")[0] for path in (small_storage / "spc" / "figures").iterdir()}
    assert {"sensitivity", "history", "parallel", "pair"} <= drawn
    # Those of the whole search, and eight of the best clustering.
    assert len(found) == len(list((small_storage / "spc" / "figures").iterdir())) + 8
    assert all(width > 0 and len(alt) > 10 for width, alt in found), found
    for words in (
        "t-SNE",
        "PCA",
        "stands for each cluster",
        "least confident",
        "Which clusters",
        "One row per cluster",
    ):
        assert any(words.lower() in alt.lower() for _, alt in found), words


def test_the_report_is_dark_for_who_prefers_it(report: Browser) -> None:
    paper, ink = (f"return getComputedStyle(document.body).{name}" for name in ("backgroundColor", "color"))
    report.prefer("light")
    light = report.run(paper), report.run(ink)
    report.prefer("dark")
    report.keep("report-dark")
    assert light == ("rgb(255, 255, 255)", "rgb(27, 27, 27)")
    assert (report.run(paper), report.run(ink)) == ("rgb(22, 22, 22)", "rgb(232, 232, 232)")


# MLflow's pages


@pytest.fixture(scope="module")
def served(small_storage: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """``python -m platform.ui`` and its address."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "platform.ui", "--storage", str(small_storage), "--port", str(port)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert running.stdout is not None
        assert f"http://{HOST}:{port}" in running.stdout.readline()
        yield running, f"http://{HOST}:{port}"
    finally:
        running.terminate()
        running.wait(30)


@pytest.fixture(scope="module")
def runs(small_storage: Path) -> dict[str, Any]:
    """The sweep's runs by name, as MLflow's client has them."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{small_storage / DATABASE}")
    experiment = client.get_experiment_by_name("spc")
    assert experiment is not None
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


@pytest.fixture
def go(browser: Browser, served: tuple["subprocess.Popen[str]", str]) -> Callable[[str], Browser]:
    """go(page): the browser on one of MLflow's pages."""

    def there(page: str) -> Browser:
        browser.driver.get(f"{served[1]}/#/{page}")
        return browser

    return there


def trials_of(runs: dict[str, Any]) -> list[str]:
    return sorted(name for name, run in runs.items() if run.data.tags["clustersweep.kind"] == "trial")


def page_of(run: Any, tab: str = "") -> str:
    return f"experiments/{run.info.experiment_id}/runs/{run.info.run_id}{tab}"


def test_the_study_is_in_the_list(go: Callable[[str], Browser]) -> None:
    page = go("experiments")
    page.wait("return [...document.querySelectorAll('a')].some(link => link.textContent === 'spc')")
    page.keep("experiments")


def test_the_printed_address_of_a_study_opens_on_its_runs(
    browser: Browser, served: tuple["subprocess.Popen[str]", str]
) -> None:
    assert served[0].stdout is not None
    name, address = served[0].stdout.readline().split()
    assert name == "spc"
    browser.driver.get(address)
    browser.wait_for_text("spc #1", "7 matching runs", "Model registry")
    assert "Judges" not in browser.run("return document.body.innerText")  # those are of language models
    browser.keep("opened")


def test_the_parent_has_its_children_by_name(go: Callable[[str], Browser], runs: dict[str, Any]) -> None:
    page = go(f"experiments/{runs['spc #1'].info.experiment_id}/runs")
    page.wait_for_text("spc #1")
    names = [*trials_of(runs), "prepare · seed 0"]
    assert len(names) == 6 and all(name.startswith(("δ=", "prepare")) for name in names)
    assert not any(name in page.run("return document.body.innerText") for name in names)
    page.wait("return document.querySelector('[role=gridcell] button svg')")
    page.run("document.querySelector('[role=gridcell] button svg').closest('button').click()")
    page.wait_for_text(*names)
    page.keep("runs")


def test_a_trial_shows_its_parameters_and_metrics(go: Callable[[str], Browser], runs: dict[str, Any]) -> None:
    run = runs[trials_of(runs)[0]]
    page = go(page_of(run))
    page.wait_for_text(run.info.run_name, "Parameters", "pretext.temperature", "spc/selection_loss")
    threshold = run.data.params["spc.strong_threshold"]
    page.wait_for_text(f"spc.strong_threshold\n{threshold}")
    page.keep("trial")


def test_a_trials_picture_loads(go: Callable[[str], Browser], runs: dict[str, Any]) -> None:
    page = go(page_of(runs[trials_of(runs)[0]], "/artifacts/figures/confusion.png"))
    wanted = "[...document.images].filter(each => each.alt === 'figures/confusion.png')"
    page.wait(f"return {wanted}.some(each => each.complete && each.naturalWidth > 0)")
    page.keep("artifact")


def test_five_runs_stand_beside_each_other(go: Callable[[str], Browser], runs: dict[str, Any]) -> None:
    names = trials_of(runs)
    ids = json.dumps([runs[name].info.run_id for name in names])
    page = go(f"compare-runs?runs={ids}&experiments={json.dumps([runs[names[0]].info.experiment_id])}")
    page.wait_for_text("Comparing 5 Runs from 1 Experiment", "Parallel Coordinates Plot", *names)
    page.wait_for_text("spc.strong_threshold", "spc/selection_loss", "pretext.temperature")
    page.wait("return document.querySelector('.js-plotly-plot svg.main-svg') !== null")
    page.keep("compare")


def test_the_best_trials_model_is_listed(go: Callable[[str], Browser], runs: dict[str, Any]) -> None:
    page = go(f"experiments/{runs['spc #1'].info.experiment_id}/models")
    page.wait_for_text("Model name", "model", "Ready")
    page.wait(f"return {json.dumps(trials_of(runs))}.some(name => document.body.innerText.includes(name))")
    page.keep("models")


def test_mlflows_pages_ask_this_machine_alone(go: Callable[[str], Browser], runs: dict[str, Any]) -> None:
    page = go(page_of(runs["spc #1"]))
    page.wait_for_text("spc #1", "Metrics")
    asked = page.requests()
    assert [url for url in asked if url.startswith(f"http://{HOST}:")]
    assert [url for url in asked if not url.startswith((f"http://{HOST}:", "data:", "blob:"))] == []


def test_the_command_ends_on_ctrl_c_without_orphans(served: tuple["subprocess.Popen[str]", str]) -> None:
    """The last one of the file: it ends what the others look at."""
    running, address = served
    before = _session_of(_child_of(running.pid))
    assert len(before) >= 2
    running.send_signal(signal.SIGINT)
    assert running.wait(30) == 0
    assert [pid for pid in before if Path(f"/proc/{pid}").exists()] == []
    with socket.socket() as probe:
        assert probe.connect_ex((HOST, int(address.rpartition(":")[2]))) != 0


def _stat(pid: int) -> list[str]:
    """State, parent, group, session, ... of a process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _processes() -> Iterator[tuple[int, list[str]]]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            yield int(folder.name), _stat(int(folder.name))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended


def _child_of(parent: int) -> int:
    (child,) = (pid for pid, stat in _processes() if int(stat[1]) == parent)
    return child


def _session_of(leader: int) -> list[int]:
    return [pid for pid, stat in _processes() if int(stat[3]) == leader]
