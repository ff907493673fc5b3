from collections.abc import Callable
from pathlib import Path
from platform.study.domains import Choice
from platform.study.errors import StudyErrors
from platform.study.study import Objective, Resources, Row, Sampler, Tracking, configs, load_study

import pytest

from trainables import settings

Write = Callable[..., Path]

PAGE = """\
# Does the threshold matter?

method: spc
dataset: {name: digits}
seeds: [0, 1, 2]
fixed:
  pretext.epochs: 40
search:
  spc.threshold: [0.90, 0.95]
trials: 12
"""


def refusal(write: Write, text: str, name: str = "spc.yaml") -> str:
    with pytest.raises(StudyErrors) as caught:
        load_study(write(text, name))
    return str(caught.value)


def test_a_page_becomes_a_study(write: Write) -> None:
    study = load_study(write(PAGE))
    assert (study.name, study.question, study.method) == ("spc", "Does the threshold matter?", "spc")
    assert study.dataset["name"] == "digits"
    assert (study.seeds, study.fixed, study.trials) == ((0, 1, 2), {"pretext.epochs": 40}, 12)
    assert study.search == {"spc.threshold": Choice("spc.threshold", (0.90, 0.95))}


def test_a_page_of_one_line_has_every_default(write: Write) -> None:
    study = load_study(write("method: spc\n"))
    assert (study.dataset["name"], study.seeds, study.trials, study.retries) == ("digits", (0,), 1, 2)
    assert (study.sampler, study.resources, study.tracking) == (Sampler(), Resources(), Tracking())


def test_the_last_stage_with_a_criterion_gives_the_objective(write: Write) -> None:
    assert load_study(write(PAGE)).objective == Objective(metric="spc/agreement", mode="max")


def test_rows_carry_their_changes_and_published_values(write: Write) -> None:
    text = "method: spc\nablate:\n  base: {spc.refine: false, published: {acc: 80.6}}\n  full: {}\n"
    assert load_study(write(text)).ablate == (Row("base", {"spc.refine": False}, {"acc": 80.6}), Row("full", {}))


def test_configs_are_defaults_then_fixed_then_changes(write: Write) -> None:
    built = configs(load_study(write(PAGE)), {"spc.threshold": 0.9})
    assert (built["pretext"].epochs, built["spc"].threshold, built["neighbors"].k) == (40, 0.9, 20)


