"""The Python files of a bundle, made of this package's own sources: `modeling.py` needs torch and
safetensors, `osa_nas_timm.py` torch and timm, and neither needs this package.
"""

from importlib.resources import files

MODEL_IMPORT = "from nas.model.vovnet import STEM_STRIDES, VoVNet\n"


def modeling_source() -> str:
    """The text of `modeling.py`: `nas/model/vovnet.py` to the letter, then the loader."""
    return f"{_source('nas.model', 'vovnet.py')}\n\n{template('loader.py.txt')}"


def registry_source() -> str:
    """The text of `osa_nas_timm.py`: `nas/export/timm_registry.py` with the model in the place of
    its import.
    """
    return _source("nas.export", "timm_registry.py").replace(
        MODEL_IMPORT, _source("nas.model", "vovnet.py")
    )


def template(name: str) -> str:
    """A text of the folder `templates`."""
    return files("nas.export").joinpath("templates", name).read_text(encoding="utf-8")


def _source(package: str, name: str) -> str:
    return files(package).joinpath(name).read_text(encoding="utf-8")
