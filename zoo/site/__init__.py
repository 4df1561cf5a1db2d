"""The zoo as a folder of static pages: a table, plots, and a page a model."""

from zoo.site.pages import site_files
from zoo.site.writing import write_site

__all__ = ["site_files", "write_site"]