def test_configs_name_the_setting_in_full(write: Write) -> None:
    with pytest.raises(settings.SettingsError) as caught:
        configs(load_study(write(PAGE)), {"spc.sure_size": 300})
    assert caught.value.faults == [("spc.sure_size", "sure_size must be below batch_size (256), but is 300")]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("seeds: [0]\n", "spc.yaml:1: method: method is missing. Write method: scan, or another one."),
        ("method: spcc\n", "spc.yaml:1: method: method 'spcc' does not exist. Did you mean 'spc'?"),
        ("method: 3\n", "spc.yaml:1: method: method must be text, but is 3."),
        (
            "method: spc\npretext: rotnt\n",
            "spc.yaml:2: pretext: pretext 'rotnt' does not exist. Did you mean 'rotnet'?",
        ),
        (
            "method: bare\npretext: rotnet\n",
            "spc.yaml:2: pretext: method 'bare' has no pretext stage. Take the line out, or choose spc, mining.",
        ),
        (
            "method: coded\npretext: rotnet\n",
            "spc.yaml:2: pretext: method 'coded' starts from coder and no other pretext. Take the line out, or choose "
            "spc, mining.",
        ),
        ("method: spc\nseed: [0]\n", "spc.yaml:2: seed: seed is not a key of a study file. Did you mean 'seeds'?"),
        (
            "method: spc\nseeds: [0, 1, 0]\n",
            "spc.yaml:2: seeds: seeds must differ from each other, but 0 stands twice. Take one out.",
        ),
        (
            "method: spc\nseeds: []\n",
            "spc.yaml:2: seeds: seeds must be whole numbers from 0 to 2147483647, at least one, but is [].",
        ),
        (
            "method: spc\nseeds: [-1]\n",
            "spc.yaml:2: seeds: seeds must be whole numbers from 0 to 2147483647, at least one, but is [-1].",
        ),
        (
            "method: spc\nseeds: 3\n",
            "spc.yaml:2: seeds: seeds must be a list in brackets, such as [0, 1, 2], but is 3.",
        ),
        ("method: spc\nseeds:\n- 0\n- one\n", "spc.yaml:4: seeds.1: seeds.1 must be a whole number, but is 'one'."),
        (
            "method: spc\nfixed:\n",
            "spc.yaml:2: fixed: fixed must be a mapping of keys to values, but is empty. Give it a value, or "
            "take the line out.",
        ),
        ("method: spc\ntrials: 0\n", "spc.yaml:2: trials: trials must be at least 1, but is 0."),
        (
            "method: spc\ntrials: 1e3\n",
            "spc.yaml:2: trials: trials must be a whole number, but is 1000.0. Write 1000.",
        ),
        ("method: spc\noracle: yes\n", "spc.yaml:2: oracle: oracle must be true or false, but is 'yes'."),
        ("method: spc\nretries: 99\n", "spc.yaml:2: retries: retries must be at most 20, but is 99."),
        (
            "method: spc\nsampler: tpee\n",
            "spc.yaml:2: sampler.name: sampler.name must be one of 'tpe', 'cmaes', 'gp', 'nsga2', 'qmc', 'random' or "
            "'grid', but is 'tpee'. Did you mean 'tpe'?",
        ),
        ("method: spc\ndataset: digit\n", "spc.yaml:2: dataset.name: dataset.name must be one of digits, "),
        (
            "method: spc\ndataset: {nmae: digits}\n",
            "spc.yaml:2: dataset.nmae: nmae is not a key of dataset. Did you mean 'name'?",
        ),
        (
            "method: spc\ndataset:\n  name: digits\n  train_limit: -5\n",
            "spc.yaml:4: dataset.train_limit: dataset.train_limit must be at least 0",
        ),
        (
            "method: spc\nresources: {trial: {gppu: 1}}\n",
            "spc.yaml:2: resources.trial.gppu: gppu is not a key of resources.trial. Did you mean 'gpu'?",
        ),
        (
            "method: spc\nresources: {trial: {gpu: 1.5}}\n",
            "spc.yaml:2: resources.trial.gpu: resources.trial.gpu must be at most 1, because one process computes "
            "on one GPU, but is 1.5. For 1.5 GPUs write {workers: 2, gpu: 1}.",
        ),
        (
            "method: spc\nresources: {trial: {cpu: 0}}\n",
            "spc.yaml:2: resources.trial: resources.trial asks for nothing, so all would start at once. Give it "
            "cpu: 1.",
        ),
        (
            "method: spc\nresources: {trial: {workers: 2, gpu: 0.5}}\n",
            "spc.yaml:2: resources.trial.gpu: resources.trial has 2 workers with 0.5 GPU each, but workers of "
            "one group cannot share a GPU.",
        ),
        (
            "method: spc\ntracking: {uri: ./mlruns}\n",
            "spc.yaml:2: tracking.uri: tracking.uri must begin with one of sqlite:, ",
        ),
        (
            "method: spc\ntracking: {uri: 'postgresql://me:hunter2@db/x'}\n",
            "spc.yaml:2: tracking.uri: a password stands in 'postgresql://me:***@db/x'. Keep it in an "
            "environment variable and write ${ENV:NAME} for it.",
        ),
    ],
)
def test_a_wrong_key_or_value_of_the_page(write: Write, text: str, error: str) -> None:
    assert refusal(write, text).startswith(error)


WHOLE = "fixed.spc.epochs: spc.epochs must be a whole number, at least 1,"


