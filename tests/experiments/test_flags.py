"""Flags of the scripts: `--help` lists them all, and a name means one thing.

Read from what the scripts themselves say of their flags, and from the source.
"""

import ast
import json
import re
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path

import pytest

from experiments.common.sources import SOURCES
from posenet_jax.decoders.networks import NETWORKS
from posenet_jax.encoders import bundled_encoders
from posenet_jax.encoders.weights import load_encoder
from posenet_jax.images import image_files
from posenet_jax.inversion.data_terms import DATA_TERMS
from posenet_jax.inversion.parameterisations import PARAMETERISATIONS
from posenet_jax.inversion.priors import PRIORS
from posenet_jax.inversion.recipes import CALIBRATED, RECIPES
from posenet_jax.inversion.transforms import TRANSFORMS
from posenet_jax.scenes import DevelopmentConfig, SceneConfig
from posenet_jax.shards.descriptor_shards import DTYPES, FORMATS
from posenet_jax.training.adversarial import AdversarialConfig
from posenet_jax.training.pose_training import TrainConfig

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "experiments"
PRODUCTS = ROOT / "docs" / "products.json"
# `demo` has the flags of `invert`, `completion` none.
WITHOUT = {"__init__", "__main__", "demo", "completion"}
SCRIPTS = sorted({path.stem for path in EXPERIMENTS.glob("*.py")} - WITHOUT)

# What a flag's definitions may differ in, and why.
DIFFERENT = {
    "seed": {"default"},  # what measures must not draw training's scenes
    "limit": {"default"},  # a search inverts few images, many times
    "grid": {"default"},  # pages of one row an image, or of many columns
    "probe_scenes": {"default"},  # the report is to take minutes
    "pairs": {"default", "meaning"},  # measured on, or for a page
    "scenes": {"default", "meaning"},  # what is made of them is the script's
    "trials": {"default", "meaning"},  # two searches: a trial is what is searched
    "stage": {"meaning"},  # of two searches, in the report's words
    "batches": {"default", "meaning"},  # training steps of what the script trains
    "steps": {"default", "meaning"},  # of an inversion, or of training
    "batch_size": {"default", "meaning"},  # images encoded, or trained on
    "learning_rate": {"default"},  # each network has its own
    "network": {"default"},  # what makes sharp pictures is another
    "layer": {"type", "meaning"},  # invert takes several; decoders there are for two
    "decoder": {"type", "meaning"},  # begins an inversion or a training, decodes, or several do
    "draws": {"default", "meaning"},  # in a training step, or when measured
    "descriptors": {"meaning"},  # instead of images, or beside them
    "beside": {"type", "meaning"},  # one with its control, or several
    "max_angle": {"default"},  # training's, recorded with the bundled weights
    "slots": {"meaning"},  # as many as devices hold, or as people can share
    "out": {"meaning"},  # of results, or of data sets
}


def run(script, *flags):
    """A process of its own: nothing is imported that takes long."""
    command = [sys.executable, "-m", f"experiments.{script}", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def described(script):
    """Name -> facts of every flag that the script's help lists, from its `--helpxml`."""
    text = run(script, "--helpxml").stdout
    found = {}
    for flag in xml.etree.ElementTree.fromstring(text).iter("flag"):
        facts = {child.tag: child.text or "" for child in flag}
        if facts.get("key") == "yes":
            found[facts["name"]] = facts
    return found


@pytest.fixture(scope="module")
def helps():
    return {script: described(script) for script in SCRIPTS}


def tree_of(module):
    return ast.parse((EXPERIMENTS / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))


def imported(tree):
    """Modules of experiments.common that a tree names, as `from .common import` or `from .x`."""
    return {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
        for name in (
            [alias.name for alias in node.names]
            if node.module in (None, "common")
            else [node.module.rpartition(".")[2]]
        )
    }


def defined(tree):
    """Names of flags that a module defines when it is imported, and calls of `options`."""
    inside = {
        call for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for call in calls(node)
    }
    return [call for call in calls(tree) if call not in inside]


def calls(tree):
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]


def name_of(call, shared):
    """The flag that a call defines; empty: none."""
    own = call.func.attr.startswith("DEFINE_") or call.func.attr in ("kind", "string", "strings")
    literals = [argument.value for argument in call.args if isinstance(argument, ast.Constant)]
    if own:
        return literals[0]
    if isinstance(call.func.value, ast.Name) and call.func.value.id == "options":
        return shared.get(call.func.attr, "")
    return ""


