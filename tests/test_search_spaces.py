"""Every study file in search_spaces/ can be run as it stands."""

import gzip
import re
from pathlib import Path
from platform import sweep
from platform.study import resolved, smoke
from platform.study.errors import StudyErrors
from platform.study.study import configs, load_study

import pytest
import yaml

from trainables import pipeline
from trainables.data import datasets, loaded
from trainables.runner import pipeline_runner

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "search_spaces"
NAMES = sorted(str(file.relative_to(FOLDER)) for file in FOLDER.rglob("*.yaml"))
FILES = [FOLDER / name for name in NAMES]
PAPERS = (
    *("scan_table1", "scan_table2", "scan_table3_cifar10", "scan_table3_cifar20", "scan_table3_stl10"),
    *("scan_table4_imagenet50", "scan_table4_imagenet100", "scan_table4_imagenet200", "scan_imagenet"),
    *("scan_fig6", "scan_fig7", "scan_fig8"),
    *("spc_table2", "spc_table3", "spc_fig6_delta", "spc_fig6_k2", "spc_fig7_r", "spc_mix"),
)
SHARED_MNIST = ROOT.parent / "shared" / "data" / "mnist"


@pytest.fixture(scope="module")
def mnist_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real MNIST where torchvision expects it."""
    packed = sorted(SHARED_MNIST.glob("*.gz"))
    if not packed:
        pytest.skip("MNIST is neither under data/ nor in ../shared/data")
    root: Path = tmp_path_factory.mktemp("data")
    (root / "MNIST" / "raw").mkdir(parents=True)
    for each in packed:
        (root / "MNIST" / "raw" / each.stem).write_bytes(gzip.decompress(each.read_bytes()))
    return root


def test_the_walk_finds_the_studies() -> None:
    assert {"kmeans.yaml", "scan.yaml", "spc.yaml", "mnist_spc.yaml"} <= set(NAMES)
    assert {f"papers/{name}.yaml" for name in PAPERS} <= set(NAMES)


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(FOLDER)) for file in FILES])
def test_a_study_resolves_to_a_page_of_the_same_study(file: Path, tmp_path: Path) -> None:
    full = resolved.resolved(load_study(file))
    (tmp_path / file.name).write_text(yaml.safe_dump(full, sort_keys=False))
    assert resolved.resolved(load_study(tmp_path / file.name)) == full


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(FOLDER)) for file in FILES])
def test_a_study_can_be_smoke_tested(file: Path) -> None:
    small = smoke.smoke_study(load_study(file))
    assert small.dataset["name"] == "digits"
    shape = datasets.load(datasets.Spec(**small.dataset)).shape
    for part, changes in small.bounds:
        assert not list(pipeline.limits(part.method, part.pretext, configs(part, changes), shape, part.probes))


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(FOLDER)) for file in FILES])
def test_a_study_passes_the_dry_run(
    file: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    arguments = [str(file), "--dry-run"]
    study = load_study(file)
    try:
        datasets.load(datasets.Spec(**study.dataset))
    except loaded.DataError as missing:
        if study.dataset["name"] != "mnist":
            pytest.skip(f"the data set is not here: {missing}")
        arguments += ["--set", f"dataset.root={request.getfixturevalue('mnist_root')}"]
    code = sweep.main(arguments)
    said = capsys.readouterr()
    assert code == 0, said.err


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(FOLDER)) for file in FILES])
@pytest.mark.parametrize("word", ["Question:", "Source:", "Run:", "Cost:", "Data:"])
def test_a_study_says_on_top_what_it_is_for(file: Path, word: str) -> None:
    comments = [line for line in file.read_text().splitlines() if line.startswith("#")]
    assert any(word in line for line in comments)


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(FOLDER)) for file in FILES])
def test_a_study_names_the_command_that_runs_it(file: Path) -> None:
    assert f"python -m platform.sweep {file.relative_to(ROOT)}" in file.read_text()


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(FOLDER)) for file in FILES])
def test_a_study_of_dccm_says_whose_objective_it_runs(file: Path) -> None:
    study = load_study(file)
    said = re.findall(r"Objective: the (text|code)'s", file.read_text())
    wanted = "text" if study.preset == "paper" else "code"
    assert said == ([wanted] if study.method == "dccm" else [])


@pytest.mark.parametrize(("name", "count"), [("imagenet10", 10), ("imagenet_dogs", 15)])
def test_a_list_of_classes_has_a_synset_and_its_name_in_each_line(name: str, count: int) -> None:
    lines = (FOLDER / "classes" / f"{name}.txt").read_text().splitlines()
    synsets = [re.fullmatch(r"(n\d{8}) [A-Za-z ]+", line) for line in lines]
    assert all(synsets) and len({match[1] for match in synsets if match}) == len(lines) == count


def addresses(name: str) -> dict[str, tuple[str, str]]:
    """Slot -> (stage, address) of the first setting of a study, with a made-up fingerprint."""
    study = load_study(FOLDER / name)
    return pipeline_runner.addresses(
        {
            "method": study.method,
            "pretext": study.pretext,
            "changes": {**study.fixed, **study.extremes[0]},
            "fingerprint": "f" * 64,
            "seed": 0,
            "until": "",
        }
    )


def test_the_digits_studies_share_one_simclr() -> None:
    found = {addresses(name)["pretext"] for name in ("kmeans.yaml", "scan.yaml", "spc_parts.yaml")}
    assert len(found) == 1


def test_the_scan_and_spc_studies_share_one_scan() -> None:
    assert addresses("spc_parts.yaml")["scan"] == addresses("scan.yaml")["scan"]


@pytest.mark.parametrize("pretext", ["rotnet", "instdisc", "moco"])
@pytest.mark.parametrize("name", ["kmeans.yaml", "scan.yaml", "mnist_pretexts.yaml"])
def test_a_study_takes_another_pretext(name: str, pretext: str) -> None:
    overrides = [f"pretext={pretext}"]
    if pretext == "rotnet" and name != "mnist_pretexts.yaml":
        # RotNet has no temperature, and a setting that does not exist is an error.
        with pytest.raises(StudyErrors, match="pretext.temperature is not a setting"):
            load_study(FOLDER / name, overrides)
        return
    study = load_study(FOLDER / name, overrides)
    assert pipeline.name_of(study.stages["pretext"]) == pretext


def test_another_pretext_changes_every_address_after_it() -> None:
    own, other = (
        pipeline_runner.addresses(
            {
                **{"method": "scan", "pretext": pretext, "changes": {}},
                **{"fingerprint": "f" * 64, "seed": 0, "until": ""},
            }
        )
        for pretext in ("simclr", "instdisc")
    )
    assert own.keys() == other.keys()
    assert all(own[slot][1] != other[slot][1] for slot in own)


PAPER_PAGES = {
    prefix: sorted((FOLDER / "papers").glob(f"{prefix}_*.yaml")) for prefix in ("uad", "deepcluster", "dccm")
}


@pytest.mark.parametrize("file", sum(PAPER_PAGES.values(), []), ids=lambda file: file.stem)
def test_a_page_of_uad_or_dccm_trains_in_float32_on_every_machine(file: Path) -> None:
    # auto is bf16 on GPUs with units for it; the papers trained in float32.
    chosen = {
        stage: config.compute.precision
        for part, changes in load_study(file).bounds
        for stage, config in configs(part, changes).items()
        if hasattr(config, "compute")
    }
    assert chosen and set(chosen.values()) == {"float32"}, chosen


def test_the_pages_of_uad_and_dccm_are_found() -> None:
    assert len(PAPER_PAGES["uad"]) >= 9 and len(PAPER_PAGES["dccm"]) >= 12


@pytest.mark.parametrize("file", PAPER_PAGES["uad"], ids=lambda file: file.stem)
def test_a_page_of_uad_sees_a_window_of_224_px_of_256(file: Path) -> None:
    # Tiny ImageNet too: the released code resizes every set to 256 px and takes 224. ImageNet has no squares.
    spec = datasets.Spec(**load_study(file).dataset)
    assert spec.size_px == 256 and spec.whole_pictures == (spec.name == "imagenet")
