"""`modeling.py`: the model's own source with a loader, one file that needs torch and safetensors and nothing else."""

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

from nas.errors import ExportError
from nas.export.manifest import Check

PROBE = """
import os, sys

for package in ("nas", "search_spaces", "workers"):
    sys.modules[package] = None  # importing it fails, whether it is installed or not
sys.path.insert(0, os.getcwd())

import torch
from safetensors.torch import load, save
import modeling

torch.set_num_threads(int(sys.argv[1]))
with torch.inference_mode():
    logits = modeling.load(".")(load(sys.stdin.buffer.read())["images"])
sys.stdout.buffer.write(save({"logits": logits}))
"""
"""Runs in the bundle's folder: images on the standard input, logits on the standard output, both as safetensors."""


def modeling_source() -> str:
    """The text of `modeling.py`: `nas/model/vovnet.py` to the letter, then the loader."""
    model = files("nas.model").joinpath("vovnet.py").read_text(encoding="utf-8")
    loader = files("nas.export").joinpath("templates", "loader.py.txt").read_text(encoding="utf-8")
    return f"{model}\n\n{loader}"


def check_standalone(folder: Path, images: Tensor, logits: Tensor) -> Check:
    """Load the bundle in a fresh process in which this package cannot be imported; its logits must be the same bits.

    Raises `ExportError` where it does not run or they differ.
    """
    command = [sys.executable, "-I", "-B", "-c", PROBE, str(torch.get_num_threads())]
    done = subprocess.run(command, cwd=folder, input=save({"images": images}), capture_output=True, check=False)  # noqa: S603 - our own text
    if done.returncode != 0:
        reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"exit {done.returncode}"]
        raise ExportError(f"modeling.py does not run by itself: {reason[0]}")
    found = load(done.stdout)["logits"]
    if found.shape != logits.shape:
        raise ExportError(f"modeling.py gives {tuple(found.shape)}, nas.model {tuple(logits.shape)}")
    different = (found.view(torch.int32) != logits.view(torch.int32)).sum().item()
    return Check(name="logits of modeling.py in a fresh process that differ in a bit", found=different, allowed=0)
