"""The gallery in a real browser, opened from disk."""

import json
import os
import time
from pathlib import Path
from platform.reports.assignments import written
from platform.reports.assignments.table import Assignments
from typing import Any

import numpy as np
import pytest
import torch

from tests.fixtures.browsers import Browser
from trainables.maths.assignments import top_two

pytestmark = pytest.mark.slow

NUM, NUM_CLUSTERS, SIZE_PX = 10_000, 12, 32
MANY = 100_000
SECONDS = 3.0
WIDTHS = (390, 1400)
ODD = ("'\"<b>&.png", "=1+1.png", "日本 ü#?%.png", "two\nlines.png")


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory, NUM)


def made(tmp_path_factory: pytest.TempPathFactory, num: int) -> Path:
    """A gallery of images in 12 clusters of different sizes; the first ones have odd names and lie in files."""
    root, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    cluster_N = (random.random(num) ** 2 * NUM_CLUSTERS).astype(int)
    logits_NC = random.normal(size=(num, NUM_CLUSTERS)) + 4 * np.eye(NUM_CLUSTERS)[cluster_N]
    rows_NC = np.exp(logits_NC) / np.exp(logits_NC).sum(1, keepdims=True)
    coarse_NCHW = torch.from_numpy(random.integers(0, 256, (num, 3, 4, 4)).astype(np.uint8))
    files = [*ODD, *(f"some folder/{number:05d}.png" for number in range(len(ODD), num))]
    given = Assignments(
        files, ["new"] * num, top_two(rows_NC), [f"class {number % 3}" for number in range(num)], NUM_CLUSTERS, "cc-0",
        str(root), {3: "<script>alert(1)</script>"},
    )  # fmt: skip
    for name in ODD:
        (root / name).write_text("an image")

    def pixels(rows_B: Any) -> torch.Tensor:
        return coarse_NCHW[torch.from_numpy(rows_B)].repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)

    return written.write(given, pixels, tmp_path_factory.mktemp("gallery"), 'study "<1>"')[2]


def opened(browser: Browser, path: Path) -> float:
    """Seconds until the first sheet can be seen and used."""
    started = time.perf_counter()
    browser.driver.get(path.as_uri())
    browser.wait("return document.querySelectorAll('#sheets .thumb').length > 0")
    return time.perf_counter() - started


def search(browser: Browser, text: str) -> str:
    query = browser.driver.find_element("id", "query")
    query.clear()
    query.send_keys(text)
    browser.wait(f"return document.getElementById('query').value === {json.dumps(text)}")
    time.sleep(0.3)
    return str(browser.run("return document.getElementById('results').innerText"))


@pytest.mark.parametrize("width_px", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_ten_thousand_images_open_in_three_seconds_and_fit(
    browser: Browser,
    gallery: Path,
    width_px: int,
    scheme: str,
) -> None:
    browser.size(width_px)
    browser.prefer(scheme)
    # On a machine that is busy with something else the best of three is what the page itself takes.
    assert min(opened(browser, gallery) for _ in range(3 if os.getloadavg()[0] > 1 else 1)) < SECONDS
    assert browser.run("return document.documentElement.scrollWidth <= window.innerWidth")
    dark = browser.run("return getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    assert browser.errors() == []
    assert {url.partition(":")[0] for url in browser.requests()} <= {"file", "blob", "data"}
    browser.keep(f"gallery-{width_px}-{scheme}")


@pytest.mark.parametrize("width_px", WIDTHS)
def test_search_pages_names_and_links_work(browser: Browser, gallery: Path, width_px: int) -> None:
    browser.size(width_px)
    opened(browser, gallery)
    sizes = browser.run("return [...document.querySelectorAll('#sizes .count')].map(each => each.textContent)")
    counts = [int(size.replace(",", "")) for size in sizes]
    assert counts == sorted(counts, reverse=True) and sum(counts) == NUM
    assert "1 image found" in search(browser, "04242") and "some folder" not in search(browser, "no such thing")
    for name in ODD:
        assert "1 image found" in search(browser, name.splitlines()[0].strip()), name
        link = browser.run("return document.querySelector('#results a').href")
        assert Path(browser.run(f"return decodeURIComponent(new URL({json.dumps(link)}).pathname)")).is_file(), name
    found = search(browser, "class 1")
    assert "3,333 images found" in found and "page 1 of 35" in found
    browser.run("document.querySelector('#results .pages button:last-child').click()")
    assert "page 2 of 35" in browser.run("return document.getElementById('results').innerText")
    browser.driver.find_element("id", "query").send_keys("\ue00c")  # Escape
    assert browser.run("return document.getElementById('results').hidden")
    label = browser.driver.find_element("css selector", "input[aria-label='name of cluster 3']")
    assert label.get_attribute("value") == "<script>alert(1)</script>"
    label.clear()
    label.send_keys("cats")
    text = json.loads(browser.run("return namesText()"))
    assert text == {"result": "cc-0", "names": {"3": "cats"}}
    assert browser.errors() == []


def test_every_sheet_can_be_reached_and_turned_by_keyboard(browser: Browser, gallery: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    opened(browser, gallery)
    ActionChains(browser.driver).send_keys("/").perform()
    assert browser.run("return document.activeElement.id") == "query"
    unreachable = browser.run(
        "return [...document.querySelectorAll('.tile, #sizes a, button')].filter(each => each.tabIndex < 0).length"
    )
    assert unreachable == 0
    browser.run("document.querySelector('#sheets section .pages button:last-child').focus()")
    ActionChains(browser.driver).send_keys(Keys.ENTER).perform()
    assert "page 2 of" in browser.run("return document.querySelector('#sheets section').innerText")
    browser.run("document.getElementById('uncertain').scrollIntoView()")
    browser.wait("return document.querySelectorAll('#uncertain .tile').length > 0")
    assert browser.errors() == []


@pytest.mark.chaos  # half a minute of drawing
def test_a_hundred_thousand_images_stay_usable(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> None:
    began = time.perf_counter()
    path = made(tmp_path_factory, MANY)
    written_s = time.perf_counter() - began
    browser.size(1400)
    seconds = opened(browser, path)
    began = time.perf_counter()
    assert "1 image found" in search(browser, "04242.png")
    search_s = time.perf_counter() - began
    memory_mib = browser.run("return performance.memory.usedJSHeapSize") / 2**20
    found = {"written_s": written_s, "opened_s": seconds, "search_s": search_s, "heap_mib": memory_mib}
    print(json.dumps({"mib": round(path.stat().st_size / 2**20), **{key: round(v, 1) for key, v in found.items()}}))
    assert seconds < 5 * SECONDS and search_s < SECONDS
    assert browser.errors() == []