def names_read(script):
    """Flags of the script and of all that it imports, from the source."""
    shared = {}
    for function in tree_of("common.options").body:
        if isinstance(function, ast.FunctionDef):
            words = [
                node.value
                for call in calls(function)
                for node in call.args
                if isinstance(node, ast.Constant) and re.fullmatch("[a-z_]+", str(node.value))
            ] + [
                call.args[0].value
                for call in ast.walk(function)
                if isinstance(call, ast.Call)
                and getattr(call.func, "id", "") == "kind"
                and isinstance(call.args[0], ast.Constant)
            ]
            if words:
                shared[function.name] = words[0]
    reached, pending, names = set(), [script], set()
    while pending:
        module = pending.pop()
        if module in reached:
            continue
        reached.add(module)
        tree = tree_of(module)
        pending += [f"common.{name}" for name in imported(tree)]
        names |= {name_of(call, shared) for call in defined(tree)}
        if module == "common.inputs":  # which makes them from the registry
            names |= flags_of_sources()
    return names - {""}


def flags_of_sources():
    further = {option.name for source in SOURCES.values() for option in source.options}
    return set(SOURCES) | further


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_lists_all_that_a_script_and_its_imports_read(script, helps):
    read = names_read(script)
    assert {"cpu_devices", "max_pixels"} < read
    assert set(helps[script]) == read


def test_help_answers_before_jax_is_imported():
    for script in SCRIPTS:
        parsed = tree_of(script).body
        where = next(i for i, node in enumerate(parsed) if isinstance(node, ast.If))
        early = [node for node in parsed[:where] if isinstance(node, ast.Import | ast.ImportFrom)]
        roots = {
            str(getattr(node, "module", None) or node.names[0].name).split(".")[0] for node in early
        }
        assert not roots & {"jax", "numpy", "posenet_jax", "tqdm", "tensorflow_datasets"}, script
    light = ("options", "inputs", "processes", "runtime", "decoder_options", "decoder_run_options")
    heavy = {"jax", "numpy", "flax", "orbax", "tensorflow_datasets", "scipy", "PIL"}
    for modules in (light, ("recipe_options",)):
        code = f"import sys; from experiments.common import {', '.join(modules)}"
        assert not set(printed(f"{code}; print(*sys.modules)").split()) & heavy


def printed(code):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


def test_a_name_means_one_thing(helps):
    kinds = ("type", "default", "meaning")
    seen = {}
    for script, flags in helps.items():
        for name, facts in flags.items():
            for kind in kinds:
                seen.setdefault((name, kind), {}).setdefault(facts.get(kind, ""), []).append(script)
    differing = {key for key, values in seen.items() if len(values) > 1}
    allowed = {(name, kind) for name, kinds_ in DIFFERENT.items() for kind in kinds_}
    assert differing - allowed == set()
    assert allowed - differing == set(), "exceptions that are none any more"


def test_every_path_may_lie_in_a_bucket_but_where_it_is_known_not_to():
    """Paths are known by the words of their help; a flag that says nothing refuses buckets."""
    local = set()
    for module in EXPERIMENTS.rglob("*.py"):
        tree = ast.parse(module.read_text(encoding="utf-8"))
        taking = {id(call.args[0]) for call in calls(tree) if call.func.attr == "taking"}
        for call in calls(tree):
            if call.func.attr not in ("DEFINE_string", "DEFINE_list") or id(call) in taking:
                continue
            words = [node.value for node in ast.walk(call) if isinstance(node, ast.Constant)]
            text = " ".join(map(str, words[1:]))
            if re.search(r"[Ff]older|\b[Ff]iles?\b|ENCODER/LAYER|Encoder to compare", text):
                local.add(words[0])
    assert local == {"out", "products"}  # of remake, which works in a checkout; see `options.out`


def test_helps_make_sense_alone(helps):
    for script, flags in helps.items():
        for name, facts in flags.items():
            words = re.sub(r"^<[^>]*>: ", "", facts["meaning"]).split()
            assert len(words) >= 4, (script, name)
            assert words[0] not in ("Of", "Which", "Whose", "What"), (script, name)


def test_integers_have_a_lower_bound(helps):
    for script, flags in helps.items():
        for name, facts in flags.items():
            if facts["type"] == "int":
                assert facts["lower_bound"], (script, name)


