"""Reading of the notebooks of docs/, which are scripts in cells (`# %%`)."""

import jupytext
from nbformat import NotebookNode


def read(text: str) -> NotebookNode:
    """Returns a script as a notebook for the Python that builds the site."""
    notebook = jupytext.reads(text, fmt="py:percent")
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    return notebook
