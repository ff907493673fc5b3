"""Where CUDA raises because tensors lie on two devices, and after which operations the host waits.

Source: the checks of PyTorch's generated CUDA kernels, TensorIterator and TensorAdvancedIndexing.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Wait = Callable[[str], None]
IsGpu = Callable[[Any], bool]

INDEX = frozenset({"aten::index", "aten::_unsafe_index"})
INDEX_PUT = frozenset({"aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index_put"})
TAKES_CPU_SCALARS = frozenset(
    f"aten::{name}"
    for name in (
        *("where", "masked_fill", "masked_fill_", "lerp", "lerp_", "fill", "fill_", "xlogy", "clamp", "copysign"),
        *("add_", "mul_", "div_", "sub_"),
    )
)
"""Beside all that PyTorch tags as pointwise: these take a CPU tensor without axes as a number."""

HOST_NEEDS_RESULT = frozenset(
    f"aten::{name}"
    for name in (
        *("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive"),
        *("bincount", "equal", "is_nonzero", "_linalg_eigh", "_linalg_svd", "linalg_cholesky_ex", "multinomial"),
    )
)
"""They return a value, or a tensor whose size depends on values."""

LAUNCHES_NOTHING = frozenset(
    f"aten::{name}"
    for name in (
        *("detach", "alias", "view", "expand", "_unsafe_view", "_reshape_alias", "lift_fresh", "lift", "set_"),
        *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "resize_", "is_same_size"),
        *("_has_compatible_shallow_copy_type", "is_pinned"),
    )
) | {"prim::device"}


def check(func: Any, args: Sequence[Any], tensors: Sequence[Tensor], is_gpu: IsGpu, wait: Wait) -> None:
    """Raise what CUDA raises for this operation, and report for what the host waits.

    Args:
        func: an overload of ``torch.ops``.
        args: its positional arguments.
        tensors: all tensors among its arguments.
        is_gpu: whether a value is a tensor on the pretend GPU.
        wait: takes the reason of a wait.

    Raises:
        RuntimeError: tensors on two devices where CUDA does not allow that.
    """
    name = func._schema.name
    if name in INDEX:
        _check_index(args, is_gpu, wait)
    elif name in INDEX_PUT:
        _check_index_put(args, is_gpu, wait)
    elif not _may_mix(func, args, tensors, is_gpu):
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! ({func})"
        )
    if name in HOST_NEEDS_RESULT:
        wait(name.removeprefix("aten::"))


def _check_index(args: Sequence[Any], is_gpu: IsGpu, wait: Wait) -> None:
    source, indices = args[0], [index for index in args[1] if index is not None]
    _refuse_gpu_index_of_cpu(source, indices, is_gpu)
    for index in indices:
        if not is_gpu(index):
            wait("an index uploaded")
        elif index.dtype in (torch.bool, torch.uint8):
            wait("an index by a mask")


def _check_index_put(args: Sequence[Any], is_gpu: IsGpu, wait: Wait) -> None:
    target, indices, values = args[0], [index for index in args[1] if index is not None], args[2]
    _refuse_gpu_index_of_cpu(target, indices, is_gpu)
    if is_gpu(target) != is_gpu(values) and (is_gpu(values) or values.ndim):
        raise RuntimeError("Expected all tensors to be on the same device, but found at least two devices")
    if is_gpu(target):
        for index in indices:
            if not is_gpu(index):
                wait("an index uploaded")
            elif index.dtype in (torch.bool, torch.uint8) and values.numel() != 1:
                wait("an index by a mask")  # with one value it is masked_fill


def _refuse_gpu_index_of_cpu(source: Any, indices: Sequence[Tensor], is_gpu: IsGpu) -> None:
    if not is_gpu(source) and any(map(is_gpu, indices)):
        raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")


def _may_mix(func: Any, args: Sequence[Any], tensors: Sequence[Tensor], is_gpu: IsGpu) -> bool:
    on_cpu = [each for each in tensors if not is_gpu(each)]
    if not on_cpu or len(on_cpu) == len(tensors):
        return True
    name = func._schema.name
    takes_scalars = torch.Tag.pointwise in func.tags or name in TAKES_CPU_SCALARS or "_foreach" in name
    in_place_on_cpu = name.endswith("_") and isinstance(args[0], Tensor) and not is_gpu(args[0])
    return takes_scalars and not in_place_on_cpu and all(each.ndim == 0 for each in on_cpu)


def is_view(func: Any) -> bool:
    """Whether the operation returns a part of its input, and launches nothing."""
    return any(each.alias_info is not None and not each.alias_info.is_write for each in func._schema.returns)


def launches(func: Any, kwargs: Mapping[str, Any]) -> bool:
    return not (is_view(func) or func._schema.name in LAUNCHES_NOTHING)
