"""A pretend GPU: tensors that say they lie on cuda:0 and compute on the CPU.

They refuse what CUDA refuses (tensors on two devices, ``numpy()``, a generator of the CPU, pinning), take the branches
that the project has for GPUs, and count operations and waits. What they cannot show: a GPU's rounding, its memory, its
speed, torch.compile, CUDA graphs, several GPUs.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from . import autograd_context, rules
from .counts import Counts

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
COUNTS = Counts()
_CHANGES_OF_SHAPE = {"aten::_to_copy", "aten::copy_", "aten::copy"}


class GpuTensor(Tensor):
    """A tensor on the pretend GPU. values: the tensor of the CPU that computes."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor, requires_grad: bool = False) -> "GpuTensor":
        wrapper: GpuTensor = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            layout=values.layout,
            device=GPU,
            requires_grad=requires_grad,
        )
        wrapper.values = values  # type: ignore[method-assign,assignment]
        return wrapper

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    # With these two nn.Module.to exchanges a parameter's content and keeps its identity, as on a GPU.
    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["values"], None

    @staticmethod
    def __tensor_unflatten__(inner: Mapping[str, Tensor], context: Any, size: Any, stride: Any) -> "GpuTensor":
        return GpuTensor(inner["values"])

    def __repr__(self, **_: Any) -> str:
        return f"GpuTensor({self.values!r})"

    def tolist(self) -> Any:
        COUNTS.wait("tolist")
        with _disable_current_modes():
            return self.values.tolist()

    def to(self, *args: Any, **kwargs: Any) -> Any:
        return super().to(*map(_with_index, args), **{key: _with_index(value) for key, value in kwargs.items()})

    def cuda(self, *_: Any, **__: Any) -> "GpuTensor":
        return self

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor first.")

    def __array__(self, *_: Any, **__: Any) -> Any:
        return self.numpy()

    def pin_memory(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("cannot pin a tensor of cuda:0; only dense CPU tensors can be pinned")

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.values.detach().__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            with torch.no_grad():
                own = GpuTensor(self.values.clone(), self.requires_grad)
            is_parameter = getattr(self, "_is_param", False)
            memo[id(self)] = torch.nn.Parameter(own, self.requires_grad) if is_parameter else own
        return memo[id(self)]


def _is_gpu(value: Any) -> bool:
    return isinstance(value, GpuTensor)


def _with_index(value: Any) -> Any:
    """ "cuda" becomes cuda:0, or a module would be copied to where it is."""
    is_device = isinstance(value, str | torch.device) and str(value) == "cuda"
    return GPU if is_device else value


def _run(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """One operation below autograd."""
    flat, layout = pytree.tree_flatten((args, kwargs))
    name, device = func._schema.name, kwargs.get("device")
    to_gpu = device is not None and torch.device(device).type == "cuda"
    if not to_gpu and not any(map(_is_gpu, flat)):
        # Pinning needs a driver; without one memory is as it is.
        return func(*args, **({**kwargs, "pin_memory": None} if kwargs.get("pin_memory") else kwargs))
    if to_gpu and kwargs.get("pin_memory"):
        raise RuntimeError("Only dense CPU tensors can be pinned")
    if name == "aten::_to_copy":
        return _to_copy(func, args[0], kwargs)
    if name in ("aten::copy_", "aten::copy"):
        return _copy(args, kwargs)
    rules.check(func, args, [each for each in flat if isinstance(each, Tensor)], _is_gpu, COUNTS.wait)
    if name == "aten::repeat_interleave" and kwargs.get("output_size") is None:
        COUNTS.wait("repeat_interleave without output_size")
    if torch.Tag.inplace_view in func.tags and _is_gpu(args[0]):
        func(args[0].values, *args[1:], **kwargs)
        with no_dispatch():
            func(args[0], *args[1:], **kwargs)
        return args[0]
    bare = [each.values if _is_gpu(each) else each for each in flat]
    bare_args, bare_kwargs = pytree.tree_unflatten(bare, layout)
    on_cpu = {key: value for key, value in (("device", CPU), ("pin_memory", None)) if bare_kwargs.get(key) is not None}
    result = func(*bare_args, **{**bare_kwargs, **on_cpu})
    if rules.launches(func, kwargs):
        COUNTS.operation(name)
    if name == "aten::_local_scalar_dense" or (device is not None and not to_gpu):
        return result
    # What an operation changes in place comes back as the same tensor.
    known = {id(inner): outer for inner, outer in zip(bare, flat, strict=True) if _is_gpu(outer)}
    return pytree.tree_map(lambda each: _wrapped(each, known), result)


def _wrapped(value: Any, known: Mapping[int, Any]) -> Any:
    if not isinstance(value, Tensor):
        return value
    if id(value) not in known:
        return GpuTensor(value)
    same = known[id(value)]
    if same.shape != value.shape:
        raise NotImplementedError("an operation changed a shape in place, which the pretend GPU does not follow")
    return same


def _to_copy(func: Any, source: Tensor, kwargs: Mapping[str, Any]) -> Tensor:
    device = kwargs.get("device")
    to_gpu = _is_gpu(source) if device is None else torch.device(device).type == "cuda"
    from_gpu = isinstance(source, GpuTensor)
    values = source.values if isinstance(source, GpuTensor) else source
    result: Tensor = func(values, **{**kwargs, "device": CPU, "pin_memory": None})
    if from_gpu and to_gpu:
        COUNTS.operation("aten::_to_copy")
    elif from_gpu:
        COUNTS.wait("copied to the CPU")
    elif not (kwargs.get("non_blocking") and getattr(source, "is_said_pinned", False)):
        COUNTS.wait("copied to the GPU")
    return GpuTensor(result) if to_gpu else result


def _copy(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    target, source = args[0], args[1]
    non_blocking = args[2] if len(args) > 2 else kwargs.get("non_blocking", False)
    inner_target, inner_source = (each.values if _is_gpu(each) else each for each in (target, source))
    with no_dispatch():
        inner_target.copy_(inner_source)
    if _is_gpu(target) and _is_gpu(source):
        COUNTS.operation("aten::copy_")
    elif not (non_blocking and getattr(source if _is_gpu(target) else target, "is_said_pinned", False)):
        COUNTS.wait("copied to the GPU" if _is_gpu(target) else "copied to the CPU")
    return target


class _Operations(TorchDispatchMode):
    """Sees what makes new tensors, which takes none of the pretend GPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class Generator(torch.Generator):
    """A generator of the CPU that says which device it is for."""

    is_for_gpu: bool

    def __new__(cls, device: Any = "cpu") -> "Generator":
        made = super().__new__(cls, "cpu")
        made.is_for_gpu = torch.device(device).type == "cuda"
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return GPU if self.is_for_gpu else CPU


class _Functions(TorchFunctionMode):
    """Judges generators, which have lost their Python object below; and knows which tensors were pinned."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for value in (*args, *kwargs.values()):
            if isinstance(value, Generator):
                _check_generator(value, args, kwargs)
        if func is Tensor.new_tensor and _is_gpu(args[0]):
            return torch.tensor(args[1], device=GPU, **{"dtype": args[0].dtype, **kwargs})
        if func in (Tensor.__getitem__, Tensor.__setitem__) and _is_gpu(args[0]) and isinstance(args[1], list):
            args = (args[0], torch.tensor(args[1], device=GPU), *args[2:])
        result = func(*args, **kwargs)
        if (kwargs.get("pin_memory") or func is Tensor.pin_memory) and isinstance(result, Tensor):
            result.is_said_pinned = True  # type: ignore[attr-defined]
        return result


def _check_generator(generator: Generator, args: Any, kwargs: Any) -> None:
    tensors = [each for each in pytree.tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
    device = kwargs.get("device") or (tensors[0].device if tensors else CPU)
    wanted = torch.device(device).type
    if wanted != generator.device.type:
        raise RuntimeError(f"Expected a '{wanted}' device type for generator but found '{generator.device.type}'")


class Event:
    """A CUDA event of a device that has always finished."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self._is_recorded = False

    def record(self, stream: Any = None) -> None:
        self._is_recorded = True

    def synchronize(self) -> None:
        assert self._is_recorded, "an event that was never recorded is waited for"
        COUNTS.wait("an event")

    def query(self) -> bool:
        return True


class Properties:
    """What ``torch.cuda.get_device_properties`` says."""

    name = "pretend GPU"
    total_memory = 80 * 2**30
    major, minor = 9, 0
    multi_processor_count = 132


def _uploading(make: Any) -> Any:
    """torch.tensor and torch.as_tensor: on a GPU they make a tensor on the CPU and copy it."""

    def uploading(values: Any, *args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        if device is None or torch.device(device).type != "cuda" or _is_gpu(values):
            result: Tensor = make(values, *args, **kwargs)
            return result
        result = make(values, *args, **kwargs)
        return result.detach().to(GPU).requires_grad_(result.requires_grad)

    return uploading


_CUDA: Mapping[str, Any] = {
    "is_available": lambda: True,
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "is_bf16_supported": lambda including_emulation=True: True,
    "_lazy_init": lambda: None,
    "_lazy_call": lambda call, **_: None,
    "get_device_name": lambda device=None: Properties.name,
    "get_device_capability": lambda device=None: (Properties.major, Properties.minor),
    "get_device_properties": lambda device=None: Properties,
    "mem_get_info": lambda device=None: (Properties.total_memory // 8 * 7, Properties.total_memory),
    "synchronize": lambda device=None: COUNTS.wait("torch.cuda.synchronize"),
    "empty_cache": lambda: None,
    "max_memory_allocated": lambda device=None: 2**30,
    "max_memory_reserved": lambda device=None: 2**30 + 2**28,
    "memory_reserved": lambda device=None: 2**30,
    "reset_peak_memory_stats": lambda device=None: None,
    "set_per_process_memory_fraction": lambda fraction, device=None: None,
    "get_per_process_memory_fraction": lambda device=None: 1.0,
    "set_device": lambda device: None,
    "Event": Event,
}


@contextmanager
def on() -> Iterator[Counts]:
    """The pretend GPU is there, for this thread; yields what is counted.

    Raises:
        autograd_context.Unsupported: it cannot be there with this build of PyTorch.
    """
    autograd_context.replace()

    def stepped(*_: Any) -> None:
        COUNTS.steps += 1

    hook = register_optimizer_step_post_hook(stepped)
    try:
        with ExitStack() as stack:
            for name, value in _CUDA.items():
                stack.enter_context(mock.patch.object(torch.cuda, name, value))
            stack.enter_context(mock.patch.object(torch, "Generator", Generator))
            for name in ("tensor", "as_tensor"):
                stack.enter_context(mock.patch.object(torch, name, _uploading(getattr(torch, name))))
            # cuDNN would be asked for its version.
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            stack.enter_context(_Operations())
            stack.enter_context(_Functions())
            yield COUNTS
    finally:
        hook.remove()


def to_cpu(value: Any) -> Any:
    """A copy of tensors, or of what holds them, on the CPU, beside all counting."""
    return pytree.tree_map(lambda each: each.values.clone() if _is_gpu(each) else copy.copy(each), value)
