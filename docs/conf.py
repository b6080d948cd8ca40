"""Settings of the site: ``make docs`` writes it to ``docs/_build/html``, without a network."""

from __future__ import annotations

import os
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "_extensions"))

import pcloud  # noqa: E402

project = "pcloud"
author = "The pcloud developers"
version = release = pcloud.__version__
project_copyright = author

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "reference",  # docs/_extensions/reference.py
]
exclude_patterns = ["_build", "_extensions"]
templates_path: list[str] = []

# Text
myst_enable_extensions = ["dollarmath", "fieldlist", "deflist"]
myst_heading_anchors = 4  # the anchors of code hosts
default_role = "py:obj"  # of single backquotes in docstrings

# Tutorials: an error in one of them is an error of the build. With PCLOUD_TUTORIALS=short they
# take fewer events and epochs, as in continuous integration.
nb_execution_mode = "cache"
form = "short" if os.environ.get("PCLOUD_TUTORIALS") == "short" else "whole"
nb_execution_cache_path = str(DOCS / "_build" / "notebooks" / form)
nb_execution_raise_on_error = True
nb_execution_timeout = 180
nb_merge_streams = True
nb_output_stderr = "remove"  # tqdm asks for widgets

# Reference
autodoc_typehints = "none"  # shapes and units are in the text
autodoc_class_signature = "mixed"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": False}
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_use_ivar = True

# Pages
html_theme = "pydata_sphinx_theme"
html_title = f"pcloud {version}"
html_show_sourcelink = False
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_context = {"default_mode": "auto"}  # light or dark, as the system is
html_theme_options = {
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "header_links_before_dropdown": 7,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
