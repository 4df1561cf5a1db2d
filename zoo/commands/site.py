"""`zoo site`: the zoo as a folder of static pages."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from registry import info, list_models

__all__ = ["site_"]


def site_(
    out: Annotated[Path, typer.Argument(help="Folder: new, empty, or a site of an earlier run.")],
) -> None:
    """Write the zoo as pages for a browser: a table, plots, and a page a model."""
    from zoo.site import site_files, write_site

    write_site(out, site_files([info(name) for name in list_models()]))
    sys.stdout.write(f"{out / 'index.html'}\n")
