"""Global settings of torch: set, readable by both interfaces to TF32, and restored."""

import contextlib
import subprocess
import sys

import torch
from torch import backends

from nas.model.torch_settings import cpu_threads, cudnn_algorithms, tf32

CHECK = """
import torch
from torch import backends
from nas.model.torch_settings import tf32

def state():
    backend = backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn, backends.mkldnn.matmul
    return [each.fp32_precision for each in backend]

def check():
    before = state()
    for convolutions in (False, True):
        for matmuls in (False, True):
            with tf32(convolutions=convolutions, matmuls=matmuls):
                allowed = matmuls, convolutions, convolutions
                assert state()[:3] == [("ieee", "tf32")[each] for each in allowed], state()
                assert backends.cudnn.allow_tf32 is convolutions
                assert backends.cuda.matmul.allow_tf32 is matmuls
                assert torch.get_float32_matmul_precision() == ("highest", "high")[matmuls]
                with backends.cudnn.flags(enabled=True):
                    pass
            assert state() == before, state()

check()
backends.cudnn.conv.fp32_precision = "ieee"
check()
backends.cuda.matmul.fp32_precision = "tf32"
check()
torch.set_float32_matmul_precision("medium")
check()
backends.cudnn.allow_tf32 = False
check()
backends.fp32_precision = "tf32"
check()
"""


def test_tf32_switches_are_set_readable_and_restored():
    """Whatever a script did to the switches before: inside, the old and the new interface show the
    setting and `cudnn.flags()` works; afterwards the switches are as before.
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHECK], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_settings_are_restored_after_an_error():
    """Threads, cuDNN's choice of algorithms and TF32 are as before when the block raises."""

    def state():
        cudnn = backends.cudnn
        return (
            torch.get_num_threads(),
            cudnn.deterministic,
            cudnn.benchmark,
            cudnn.allow_tf32,
            torch.get_float32_matmul_precision(),
        )

    before = state()
    during = None
    with (
        contextlib.suppress(KeyError),
        cpu_threads(before[0] + 1),
        cudnn_algorithms(deterministic=not before[1], benchmark=not before[2]),
        tf32(convolutions=not before[3], matmuls=True),
    ):
        during = state()
        raise KeyError
    assert all(a != b for a, b in zip(before, during, strict=True))
    assert state() == before
