"""Adds assets/ (model weights, scenes) to a built wheel as quantlab/_assets. Everything else is in pyproject.toml."""

from pathlib import Path
from shutil import copytree

from setuptools import setup
from setuptools.command.build_py import build_py

ASSETS = Path("assets")


class BuildWithAssets(build_py):
    """A checkout or an editable install reads assets/ where it lies; a wheel carries its own copy."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode and ASSETS.is_dir():
            copytree(ASSETS, Path(self.build_lib) / "quantlab" / "_assets", dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithAssets})