def test_defaults_and_choices_are_the_librarys(helps):
    def default(script, name):
        return helps[script][name]["default"]

    def choices(script, name):
        return re.findall(r"[\w.]+", helps[script][name]["meaning"].split(">")[0])

    assert int(default("invert", "max_pixels")) == image_files.MAX_PIXELS
    assert set(choices("invert", "recipe")) == set(RECIPES)
    assert choices("invert", "data_term") == [name for name in DATA_TERMS if name != "masked"]
    assert choices("invert", "parameterisation") == list(PARAMETERISATIONS)
    for flag, registry in (("prior", PRIORS), ("transform", TRANSFORMS)):
        assert f"NAME one of {', '.join(registry)}" in helps["invert"][flag]["meaning"]
        assert set(helps["bulk_invert"]) >= {flag, "data_term", "parameterisation", "diverse"}
    assert f"calibrated: {CALIBRATED.steps}" in helps["invert"]["steps"]["meaning"]
    assert set(NETWORKS) <= set(re.findall(r"\w+", helps["train_decoder"]["network"]["meaning"]))
    assert {default(script, "network") for script in ("train_decoder", "train_adversarial")} <= set(
        NETWORKS
    )
    assert choices("extract_descriptors", "format") == list(FORMATS)
    assert choices("extract_descriptors", "dtype") == list(DTYPES)
    assert choices("decode", "layer") == ["fc5", "conv4"]
    game, train = AdversarialConfig(), TrainConfig()
    assert default("train_adversarial", "feature_taps").split(",") == list(game.layers)
    for name, value in (
        ("image_weight", game.image),
        ("descriptor_weight", game.descriptor),
        ("feature_weight", game.features),
        ("adversarial_weight", game.adversarial),
        ("noise_numbers", game.noise),
        ("draws", game.draws),
        ("discriminator_lr_scale", game.discriminator_lr_scale),
        ("discriminator_pause_below", game.discriminator_pause_below),
    ):
        assert float(default("train_adversarial", name)) == value, name
    for name in ("steps", "rendered_pairs", "photo_pairs", "learning_rate", "weight_decay"):
        assert float(default("train_posenet", name)) == getattr(train, name), name
    assert float(default("train_posenet", "active_share")) == train.active_share
    assert default("train_posenet", "architecture") == train.architecture
    assert float(default("train_posenet", "noise")) == DevelopmentConfig().noise
    assert float(default("train_posenet", "centre_jitter")) == SceneConfig().centre_jitter


