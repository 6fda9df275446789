"""osa-nas: hardware-aware neural architecture search over the OSA (VoVNet) design space.

    import nas

    study = nas.search("study.yaml", database="nas.db")
    study.front()                  # a pandas frame
    study.export(41, "backbone")   # a folder that timm, ONNX Runtime and plain PyTorch load

What is exported here is promised to users; `docs/api.md` shows it by examples. Importing `nas`
loads none of it: each name is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.api import AskTell, Proposal, Record, Study, measure, open, search  # noqa: A004
    from nas.core.architecture import Architecture, Attention, OsaStage, Stem
    from nas.core.errors import NasError
    from nas.core.measurement import Measurement, MeasurementPlan
    from nas.core.search_space import Choice, OsaSpace, SearchSpace
    from nas.core.study import Budget, DataSpec, Objective, RungSpec, StudySpec
    from nas.core.trial import Trial

HOMES = {
    "nas.api": ("AskTell", "Proposal", "Record", "Study", "measure", "open", "search"),
    "nas.core.architecture": ("Architecture", "Attention", "OsaStage", "Stem"),
    "nas.core.errors": ("NasError",),
    "nas.core.measurement": ("Measurement", "MeasurementPlan"),
    "nas.core.search_space": ("Choice", "OsaSpace", "SearchSpace"),
    "nas.core.study": ("Budget", "DataSpec", "Objective", "RungSpec", "StudySpec"),
    "nas.core.trial": ("Trial",),
}
"""The public names by the module that defines them."""

__all__ = [
    "Architecture",
    "AskTell",
    "Attention",
    "Budget",
    "Choice",
    "DataSpec",
    "Measurement",
    "MeasurementPlan",
    "NasError",
    "Objective",
    "OsaSpace",
    "OsaStage",
    "Proposal",
    "Record",
    "RungSpec",
    "SearchSpace",
    "Stem",
    "Study",
    "StudySpec",
    "Trial",
    "measure",
    "open",
    "search",
]


def __getattr__(name: str) -> Any:
    for module, names in HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'nas' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
