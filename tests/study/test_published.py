import re
from platform.study.errors import StudyErrors
from platform.study.published import notes_of, num_runs, std_of, values_of
from platform.study.resolved import resolved
from platform.study.study import load_study
from typing import Any

import pytest

NOTES = "dataset: stl10, protocol: split, backbone: resnet18, statistic: best of 3, source: table 2"


def test_numbers_and_what_is_said_of_them_stand_together(write: Any) -> None:
    study = load_study(write(f"method: spc\npublished: {{acc: 83.6, {NOTES}, doubt: {{acc: unsure}}}}\n"))
    assert values_of(study.published) == {"acc": 83.6}
    assert notes_of(study.published)["statistic"] == "best of 3"
    assert resolved(study)["published"] == study.published


def test_a_number_of_epochs_is_the_last_stage_s(write: Any) -> None:
    study = load_study(write("method: spc\npublished: {acc: 83.6, epochs: 50}\n"))
    assert study.published["epochs"] == {"spc": 50}
    again = load_study(write("method: spc\npublished: {acc: 83.6, epochs: {pretext: 500, spc: 50}}\n"))
    assert again.published["epochs"] == {"pretext": 500, "spc": 50}


def test_rows_may_say_it_too(write: Any) -> None:
    study = load_study(write("method: spc\nablate: {a: {published: {acc: 80, doubt: copied}}}\n"))
    assert study.ablate[0].published == {"acc": 80.0, "doubt": "copied"}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("protocol: splt", "protocol must be one of split, union, train, test, but is 'splt'. Did you mean 'split'?"),
        ("statistic: median", "statistic must be mean, best or one run, but is 'median'. Write for example best of 3."),
        ("statistic: best of 0", "statistic must be mean, best or one run, but is 'best of 0'."),
        ("source: 3", "source must be text, but is 3. Write it in words."),
        ("epochs: many", "epochs must be a whole number above 0, or one for each stage, but is 'many'."),
        ("epochs: {spcc: 5}", "epochs speaks of 'spcc', which is no stage of this pipeline. Did you mean 'spc'?"),
        ("doubt: {nmy: swapped}", "doubt speaks of 'nmy', which is no metric of this pipeline."),
        ("doubt: {acc: 1}", "doubt.acc must be text, but is 1. Write what speaks against it."),
        ("std: wide", "std must be a number of at least 0, as printed behind \"±\", but is 'wide'. Write std: 0.4."),
        ("std: {acc: -1}", "std.acc must be a number of at least 0, as printed"),
        ("std: {nmy: 1}", "std speaks of 'nmy', which is no metric of this pipeline."),
        (
            "nmi: 70.0, std: 0.4",
            "std is one number, but 2 values stand beside it. Write the metric it belongs to",
        ),
        ("protocl: split", "protocl is no metric of this pipeline. Did you mean 'protocol'?"),
    ],
)
def test_what_is_wrong_is_said_with_its_way_out(write: Any, given: str, sentence: str) -> None:
    with pytest.raises(StudyErrors, match=re.escape(sentence)):
        load_study(write(f"method: spc\npublished: {{acc: 83.6, {given}}}\n"))


def test_a_deviation_belongs_to_the_one_value_or_to_the_metrics_that_it_names(write: Any) -> None:
    one = load_study(write("method: spc\npublished: {acc: 87.6, std: 0.4, statistic: mean of 10}\n"))
    assert (std_of(one.published, "acc"), num_runs(one.published["statistic"])) == (0.4, 10)
    two = load_study(write("method: spc\npublished: {acc: 87.6, nmi: 78.7, std: {acc: 0.4, nmi: 0.5}}\n"))
    assert (std_of(two.published, "nmi"), std_of(two.published, "ari")) == (0.5, None)
    assert values_of(two.published) == {"acc": 87.6, "nmi": 78.7}
