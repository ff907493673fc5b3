"""What machines can never carry, and how much memory a trial needs."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from platform.study import memory
from platform.study.errors import StudyErrors
from platform.study.file_schema import Resources, Share
from platform.study.placement import Node, machines, unplaceable, with_gpus
from platform.study.plan import rows
from platform.study.study import load_study

import pytest
import torch
import yaml

from trainables.data import datasets
from trainables.interfaces import DataShape
from trainables.nets import backbones
from trainables.settings import build
from trainables.stages import dccm, simclr, uad

Write = Callable[..., Path]
SMALL, LARGE = Node(4, 1), Node(16, 2)


@pytest.mark.parametrize(
    ("share", "fits"),
    [
        (Share(cpu=5), 3),
        (Share(cpu=0, gpu=0.75), 2),  # one on each GPU: the quarters left over do not add up
        (Share(cpu=0, gpu=0.25), 8),
        (Share(cpu=0, gpu=1), 2),
    ],
)
def test_processes_that_fit_a_machine(share: Share, fits: int) -> None:
    assert LARGE.fits(share) == fits


def test_a_trial_must_fit_one_machine_and_not_only_their_sum() -> None:
    asked = Resources(trial=Share(cpu=20))
    assert unplaceable(asked, [SMALL, LARGE]) == [
        "resources.trial asks for 20 CPUs and 0 GPUs for a process, but the largest of 2 machines has 16 CPUs and "
        "2 GPUs. Lower resources.trial, or join a larger cluster with --address."
    ]
    assert unplaceable(Resources(trial=Share(cpu=16, gpu=1)), [SMALL, LARGE]) == []


def test_a_group_may_span_machines_but_must_fit_them_all() -> None:
    assert unplaceable(Resources(prepare=Share(workers=3, gpu=1)), [SMALL, LARGE]) == []
    (sentence,) = unplaceable(Resources(prepare=Share(workers=4, gpu=1)), [SMALL, LARGE])
    assert sentence.startswith("resources.prepare asks for a group of 4 workers, but only 3 fit at once.")


def test_parameters_and_outputs_are_those_of_the_network() -> None:
    shape = DataShape(10, 10, 10, 1, 8)
    parameters, outputs = memory.measured("small", shape)
    model = backbones.build("small", in_channels=1, image_size_px=8, seed=0)
    assert parameters == sum(each.numel() for each in model.parameters())
    # Three times convolution, norm and ReLU, and a pool, at 8, 4 and 2 px (32, 64 and 128 channels), then flat.
    wide = 3 * 32 * 64 + 32 * 16, 3 * 64 * 16 + 64 * 4, 3 * 128 * 4 + 128 * 4
    assert outputs == sum(wide) + 512


def test_memory_is_data_and_network_and_activations() -> None:
    data = datasets.load(datasets.Spec(name="digits", train_limit=100, eval_limit=50))
    need = memory.need({"pretext": simclr}, {"pretext": simclr.Config(batch_size=20)}, data)
    parameters, outputs = memory.measured("small", data.shape)
    assert need.data == memory.data_bytes(data)
    assert (need.parameters, need.activations) == (16 * parameters, 16 * outputs * 20)
    assert memory.need({}, {}, data).total == need.data
    both = replace(data, eval=data.train)
    assert memory.data_bytes(both) == 100 * (64 + 8)
    assert not torch.cuda.is_initialized()


def test_a_million_combinations_are_counted_and_not_expanded(write: Write) -> None:
    text = "method: spc\nsearch: {neighbors.k: {int: [1, 1000]}, spc.epochs: {int: [1, 1000]}}\nsampler: "
    assert "settings   5 by random (seed 0) out of 1,000,000" in rows(load_study(write(text + "random\ntrials: 5\n")))
    with pytest.raises(StudyErrors, match=r"1,000,000 settings with 1 seed are 1,000,000 trials, but at most 100,000"):
        load_study(write(text + "grid\n"))


def test_machines_of_the_command_line_are_number_cpus_and_gpus() -> None:
    assert machines("2:16:1") == (Node(16, 1), Node(16, 1))
    assert machines("1:4:0") == (Node(4, 0),)


@pytest.mark.parametrize(
    "text", ["", "8", "8:16", "8:16:1:1", "0:8:1", "8:0:0", "-1:8:1", "8:x:1", "8:16:0.5", "20000:1:0"]
)
def test_machines_that_are_none_are_refused_with_what_was_written(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"but here is '{text}'"):
        machines(text)


def test_dccm_and_deepcluster_count_their_own_networks() -> None:
    shape = DataShape(60000, 10000, 10, 3, 32)
    found = dccm.sized(build(dccm.Config, {"train_on_original": True}), shape)
    # Discriminator: 1 x 1 convolutions from 64 maps, from 10 values, 512 to 512 and 512 to 1, no biases.
    discriminator = 64 * 512 + 10 * 512 + 512 * 512 + 512
    convolutions = 9 * (3 * 64 + 64 * 64 + 64 * 128 + 128 * 256)
    others = 256 * 64 + 64 + 64 * 10 + 10 + 2 * (64 + 64 + 128 + 256 + 64 + 10)
    assert (found.name, found.images) == ("dccm_c4", 64)
    assert found.parameters == discriminator + convolutions + others
    # Its hidden maps of four partners are the largest: 512 x 14 x 14 each.
    assert found.outputs > 4 * 512 * 14 * 14
    large = DataShape(1000, 100, 10, 3, 224)
    found = uad.sized(uad.Config(network="alexnet_dc", num_clusters=10000), large)
    # The released network on two channels of gradients, and a top layer.
    assert found.parameters == 58_272_480 + 10000 * 4097 and found.images == 256


def named(text: str) -> Resources:
    return Resources.model_validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    ("written", "trial", "prepare"),
    [
        ("{}", 1.0, 1.0),
        ("{trial: {cpu: 1.0}}", 1.0, 1.0),
        ("{prepare: {workers: 2}}", 1.0, 1.0),
        ("{trial: {gpu: 0.0}}", 0.0, 1.0),
        ("{trial: {gpu: 0.25}, prepare: {workers: 2, gpu: 0.0}}", 0.25, 0.0),
    ],
)
def test_a_share_that_names_no_gpu_gets_one_where_there_are_any(written: str, trial: float, prepare: float) -> None:
    given = with_gpus(named(written), [Node(8, 0), Node(8, 1)])
    assert (given.trial.gpu, given.prepare.gpu) == (trial, prepare)
    for nodes in ([], [Node(8, 0)]):
        assert with_gpus(named(written), nodes) == named(written)