@pytest.mark.parametrize("written", ["20.5", "'0'", "1e-1", "ten", "nan", "1e999"])
def test_no_number_is_proposed_that_the_setting_cannot_be(write: Write, written: str) -> None:
    said = refusal(write, f"method: spc\nfixed: {{spc.epochs: {written}}}\n")
    assert WHOLE in said and "Write" not in said


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (
            "fixed: {spc.treshold: 0.9}",
            "fixed.spc.treshold: spc.treshold is not a setting of 'spc'. Did you mean 'spc.threshold'?",
        ),
        ("fixed: {threshold: 0.9}", "fixed.threshold: threshold lacks its stage. Write 'spc.threshold'."),
        (
            "fixed: {epochs: 9}",
            "fixed.epochs: epochs lacks its stage, and several have it. Write one of pretext.epochs, spc.epochs.",
        ),
        ("fixed: {spc: {threshold: 0.9}}", "fixed.spc: spc is not a setting of 'spc'."),
        (
            "fixed: {spc.threshold: [0.9]}",
            "fixed.spc.threshold: spc.threshold takes one value, but is [0.9]. Several values belong under search.",
        ),
        ("fixed: {spc.threshold: }", "fixed.spc.threshold: spc.threshold takes one value, but has no value."),
        (
            "fixed: {spc.threshold: 95}",
            "fixed.spc.threshold: spc.threshold must be above 0 and below 1, but is 95. It is: a prediction "
            "above it is sure. It looks like percent; as a share write 0.95.",
        ),
        ("fixed: {spc.threshold: .nan}", "fixed.spc.threshold: spc.threshold must be above 0 and below 1, but is nan."),
        (
            "fixed: {spc.epochs: true}",
            "fixed.spc.epochs: spc.epochs must be a whole number, at least 1, but is True.",
        ),
        *(
            (
                f"fixed: {{spc.epochs: {written}}}",
                f"{WHOLE} but is {shown}. It is: passes over the images. Write {meant}.",
            )
            for written, shown, meant in (
                ("1e2", "100.0", "100"),
                ("1_000", "'1_000'", "1000"),
                ("'20'", "'20'", "20"),
                ("5.0", "5.0", "5"),
            )
        ),
        (
            "fixed: {spc.epochs: ten}",
            "fixed.spc.epochs: spc.epochs must be a whole number, at least 1, but is 'ten'.",
        ),
        (
            "search: {spc.treshold: [0.9]}",
            "search.spc.treshold: spc.treshold is not a setting of 'spc'. Did you mean 'spc.threshold'?",
        ),
        (
            "ablate: {a: {spc.treshold: 0.9}}",
            "ablate.a.spc.treshold: spc.treshold is not a setting of 'spc'. Did you mean 'spc.threshold'?",
        ),
        (
            "ablate: {a: {published: {acu: 1}}}",
            "ablate.a.published.acu: acu is no metric of this pipeline. Did you mean 'acc'?",
        ),
        (
            "ablate: {a: {published: 3}}",
            "ablate.a.published: published must be a mapping of metrics to numbers, but is 3. Write {acc: 83.6}.",
        ),
        (
            "published: {spc/acc: high}",
            "published.spc/acc: spc/acc must be a finite number, as published, but is 'high'. Write it as printed.",
        ),
        (
            "ablate: {a: {}, b: {spc.epochs: 50}}",
            "ablate.b: the row 'b' has the same settings as 'a'. Take one of them out.",
        ),
        ("ablate: {a: }", "ablate.a: ablate.a must be a mapping of keys to values, but is empty."),
    ],
)
def test_a_wrong_setting(write: Write, lines: str, error: str) -> None:
    assert refusal(write, f"method: spc\n{lines}\n").startswith(f"spc.yaml:2: {error}")


def test_search_and_ablate_exclude_each_other(write: Write) -> None:
    text = "method: spc\nsearch: {neighbors.k: [5, 9]}\nablate: {a: {}}\n"
    assert refusal(write, text) == "spc.yaml:3: ablate: search and ablate exclude each other. Keep one of them."


def test_a_setting_that_never_counts_is_refused(write: Write) -> None:
    assert refusal(write, "method: spc\nfixed:\n  pretext.views: affine\nsearch:\n  pretext.crop: [0.1, 0.2]\n") == (
        "spc.yaml:5: search.pretext.crop: pretext.crop counts only while pretext.views is 'simclr', but it is "
        "'affine'. Set pretext.views, or take pretext.crop out."
    )


def test_a_setting_that_counts_for_one_searched_value_is_accepted(write: Write) -> None:
    text = "method: spc\nfixed: {pretext.crop: 0.1}\nsearch:\n  pretext.views: [simclr, affine]\n"
    assert load_study(write(text)).fixed == {"pretext.crop": 0.1}


def test_a_fixed_setting_may_count_in_one_row_only(write: Write) -> None:
    text = "method: spc\nfixed: {spc.threshold: 0.9}\nablate: {off: {spc.refine: false}, on: {}}\n"
    assert load_study(write(text)).fixed == {"spc.threshold": 0.9}


def test_a_change_that_cannot_count_in_its_own_row_is_refused(write: Write) -> None:
    shown = refusal(write, "method: spc\nablate:\n  off: {spc.refine: false, spc.threshold: 0.9}\n")
    assert shown.startswith("spc.yaml:3: ablate.off.spc.threshold: spc.threshold counts only while spc.refine is True")


def test_values_that_a_config_refuses_together_are_found_at_the_ends(write: Write) -> None:
    assert refusal(write, "method: spc\nsearch:\n  spc.sure_size: {int: [8, 512]}\n") == (
        "spc.yaml:3: search.spc.sure_size: sure_size must be below batch_size (256), but is 512."
    )


def test_an_objective_that_looks_at_labels_needs_the_word_oracle(write: Write) -> None:
    shown = refusal(write, "method: spc\nobjective: {metric: spc/acc, mode: max}\n")
    assert shown == (
        "spc.yaml:2: objective.metric: objective.metric must be label-free, but 'spc/acc' looks at labels, so the "
        "answers would choose. Take one of spc/loss, spc/agreement, or write oracle: true to have the study called "
        "an oracle."
    )


def test_an_oracle_may_look_at_labels(write: Write) -> None:
    text = "method: spc\noracle: true\nobjective: {metric: spc/acc, mode: max}\n"
    assert load_study(write(text)).oracle


def test_an_oracle_without_labels_is_refused(write: Write) -> None:
    shown = refusal(write, "method: spc\noracle: true\n")
    assert shown.startswith("spc.yaml:2: oracle: oracle is true, but 'spc/agreement' looks at no labels.")


