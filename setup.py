"""What pyproject.toml cannot say: manual pages are made when the package is built, and extensions built in parallel."""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import setup  # brings `distutils`, which Python has no more

from distutils.command.install_data import install_data  # isort: skip


class InstallManPages(install_data):
    """Make the manual pages from the options and commands of the program, and install them."""

    def run(self) -> None:
        """Write the pages below the build folder; `data_files` then names them."""
        sys.path.insert(0, str(Path(__file__).parent))
        from chat import __version__
        from chat.cli.command_tree import commands, main_flags
        from chat.cli.main import COMMANDS
        from chat.cli.manpage import man_pages

        folder = Path(self.get_finalized_command("build").build_temp) / "man"
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for name, text in man_pages(__version__, main_flags(), commands(COMMANDS)).items():
            path = folder / name
            path.write_text(text, encoding="utf-8")
            paths.append(str(path))
        self.data_files = [("share/man/man1", paths)]
        super().run()


setup(
    cmdclass={"install_data": InstallManPages},
    data_files=[("share/man/man1", [])],
    options={"build_ext": {"parallel": True}},  # both builds of the fast kernels at once
)
