"""The agent as one file that Python runs."""

import shutil
import tempfile
import zipapp
from pathlib import Path

import nas.agent
from nas.core.errors import WriteError

PACKAGE = "osa_nas_agent"
"""Name of the agent's package in the file."""


def write_agent(path: Path) -> None:
    """Pack the agent into a file for `python3 FILE serve`. Raises `WriteError`."""
    source = Path(nas.agent.__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / PACKAGE
        package.mkdir()
        for module in sorted(source.glob("*.py")):
            shutil.copyfile(module, package / module.name)
        content = "import sys\n\nfrom osa_nas_agent.command import main\n\nsys.exit(main())\n"
        (Path(folder) / "__main__.py").write_text(content, encoding="utf-8")
        try:
            zipapp.create_archive(folder, path, "/usr/bin/env python3", compressed=True)
        except OSError as error:
            raise WriteError(path, error) from error
