"""The gallery as text: what is in it, that nothing breaks out of it, and how it is bounded."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from platform.reports.assignments import gallery, thumbnails, written
from platform.reports.assignments.arrangement import arranged
from platform.reports.assignments.table import Assignments
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from trainables.maths.assignments import top_two

NUM, NUM_CLUSTERS = 250, 4
HOSTILE = "</script><script>alert(1)</script><!--\u2028 & \"quotes\" 'single'\n"


def clustering(num: int = NUM, **changes: Any) -> Assignments:
    logits_NC = np.random.default_rng(0).normal(size=(num, NUM_CLUSTERS)) * 3
    rows_NC = np.exp(logits_NC) / np.exp(logits_NC).sum(1, keepdims=True)
    fields = {
        "files": [f"sub/{number}.png" for number in range(num)], "parts": ["train"] * num, "top_two": top_two(rows_NC),
        "labels": [""] * num, "num_clusters": NUM_CLUSTERS, "result": "cc-0", "root": "/images",
    }  # fmt: skip
    return Assignments(**{**fields, **changes})


def grays(rows_B: Any, size_px: int = 16, channels: int = 3) -> torch.Tensor:
    """Each image is as gray as its row."""
    rows = torch.from_numpy(np.asarray(rows_B)).to(torch.uint8)
    return rows[:, None, None, None].expand(-1, channels, size_px, size_px)


class Scripts(HTMLParser):
    """The scripts of a page by id, as a browser would find them; and every other element's attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.by_id: dict[str, str] = {}
        self.count, self._id = 0, ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self.count += 1
            self._id = dict(attrs).get("id") or "program"
            self.by_id[self._id] = ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._id = ""

    def handle_data(self, data: str) -> None:
        if self._id:
            self.by_id[self._id] += data


def scripts(page: str) -> Scripts:
    parsed = Scripts()
    parsed.feed(page)
    return parsed


def drawn(given: Assignments, pixels: Any = grays, **bounds: int) -> tuple[str, thumbnails.Thumbnails]:
    order = arranged(given.top_two, given.num_clusters)
    made = thumbnails.NONE if pixels is None else thumbnails.draw(order, pixels, **bounds)
    return gallery.page(given, order, made, "mine"), made


def sprite(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB")


@pytest.mark.parametrize("where", ["files", "labels", "cluster_names", "result", "root"])
def test_no_text_breaks_out_of_the_page(where: str) -> None:
    hostile: Any = {
        "files": [HOSTILE] * NUM, "labels": [HOSTILE] * NUM, "cluster_names": {0: HOSTILE}, "result": HOSTILE,
        "root": f"/{HOSTILE}",
    }  # fmt: skip
    plain, _ = drawn(clustering())
    page, _ = drawn(clustering(**{where: hostile[where]}))
    assert scripts(page).count == scripts(plain).count
    data = json.loads(scripts(page).by_id["data"])
    assert data["files"] == ([HOSTILE] * NUM if where == "files" else data["files"])
    assert "alert(1)</script>" not in page.replace(scripts(page).by_id["program"], "")


def test_every_tile_shows_the_image_of_its_place() -> None:
    given = clustering()
    order = arranged(given.top_two, given.num_clusters)
    _, made = drawn(given)
    assert made.counts == order.sizes and len(made.of_clusters) == 3
    for sprites, rows in ((made.of_clusters, order.rows_N), (made.of_uncertain, order.rows_N[order.uncertain_U])):
        for place, row in enumerate(rows.tolist()):
            sheet, tile = divmod(place, 100)
            with sprite(sprites[sheet]) as image:
                color = image.getpixel((tile % 10 * made.tile_px + 8, tile // 10 * made.tile_px + 8))
            assert isinstance(color, tuple) and abs(color[0] - row) <= 6


@pytest.mark.parametrize(("size_px", "tile_px"), [(8, 8), (64, 64), (200, 64)])
@pytest.mark.parametrize("channels", [1, 3])
def test_tiles_are_as_large_as_small_images_and_no_larger_than_64_px(size_px: int, tile_px: int, channels: int) -> None:
    _, made = drawn(clustering(30), lambda rows_B: grays(rows_B, size_px, channels))
    assert made.tile_px == tile_px
    assert sprite(made.of_clusters[0]).size == (10 * tile_px, 3 * tile_px)


def test_thumbnails_are_bounded_in_number_and_the_page_says_how_many_there_are() -> None:
    page, made = drawn(clustering(), most=40)
    assert sum(made.counts) <= 40 and min(made.counts) == max(made.counts)
    assert f"{sum(made.counts)} of {NUM} images have a thumbnail" in page


def test_thumbnails_are_bounded_in_bytes() -> None:
    noise = torch.randint(0, 256, (NUM, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    _, whole = drawn(clustering(), lambda rows_B: noise[torch.from_numpy(rows_B)])
    num_bytes = sum(map(len, whole.of_clusters + whole.of_uncertain))
    _, made = drawn(clustering(), lambda rows_B: noise[torch.from_numpy(rows_B)], most_bytes=num_bytes * 3 // 4)
    assert sum(map(len, made.of_clusters + made.of_uncertain)) < num_bytes * 0.85


def test_without_images_the_page_says_so_and_has_its_table() -> None:
    page, _ = drawn(clustering(root=""), None)
    assert "holds features and no images" in page and "nothing is linked" in page
    data = json.loads(scripts(page).by_id["data"])
    assert (data["root"], data["hasThumbnails"], len(data["files"])) == ("", False, NUM)


def test_files_are_linked_by_their_bytes() -> None:
    files = ["caf\udce9.png", *(f"{number}.png" for number in range(NUM - 1))]
    data = json.loads(scripts(drawn(clustering(files=files))[0]).by_id["data"])
    assert list(data["links"].values()) == ["caf%E9.png"]
    assert data["files"][int(next(iter(data["links"])))] == "caf\\xe9.png"
    assert data["root"] == "file:///images/"


def test_the_page_asks_no_network(tmp_path: Path) -> None:
    page, _ = drawn(clustering())
    assert "default-src 'none'" in page
    assert not re.search(r"""(src|href)=["'](https?:)?//""", page)


def test_a_gallery_knows_of_which_result_and_names_it_is(tmp_path: Path) -> None:
    given = clustering(cluster_names={1: "cats"})
    files = written.write(given, grays, tmp_path, "mine")
    assert [path.name for path in files] == ["assignments.csv", "assignments.parquet", "gallery.html"]
    assert gallery.key_in(files[2]) == gallery.key("cc-0", {1: "cats"}) != gallery.key("cc-0", {})
    assert gallery.key_in(tmp_path / "none.html") == ""
    assert sorted(tmp_path.iterdir()) == sorted(files)
