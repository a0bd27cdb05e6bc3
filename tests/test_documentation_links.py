"""Documents name only files, headings and names of the code that exist; the site leads to all."""

import glob
import re
from pathlib import Path

import code_blocks
import pytest
from docutils.utils.math.latex2mathml import tex2mathml

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("posenet_jax/**/*.md")]
BASES = (ROOT, ROOT / "posenet_jax")  # a path in backticks begins at either
SOURCES = [*ROOT.glob("posenet_jax/**/*.py"), *ROOT.glob("experiments/**/*.py")]
MODULES = {
    name: [path for path in SOURCES if path.stem == name] for name in {p.stem for p in SOURCES}
}


def anchors(text):
    """Anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


def mentions(path, name):
    return re.search(rf"\b{re.escape(name)}\b", path.read_text("utf-8")) is not None


def missing(text, folder):
    """Yields what a document in a folder names and is not there."""
    for path, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", text):
        if not (folder / path).exists():
            yield path
        elif anchor and anchor not in anchors((folder / path).read_text("utf-8") if path else text):
            yield f"{path}#{anchor}"
    for path, test in re.findall(r"(?<![(\w./])([\w./]*/\w+\.(?:py|c))\b(?:::(\w+))?", text):
        found = [base / path for base in BASES if (base / path).is_file()]
        if not found or (test and not mentions(found[0], test)):
            yield path
    for folders, module, name in re.findall(r"`((?:[\w.]+[./])?)(\w+)\.(\w{3,})[`(]", text):
        known = MODULES.get(module, [])
        if (known or folders.endswith("/")) and name not in (*MODULES, "csv", "json", "png"):
            if not any(mentions(path, name) for path in known):
                yield f"{module}.{name}"
    for package, name in re.findall(r"\bposenet_jax\.(\w+)(?:\.| import )(\w+)", text):
        if (ROOT / "posenet_jax" / package).is_dir() and name not in MODULES:
            if not mentions(ROOT / "posenet_jax" / package / "__init__.py", name):
                yield f"{package}.{name}"


@pytest.mark.parametrize("path", sorted(DOCUMENTS), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_names_exists(path):
    assert list(missing(path.read_text("utf-8"), path.parent)) == []


def test_what_is_missing_is_found():
    text = "[a](no.md) [b](#none) [c](README.md#start) `inversion/none.py` tests/none.py `tests/`\n"
    text += "`tests/test_words.py::none` `inversion/priors.PRIORS` `inversion/priors.NONE`\n"
    text += "`data/none.load` from posenet_jax.images import none, image_list\n"
    found = ["no.md", "#none", "inversion/none.py", "tests/none.py", "tests/test_words.py"]
    assert list(missing(text, ROOT)) == [*found, "priors.NONE", "none.load", "images.none"]


@pytest.mark.parametrize("path", sorted(DOCUMENTS), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_site_can_set_a_documents_equations(path):
    """With what the site sets them by (`docs/_site/mathml.py`), which raises at what is unknown."""
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text("utf-8"), flags=re.DOTALL)
    for display, inline in re.findall(r"\$\$(.+?)\$\$|(?<!\w)\$([^$\n][^$]*)\$", prose, re.DOTALL):
        assert "<math" in tex2mathml(display or inline, as_block=bool(display))


def test_every_page_of_the_site_stands_in_a_table_of_contents():
    pages = [*ROOT.glob("docs/**/*.md"), *ROOT.glob("posenet_jax/pretrained/**/*.md")]
    pages += [path for path in ROOT.glob("docs/*.py") if path.name != "conf.py"]
    pages += [ROOT / "BUILD_NOTES.md", ROOT / "CHANGELOG.md"]
    listed = [
        Path(found).resolve()
        for block in code_blocks.blocks()
        if block.kind == "{toctree}"
        for line in block.text.splitlines()
        if line and not line.startswith(":")
        for suffix in (".md", ".py")
        for found in glob.glob(str((ROOT / block.page).parent / (line + suffix)))
        if Path(found) != ROOT / block.page
    ]
    assert len(listed) > 30
    assert set(listed) == set(pages) - {ROOT / "docs/index.md"}
