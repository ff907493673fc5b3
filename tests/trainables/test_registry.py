"""What a stage file says of itself, read without importing it; and the one sentence that a broken one gets."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from trainables import pipeline, registry, seeds
from trainables.stages import knn_probe

WHOLE = """
from collections.abc import Mapping
from dataclasses import dataclass
from trainables import settings

NAMESPACE = "broken"
INPUTS: tuple[str, ...] = ()
VERSION = 1
METRICS = ("loss", "agreement", "acc")
CRITERION = ("agreement", "max")
TRAINS_ON_LABELS = False
WEIGHTS = ("backbone",)
ARRAYS = ("probabilities_eval",)
FACTS = ("network",)
TINY: Mapping[str, settings.Plain] = {"lr": 0.5}

@dataclass(frozen=True, kw_only=True)
class Config:
    lr: float = settings.setting(0.1, "learning rate", above=0)

    def __post_init__(self) -> None:
        settings.check(self)

def limits(config, shape):
    yield from ()

def train(config, data, inputs, runtime):
    yield from ()
"""

LR = '    lr: float = settings.setting(0.1, "learning rate", above=0)\n'
NUMBERS = '    betas: tuple[float, float] = settings.setting((0.9, 0.99), "two rates")\n'

FAULTS: dict[str, tuple[Callable[[str], str], str]] = {
    **{
        name: (lambda text, name=name: text.replace(f"\n{name}", f"\nOTHER_{name}", 1), f"{name} is missing; write")
        for name in registry.REQUIRED
        if name not in ("Config", "limits", "train")
    },
    "limits": (lambda text: text.replace("def limits", "def other"), "limits is missing; write limits(config, shape)"),
    "train": (lambda text: text.replace("def train", "def other"), "train is missing; write train(config, data"),
    "Config": (lambda text: text.replace("class Config", "class Other"), "Config is missing; write a frozen dataclass"),
    "a field without setting": (
        lambda text: text.replace(LR, LR + "    tau: float = 0.5\n"),
        "Config.tau has no rule; declare it with settings.setting(default, meaning, ...)",
    ),
    "a tuple": (lambda text: text.replace(LR, LR + NUMBERS), "a setting is a bool, int, float or str; write a setting"),
    "text annotations": (
        lambda text: "from __future__ import annotations\n" + text,
        "Config.lr is kept as the text 'float'; take `from __future__ import annotations` out",
    ),
    "a default outside its rule": (
        lambda text: text.replace("setting(0.1", "setting(-0.1"),
        "the defaults of Config break their own rules; change the value or the rule: lr must be above 0",
    ),
    "TINY outside a rule": (lambda text: text.replace('"lr": 0.5', '"lr": -0.5'), "TINY breaks a rule; change"),
    "TINY of no setting": (lambda text: text.replace('"lr": 0.5', '"rate": 0.5'), "TINY names rate, no settings of"),
    "a criterion that is no metric": (
        lambda text: text.replace('("agreement", "max")', '("agreemnt", "max")'),
        "CRITERION names 'agreemnt', which is not in METRICS; add it there, and report it",
    ),
    "a criterion without a direction": (
        lambda text: text.replace('("agreement", "max")', '("agreement", "most")'), 'write "min" or "max"',
    ),
    "a criterion of labels": (
        lambda text: text.replace('("agreement", "max")', '("acc", "max")'), "'acc', which looks at labels; name a",
    ),
    "a list that is computed": (
        lambda text: text.replace('WEIGHTS = ("backbone",)', 'WEIGHTS = tuple(["backbone"])'),
        "WEIGHTS must be written out as a plain literal",
    ),
    "a classifier that is none": (lambda text: text + "\nclassifier = 3\n", "classifier must be a function, but is 3"),
    "no Python": (lambda text: text + "\nclass\n", "is no Python: invalid syntax; correct it"),
}  # fmt: skip


@pytest.fixture
def stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of stages of its own; nothing that was read before is known."""
    import trainables.stages

    cached: list[Any] = [registry.names, registry.literals, registry.load, registry.pretexts, registry.probes]
    monkeypatch.setattr(registry, "FOLDER", tmp_path)
    monkeypatch.setattr(trainables.stages, "__path__", [str(tmp_path)])
    for each in cached:
        each.cache_clear()
    yield tmp_path
    sys.modules.pop("trainables.stages.broken", None)
    vars(trainables.stages).pop("broken", None)
    for each in cached:
        each.cache_clear()


def test_a_whole_stage_is_loaded(stages: Path) -> None:
    (stages / "broken.py").write_text(WHOLE)
    assert pipeline.load("broken").NAMESPACE == "broken"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_stage_gets_one_sentence_with_file_name_and_way_out(stages: Path, fault: str) -> None:
    change, sentence = FAULTS[fault]
    text = change(WHOLE)
    assert text != WHOLE
    (stages / "broken.py").write_text(text)
    with pytest.raises(registry.BrokenStage) as caught:
        pipeline.load("broken")
    assert str(caught.value).startswith("trainables/stages/broken.py")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_stage_without_a_file_is_named_with_the_nearest() -> None:
    with pytest.raises(registry.BrokenStage, match=r"no file trainables/stages/swaw.py. Did you mean 'swav'\?"):
        pipeline.load("swaw")


def test_a_broken_stage_ends_the_command_with_2_before_anything_starts(tmp_path: Path) -> None:
    page = tmp_path / "page.yaml"
    page.write_text("method: ccc\n")
    script = (
        "import sys; from trainables import pipeline; pipeline.METHODS = {'ccc': ('ccc',)}\n"
        "from platform import sweep; sys.exit(sweep.main(sys.argv[1:]))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(page), "--dry-run"], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "there is no file trainables/stages/ccc.py" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_lists_are_what_the_stages_say() -> None:
    assert registry.probes() == ("finetune_probe", "knn_probe", "linear_probe", "mlp_probe")
    assert registry.pretexts() == ("checkpoint", "instdisc", "moco", "rotnet", "simclr", "untrained")
    assert registry.pretext_seeded_slots() == {"pretext", "neighbors"}
    assert [method for method in pipeline.METHODS if pipeline.trains_on_labels(method)] == ["simgcd"]
    assert registry.leaves_backbone("dccm") and not registry.leaves_backbone("dec")
    assert pipeline.is_probe(knn_probe)  # type: ignore[arg-type]


def test_a_crossed_seed_is_dealt_by_what_the_stages_say() -> None:
    seed = seeds.crossed(1, 3)
    assert [seeds.of_slot(seed, slot) for slot in ("pretext", "neighbors", "scan")] == [1, 1, 3]


def test_the_lists_cost_no_torch() -> None:
    script = "import sys; from trainables import pipeline, registry, seeds; registry.pretexts(); registry.probes()\n"
    script += "pipeline.trains_on_labels('simgcd'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