def test_an_unknown_metric_gets_the_nearest_one(write: Write) -> None:
    shown = refusal(write, "method: spc\nobjective: {metric: spc/agreemnt, mode: max}\n")
    assert shown.endswith("metric 'spc/agreemnt' does not exist in this pipeline. Did you mean 'spc/agreement'?")


def test_an_objective_without_a_mode_is_refused(write: Write) -> None:
    shown = refusal(write, "method: spc\nobjective: {metric: spc/loss}\n")
    assert shown == "spc.yaml:2: objective.mode: objective.mode is missing. Write mode: min or mode: max."


def test_an_objective_that_no_swept_setting_can_move_is_refused(write: Write) -> None:
    text = "method: spc\nsearch: {spc.epochs: [5, 9]}\nobjective: {metric: pretext/loss, mode: min}\n"
    assert refusal(write, text).startswith("spc.yaml:3: objective.metric: 'pretext/loss' is the same in every trial")


def test_a_method_without_a_criterion_must_name_its_objective(write: Write) -> None:
    assert refusal(write, "method: mining\n").startswith(
        "spc.yaml:1: objective: method 'mining' has no criterion of its own. Write objective: {metric: ..., mode: ...}."
    )


def test_a_grid_runs_all_of_its_settings(write: Write) -> None:
    text = (
        "method: spc\nsampler: grid\nsearch: {neighbors.k: [5, 9], spc.threshold: {uniform: [0.1, 0.9], step: 0.4}}\n"
    )
    assert load_study(write(text)).trials == 6


def test_a_grid_over_a_continuous_range_is_refused(write: Write) -> None:
    text = "method: spc\nsampler: grid\nsearch: {spc.threshold: {uniform: [0.1, 0.9]}}\n"
    assert refusal(write, text) == (
        "spc.yaml:2: sampler: a grid needs countable values, but spc.threshold is continuous. "
        "Give it a step or a choice, or take another sampler."
    )


def test_a_grid_with_another_number_of_trials_is_refused(write: Write) -> None:
    text = "method: spc\nsampler: grid\nsearch: {neighbors.k: [5, 9]}\ntrials: 4\n"
    assert refusal(write, text) == (
        "spc.yaml:4: trials: a grid runs all of its settings, here 2, but trials is 4. "
        "Take trials out, or take sampler: random."
    )


def test_a_grid_beyond_the_limit_is_counted_and_refused(write: Write) -> None:
    text = "method: spc\nsampler: grid\nsearch: {neighbors.k: {int: [1, 1000000]}, spc.epochs: {int: [1, 1000000]}}\n"
    assert "1,000,000,000,000 settings with 1 seed are 1,000,000,000,000 trials, but at most 100,000 run." in refusal(
        write, text
    )


@pytest.mark.parametrize(
    "name", ["../../x", "/etc/x", "a b", "a\\nb", "CON", "nul.txt", "com1", "x.", ".hidden", "x" * 101, "ѕpc", "a/b"]
)
def test_a_name_that_is_no_plain_folder_name_is_refused(write: Write, name: str) -> None:
    shown = refusal(write, f'method: spc\nname: "{name}"\n')
    assert shown.startswith("spc.yaml:2: name: ")
    assert shown.endswith("Write another one under name, or rename the file.")


def test_the_file_name_must_do_as_a_name_too(write: Write) -> None:
    assert "but is 'my study'" in refusal(write, "method: spc\n", "my study.yaml")


def test_all_errors_of_a_file_are_reported_sorted_by_line(write: Write) -> None:
    text = (
        "method: spc\nseed: 1\ntrials: none\nfixed:\n  spc.treshold: 0.9\n  spc.epochs: 0\nsearch:\n"
        "  neighbors.k: {int: [9, 5]}\nobjective: {metric: spc/nmi, mode: max}\ndataset: {name: mnits}\n"
    )
    lines = [int(error.split(":")[1]) for error in refusal(write, text).split("\n")]
    assert lines == [2, 3, 5, 6, 8, 9, 10]


def test_a_key_with_an_error_leads_to_no_second_error(write: Write) -> None:
    text = "method: spc\noracle: true\nobjective: {metric: spc/acc}\nsearch:\ntrials: 4\n"
    assert [error.split(": ")[1] for error in refusal(write, text).split("\n")] == ["objective.mode", "search"]


def test_tracking_fills_in_the_environment_only_when_asked() -> None:
    tracking = Tracking(uri="postgresql://me:${ENV:PG}@db/x")
    assert tracking.address({"PG": "hunter2"}) == "postgresql://me:hunter2@db/x"
    with pytest.raises(ValueError, match="tracking.uri needs PG, not set in the environment"):
        tracking.address({})