def test_the_recipes_flags_are_checked_before_jax_and_say_a_recipe():
    for given, words in (
        (["--prior=tv"], "write NAME:NUMBER, with commas between"),
        (["--prior=x:1"], "'x' is none of tv, l6"),
        (["--prior=tv:-1"], "tv must be a number, at least 0"),
        (["--prior=tv:1,tv:2"], "every name once"),
        (["--transform=scale:1"], "scale must be a number, at least 0 and below 1.0"),
        (["--transform=jitter:nan"], "jitter must be a number, at least 0"),
        (["--diverse=0.1"], "--diverse is for --restarts=2 and more"),
    ):
        done = run("bulk_invert", "--images=a", "--out=b", *given)
        assert done.returncode == 2 and words in done.stderr
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    code = (
        "from absl import flags; from experiments.common import recipe_options;"
        "flags.FLAGS(['x', '--steps=7', '--prior=tv:0.5', '--transform=scale:0.1,jitter:2',"
        " '--parameterisation=fourier', '--data_term=cosine', '--restarts=3', '--diverse=0.25',"
        " '--low_precision_share=0.75']);"
        "made = recipe_options.chosen();"
        "print([made.steps, dict(made.priors), list(made.transforms.items()), made.data_term,"
        " made.parameterisation, made.group, made.diverse,"
        " made.low_precision_share]);"
        "flags.FLAGS(['x', '--recipe=paper']); recipe_options.chosen()"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    priors, transforms = {"l6": 0.03, "tv": 0.5}, [("scale", 0.1), ("jitter", 2.0)]
    expected = [7, priors, transforms, "cosine", "fourier", 3, 0.25, 0.75]
    assert ast.literal_eval(done.stdout) == expected
    assert "InputError: recipe paper: clipping sets pixels to zero" in done.stderr


def test_kinds_have_two_words_each():
    code = (
        "from absl import flags; from experiments.common import options;"
        "one, many = options.rendered_kind(), options.kinds();"
        "print({kind.name: kind.written for kind in options.KINDS.values()});"
        "flags.FLAGS(['x', '--kind=rooms', '--kinds=indoor,rooms,streets']);"
        "print(one.value, *many.value);"
        "flags.FLAGS(['x', '--kind=indoor']); print(one.value)"
    )
    kinds, values, former = printed(code).splitlines()
    assert ast.literal_eval(kinds) == {"streets": "cities", "cars": "cars", "rooms": "indoor"}
    assert values == "indoor indoor cities" and former == "indoor"


@pytest.mark.parametrize(
    ("script", "flag", "name"),
    [
        ("evaluate_posenet", "--weights=streetnet", "--encoder"),
        ("measure_retention", "--images=48", "--scenes"),
        ("measure_retention", "--photos=a=b", "--photographs"),
        ("report", "--batch=4", "--render_batch"),
        ("build_dataset", "--count=5", "--scenes"),
        ("render_streets", "--num=5", "--scenes"),
        ("train_adversarial", "--pace=2", "--discriminator_lr_scale"),
        ("train_adversarial", "--pause=0.1", "--discriminator_pause_below"),
    ],
)
def test_a_former_name_says_the_new_one(script, flag, name):
    done = run(script, flag, "--out=nowhere")
    former = flag.split("=")[0]
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == f"error: {former} is now called {name}\n"


def test_mistakes_are_told_in_a_sentence():
    for flags, words in (
        (["--out=x", "--imagse=y"], "imagse"),
        (["--out=x"], "--images"),
        (["--out=x", "--images=y", "--steps=0"], "--steps=0"),
        (["--out=x", "--images=y", "z"], "unexpected argument 'z'"),
    ):
        done = run("invert", *flags)
        assert done.returncode == 2 and words in done.stderr
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def commands(text):
    """(script, names of flags) of every command in a text, with those of lines that go on."""
    for start in re.finditer(r"(?:python -m experiments\.|posenet-jax )(\w+)", text):
        rest = text[start.end() :]
        rest = re.split(r"(?<!\\)\n|`", rest.replace("\\\n", " "))[0]
        yield start.group(1), re.findall(r"--(?:no)?([a-z_]+)", rest)


def test_the_documents_commands_exist(helps):
    seen = 0
    known = helps | {"demo": helps["invert"], "completion": {}, "COMMAND": {"flags": {}}}
    documents = ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("posenet_jax/**/*.md")
    for path in [*documents, *EXPERIMENTS.glob("*.py")]:
        for script, names in commands(path.read_text(encoding="utf-8")):
            assert script in known, (path.name, script)
            for name in set(names) - {"help", "helpfull"}:
                seen += 1
                assert name in known[script] or f"no{name}" in known[script], (path.name, name)
    assert seen > 100


def test_the_products_commands_exist(helps):
    """Every flag is the script's, and its value one that there may be."""
    seen = 0
    for product in json.loads(PRODUCTS.read_text(encoding="utf-8"))["products"]:
        for command in product["commands"]:
            script, *given = [word for word in command.split() if not re.match("[A-Z_]+=", word)]
            names = {flag[2:].partition("=")[0]: flag.partition("=")[2] for flag in given}
            assert set(names) <= set(helps[script]), (product["name"], script)
            assert set(names) & {"out", "workdir"}, (product["name"], script)
            for name, value in names.items():
                facts = helps[script][name]
                choices = re.match("<(.*)>: ", facts["meaning"])
                assert not choices or value in choices[1].split("|"), (product["name"], name)
                if facts["type"] in ("int", "float"):
                    float(value)
                seen += 1
    assert seen > 200


def test_what_encodes_takes_its_encoders_by_name(helps):
    """What was measured with an encoder stays measurable when another is the default."""
    without = {script for script, flags in helps.items() if "encoder" not in flags}
    assert "beside" in helps["compare_trainings"]  # besides those of --runs
    # In the others nothing is encoded.
    assert without == {"build_dataset", "compare_trainings", "render_streets", "train_posenet"}
    for flag, name in (
        ("encoder", bundled_encoders.DEFAULT),
        ("control", bundled_encoders.CONTROL),
        ("judge", bundled_encoders.JUDGE),
    ):
        defaults = {flags[flag]["default"] for flags in helps.values() if flag in flags}
        assert defaults == {name}
    encoder, control = load_encoder(), load_encoder(bundled_encoders.CONTROL)
    assert encoder.name == bundled_encoders.DEFAULT
    assert control.module == encoder.module
