"""Imports run one way: no circles between modules, and no package looks upward.

Read from the source, imports inside functions included: those run too.
"""

import ast
import collections
import configparser
import importlib.metadata
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Each imports from itself and from those before it.
ORDER = (
    *(
        "public_names",
        "errors",
        "numerics",
        "geometry",
        "sharding",
        "threads",
        "nn",
        "io",
        "images",
        "metrics",
    ),
    *(
        "scenes",
        "encoders",
        "inversion",
        "data",
        "decoders",
        "shards",
        "evaluation",
        "training",
        "analysis",
    ),
    *("reconstruction", "bulk", "report", "explore"),
)


def modules(package):
    """Dotted name -> tree, of every module of a package."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imported(tree, known, package=""):
    """Modules among the known ones that a module names in its imports.

    package: the one that it lies in, where relative imports begin.
    """
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level < 2, "imports out of the package are not read here"
            parts = [package] * node.level + [node.module] * bool(node.module)
            module = ".".join(parts)
            for alias in node.names:
                dotted = f"{module}.{alias.name}"
                found.add(dotted if dotted in known else module)
    return found & known


def graph_of(*packages):
    trees = {name: tree for package in packages for name, tree in modules(package).items()}
    known, folders = set(trees), {name.rpartition(".")[0] for name in trees}
    return {
        name: imported(tree, known, name if name in folders else name.rpartition(".")[0]) - {name}
        for name, tree in trees.items()
    }


def circle_in(graph):
    """A list of modules each of which imports the next and the last the first; empty: none."""
    state = dict.fromkeys(graph, "new")
    way = []

    def visit(name):
        state[name] = "open"
        way.append(name)
        for other in sorted(graph[name]):
            if state[other] == "open":
                return way[way.index(other) :]
            if state[other] == "new" and (found := visit(other)):
                return found
        state[name] = "done"
        way.pop()
        return []

    for name in graph:
        if state[name] == "new" and (found := visit(name)):
            return found
    return []


def upward(graph, order):
    """Imports of a package that does not come before the importing one."""
    places = {package: place for place, package in enumerate(order)}
    wrong = []
    for name, others in graph.items():
        own = name.split(".")[1]
        for other in sorted(others):
            if "." not in other or places[other.split(".")[1]] > places[own]:
                wrong.append(f"{name} imports {other}")
    return wrong


@pytest.fixture(scope="module")
def library():
    return graph_of("posenet_jax")


def test_no_module_is_reached_from_what_it_imports(library):
    assert circle_in(library) == []
    assert circle_in(graph_of("posenet_jax", "experiments")) == []


def test_packages_look_down_alone(library):
    inside = {name: others for name, others in library.items() if "." in name}
    assert {name.split(".")[1] for name in inside} <= set(ORDER)
    assert upward(inside, ORDER) == []


def required(extra):
    """Packages that an installation with an extra brings by name, as pip compares names."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options"]["install_requires"] + setup["options.extras_require"][extra]
    names = {re.sub("[-_.]+", "-", name) for name in re.findall(r"^([\w.-]+)", lines, re.MULTILINE)}
    return names.union(*map(required, re.findall(r"^posenet_jax\[(\w+)\]", lines, re.MULTILINE)))


def test_the_site_which_imports_every_module_has_what_they_import():
    tops = {
        dotted.split(".")[0]
        for tree in modules("posenet_jax").values()
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for dotted in (
            [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
    }
    packages = importlib.metadata.packages_distributions()
    outside = tops - sys.stdlib_module_names - {"posenet_jax"}
    assert len(outside) > 5
    for top in outside:
        names = {re.sub("[-_.]+", "-", name) for name in packages[top]}
        assert names & required("docs"), f"extra docs lacks {top}"


def test_the_library_knows_nothing_of_scripts_and_tests():
    for name, tree in modules("posenet_jax").items():
        tops = {
            dotted.split(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for dotted in (
                [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            )
        }
        assert not tops & {"experiments", "benchmarks", "tests"}, name


def test_scripts_import_what_they_share_and_no_script():
    graph = graph_of("experiments")
    scripts = {name for name in graph if name.count(".") == 1} - {"experiments.common"}
    for name, others in graph.items():
        assert not others & scripts, name
    assert graph["experiments.invert"] >= {"experiments.common.inputs"}
    assert graph["experiments.common.inputs"] >= {"experiments.common.sources"}


def test_a_modules_last_name_is_its_own(library):
    """`from posenet_jax.PACKAGE import module` binds a name that says which module it is."""
    names = collections.Counter(name.rpartition(".")[2] for name in library)
    packages = {name.split(".")[1] for name in library if name.count(".") > 1}
    doubled = [name for name, count in names.items() if count > 1 + (name in packages)]
    assert doubled == []


def test_circles_and_upward_imports_are_seen():
    one_way = {"a.low": set(), "a.middle.x": {"a.low"}, "a.high": {"a.middle.x", "a.low"}}
    assert circle_in(one_way) == [] and upward(one_way, ("low", "middle", "high")) == []
    circle = one_way | {"a.low": {"a.high"}}
    assert sorted(circle_in(circle)) in (["a.high", "a.low"], ["a.high", "a.low", "a.middle.x"])
    assert upward(circle, ("low", "middle", "high")) == ["a.low imports a.high"]
    assert upward({"a.low": {"a"}}, ("low",)) == ["a.low imports a"]
    lazy = ast.parse("def f():\n    from a.high import g\n    import a.low\n")
    assert imported(lazy, set(one_way)) == {"a.high", "a.low"}
    relative = ast.parse("from . import low\nfrom .high import g\n")
    assert imported(relative, set(one_way), "a") == {"a.high", "a.low"}
