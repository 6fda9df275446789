"""The Python files of a bundle, made from the sources of this package.

`modeling.py` needs torch and safetensors. `osa_nas_timm.py` needs torch and timm. Neither of them
needs this package.
"""

from importlib.resources import files

MODEL_IMPORT = "from nas.model.vovnet import STEM_STRIDES, VoVNet\n"
"""The line of `nas/export/timm_registry.py` that the source of the model replaces."""


def modeling_source() -> str:
    """Return the text of `modeling.py`: `nas/model/vovnet.py` unchanged, and then the loader."""
    return f"{_source('nas.model', 'vovnet.py')}\n\n{template('loader.py.txt')}"


def registry_source() -> str:
    """Return the text of `osa_nas_timm.py`.

    It is `nas/export/timm_registry.py` with the source of the model in place of its import.
    """
    return _source("nas.export", "timm_registry.py").replace(
        MODEL_IMPORT, _source("nas.model", "vovnet.py")
    )


def template(name: str) -> str:
    """Return a text from the folder `templates`."""
    return files("nas.export").joinpath("templates", name).read_text(encoding="utf-8")


def _source(package: str, name: str) -> str:
    return files(package).joinpath(name).read_text(encoding="utf-8")
