"""Settings of the site that `make docs` builds from README.md, docs/, the cards and docstrings."""

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent / "_site"))  # the extensions without a dot below

import posenet_jax

project = "posenet_jax"
author = "The posenet_jax authors"
copyright = author
version = release = posenet_jax.__version__

# The source is the repository, so that links between its documents hold on the site as they do in
# a file browser; only these belong to the site.
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "docs/*.py",
    "posenet_jax/pretrained/**.md",
    "BUILD_NOTES.md",
    "CHANGELOG.md",
]
exclude_patterns = ["docs/conf.py", "docs/_site/**"]

extensions = ["myst_nb", "sphinx.ext.autodoc", "docstrings", "mathml", "reference"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
default_role = "literal"
nitpicky = True
# Names of other packages are not looked up; what is private and type variables have no entries.
nitpick_ignore_regex = [
    ("py:.*", r"(?!posenet_jax\.).*"),
    ("py:.*", r"posenet_jax\.(.*\.)?(_\w+|[A-Z]|Config|Data)"),
]

# The cells of a notebook run in a folder of their own, and again when one of them has changed.
nb_custom_formats = {".py": "notebooks.read"}
nb_execution_mode = "cache"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 900
nb_merge_streams = True
nb_output_stderr = "remove"

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "no-value": True, "show-inheritance": True}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
add_module_names = False

html_theme = "furo"
html_title = "posenet_jax"
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False
templates_path = ["_site/templates"]
html_additional_pages = {"index": "redirect.html"}


def setup(app: Sphinx) -> None:
    """Makes the links of README.md, which is included one folder further down, hold there."""
    app.connect("include-read", _one_folder_down)


def _one_folder_down(app: Sphinx, path: Path, document: str, content: list[str]) -> None:
    content[0] = re.sub(r"\]\((?!https?:|#)", "](../", content[0])
