"""Whole pictures are refused where no stage of a study cuts its crops out of them."""

import textwrap
from pathlib import Path
from platform.study.data_limits import data_errors
from platform.study.study import load_study

import pytest

from trainables import pipeline, registry
from trainables.interfaces import DataShape

SHAPE = DataShape(2000, 1000, 10, 3, 256)


@pytest.mark.parametrize("probes", ["[]", "[linear_probe]", "[knn_probe]"])
@pytest.mark.parametrize("method", sorted(pipeline.METHODS))
def test_whole_pictures_are_kept_for_stages_that_cut_them_alone(tmp_path: Path, method: str, probes: str) -> None:
    able = any(registry.cuts_whole_pictures(name) for name in pipeline.stage_names(method)) or "linear" in probes
    text = f"""
        method: {method}
        dataset: {{name: imagenet, root: data, stream: always, image_size: 256, whole_pictures: true}}
        probes: {probes}
    """
    if probes != "[]" and not any(map(registry.leaves_backbone, pipeline.stage_names(method))):
        pytest.skip("nothing to probe")
    page = tmp_path / "page.yaml"
    page.write_text(textwrap.dedent(text))
    found = [each for each in map(str, data_errors(load_study(page), SHAPE)) if "whole_pictures: true" in each]
    assert bool(found) != able
    for error in found:
        assert error.endswith("this study has none. Take it out.") and "deepcluster, linear_probe, uad" in error
