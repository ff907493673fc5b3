"""Tensors from a .safetensors file: a length, a JSON table of names, and the numbers. It can hold nothing else.

Source: the format's public description (8 bytes little-endian, header, buffer).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SUFFIX = ".safetensors"

_LENGTH_BYTES = 8
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


def read(path: Path) -> dict[str, Tensor]:
    """Every tensor of the file, by name.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file, or was cut short.
    """
    content = bytearray(path.read_bytes())
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    start = _LENGTH_BYTES + length
    if len(content) < _LENGTH_BYTES or start > len(content):
        raise ValueError("its header is longer than the file")
    try:
        table = json.loads(content[_LENGTH_BYTES:start])
        return {name: _tensor(content, start, entry) for name, entry in table.items() if name != "__metadata__"}
    except (AttributeError, KeyError, TypeError, UnicodeDecodeError, RuntimeError) as error:
        raise ValueError(f"its header cannot be read: {error}") from None


def _tensor(content: bytearray, start: int, entry: Mapping[str, Any]) -> Tensor:
    dtype, shape = _DTYPES[entry["dtype"]], tuple(entry["shape"])
    first, end = entry["data_offsets"]
    if not 0 <= first <= end <= len(content) - start:
        raise ValueError("a tensor lies behind its end; the file was cut short")
    count = (end - first) // dtype.itemsize
    if not count:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(content, dtype=dtype, count=count, offset=start + first).reshape(shape)
