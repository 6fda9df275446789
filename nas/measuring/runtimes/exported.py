"""A network as an ONNX file, for the runtimes that read one. Equal networks are exported once."""

import copy
import hashlib
import io
import pickle
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from nas.measuring.runtimes import Network, OnnxFile
from nas.model.onnx_file import OPSET, to_onnx

MAX_CACHED_BYTES = 2**28
"""Bytes of the exported files that stay in memory. Exporting takes seconds, and a front that is
certified was exported when its members were measured.
"""


def exported(
    network: Network, image_size: int, *, opset: int = OPSET, max_ir: int | None = None
) -> OnnxFile:
    """Return the network as an ONNX file in float32 for any batch, with operators of version
    `opset` and at most the IR version `max_ir`; a file as it is.

    The caller must not be in `inference_mode`, in which the exporter cannot trace. Raises
    `MissingDependencyError` without the extra `export`.
    """
    if isinstance(network, OnnxFile):
        return network
    key = digest(network, image_size, opset, max_ir)
    data = _FILES.get(key)
    if data is None:
        model = copy.deepcopy(network).eval().float().cpu()
        data = to_onnx(model, image_size, opset=opset, max_ir=max_ir)
        _FILES.add(key, data)
    return OnnxFile(data=data, name="the network")


def digest(network: nn.Module, *conditions: int | None) -> str | None:
    """Return a digest of the module's classes, attributes and tensors and of the conditions, equal
    for equal ones; None for a module that cannot be pickled.
    """
    pickled = io.BytesIO()
    try:
        _Pickler(pickled).dump((network, *conditions))
    except Exception:  # noqa: BLE001 - pickling calls the module's own code, which may raise anything
        return None
    return hashlib.sha256(pickled.getbuffer()).hexdigest()


class _Pickler(pickle.Pickler):
    """A pickler that writes digests in place of tensors."""

    def persistent_id(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return None
        data = value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
        return str(value.dtype), tuple(value.shape), hashlib.sha256(data.tobytes()).hexdigest()


class _Cache:
    """Files by the digest of their network; those not used for the longest time go first."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._files: OrderedDict[str, bytes] = OrderedDict()

    def get(self, key: str | None) -> bytes | None:
        if key is None or key not in self._files:
            return None
        self._files.move_to_end(key)
        return self._files[key]

    def add(self, key: str | None, data: bytes) -> None:
        if key is None:
            return
        self._files[key] = data
        self._bytes += len(data)
        while self._bytes > self._max_bytes:
            self._bytes -= len(self._files.popitem(last=False)[1])


_FILES = _Cache(MAX_CACHED_BYTES)
