import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from platform.study.resolved import difference, meaning, resolved
from platform.study.study import load_study

import pytest
import yaml

Write = Callable[..., Path]

SEARCH = """\
# Why?
method: spc
fixed: {pretext.views: affine}
search:
  spc.threshold: {uniform: [0.5, 0.9], step: 0.1}
  neighbors.k: {int: [4, 64], log: true}
  pretext.lr: {loguniform: [1.0e-3, 1]}
  spc.refine: [true, false]
sampler: random
trials: 7
tracking: {uri: "postgresql://me:${ENV:PG}@db/x"}
"""
ABLATE = "method: spc\nseeds: [0, 1]\nablate:\n  off: {spc.refine: false, published: {acc: 80.6}}\n  on: {}\n"
GRID = "method: spc\nsampler: grid\nsearch: {neighbors.k: [5, 9]}\n"
ONE = "method: spc\n"


@pytest.mark.parametrize("text", [SEARCH, ABLATE, GRID, ONE], ids=["search", "ablate", "grid", "one setting"])
def test_the_resolved_file_is_a_study_file_of_the_same_study(write: Write, text: str) -> None:
    full = resolved(load_study(write(text)))
    again = load_study(write(yaml.safe_dump(full, sort_keys=False), "other.yaml"))
    assert resolved(again) == full == json.loads(json.dumps(full))


def test_every_default_that_can_count_is_written_out(write: Write) -> None:
    # views is affine, so crop never counts; the searched settings stand under search.
    assert resolved(load_study(write(SEARCH)))["fixed"] == {
        "pretext.epochs": 500,
        "pretext.views": "affine",
        "spc.epochs": 50,
        "spc.batch_size": 256,
        "spc.sure_size": 48,
    }


@pytest.mark.parametrize(
    "change",
    ["trials=8", "seeds=[4, 5]", "resources.trial.cpu=2", "retries=0", "tracking.uri=", "dataset.root=/data"]
    + ["published={spc/acc: 80}", "name=other", "question=What", "pretext=simclr", "spc.epochs=50"],
)
def test_what_only_extends_a_study_is_not_its_meaning(write: Write, change: str) -> None:
    path = write(SEARCH)
    change = "tracking.uri=sqlite:///x.db" if change == "tracking.uri=" else change
    assert difference(meaning(load_study(path)), meaning(load_study(path, [change]))) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("spc.epochs=60", "fixed.spc.epochs was 50 and is now 60"),
        ("dataset.train_limit=500", "dataset.train_limit was 0 and is now 500"),
        ("pretext=rotnet", "stages.pretext was 'simclr' and is now 'rotnet'"),
        ("sampler.seed=3", "sampler.seed was 0 and is now 3"),
        ("search.spc.sure_size=[8, 16]", "search.spc.sure_size is new: {'choice': [8, 16]}"),
        ("objective={metric: spc/loss, mode: min}", "objective.metric was 'spc/agreement' and is now 'spc/loss'"),
    ],
)
def test_what_makes_another_study_is_said_in_words(write: Write, change: str, sentence: str) -> None:
    path = write(SEARCH)
    assert sentence in difference(meaning(load_study(path)), meaning(load_study(path, [change])))


def test_a_row_taken_out_is_said_in_words(write: Write) -> None:
    study = load_study(write(ABLATE))
    shorter = replace(study, ablate=study.ablate[1:])
    assert "ablate.off was {'spc.refine': False} and is gone" in difference(meaning(study), meaning(shorter))


def test_the_order_of_keys_is_no_difference(write: Write) -> None:
    part = meaning(load_study(write(SEARCH)))
    assert difference(part, dict(reversed(list(part.items())))) == []
