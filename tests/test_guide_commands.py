"""Every command of README.md, docs/guide and `FURTHER` is carried out as written, but small.

`STORIES` has the commands in the order in which a reader gives them, each with the flags that make
it small: steps and images are few, networks small. They come after those written and outdo them. A
story is carried out in a folder of its own, where stand-ins lie for PHOTOS and the like. Commands
that write to one folder are in one story, as the second of them may be refused there.

The stories of `SHORT` are in every run. POSENET_BLOCKS=1 has all of them carried out, and in a copy
of the checkout the commands of `ENVIRONMENT`, which ask an index for packages: `make demo` whole,
`make test` of one file, `pip install` with --dry-run.
"""

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import time
from importlib import metadata

import code_blocks
import numpy as np
import pytest
import script_process
import stand_ins
from code_blocks import ROOT

ALL = os.environ.get("POSENET_BLOCKS") == "1"
FURTHER = ("docs/encoders.md", "docs/extremes.md", "docs/natural.md")

ONE = ("--cpu_devices=1",)
FEW = (*ONE, "--limit=2")
INVERT = (*FEW, "--encoder=compact", "--steps=2")
OTHER = (*FEW, "--steps=2")  # of a network that the command names
RANDOM = (*FEW, "--encoder=compact-random-0")
BULK = (*RANDOM, "--judge=compact-random-1", "--feature_networks=", "--restarts=2", "--steps=2")
SEARCH = (*RANDOM, "--judge=compact-random-1", "--trials=2", "--steps=2")
PAIRS = (*ONE, "--architecture=compact", "--steps=2", "--rendered_pairs=4", "--held_out_pairs=4")
PAIRS = (*PAIRS, "--photo_pairs=4")
DECODER = (*ONE, "--encoder=compact", "--batch_size=8")
RATES = (*DECODER, "--trials=3", "--batches=2")
SMALL_RECORDS = (*ONE, "--encoder=compact", "--products=docs/products.json")

STORIES = {
    "first images": {
        "demo": (*INVERT, "--layer=fc5"),
        "invert --images=PHOTOS --layer=fc5 --out=runs/fc5": INVERT,
        "invert --images=PHOTOS --layer=fc5 --recipe=calibrated --out=runs/fc5": INVERT,
    },
    "many images": {
        "build_dataset --source=photographs --images=PHOTOS --out=DATASETS": ONE,
        "extract_descriptors --images=PHOTOS --layer=fc5 --out=runs/descriptors": RANDOM,
        "bulk_invert --images=PHOTOS --layer=fc5 --restarts=4 --pictures --out=runs/bulk": BULK,
    },
    "data sets": {
        "build_dataset --source=streets --scenes=10000 --out=DATASETS": (*ONE, "--scenes=4"),
        "build_dataset --source=photographs --images=PHOTOS --out=DATASETS": ONE,
        "build_dataset --source=street_view --images=3D_STREET_VIEW --out=DATASETS": ONE,
        "extract_descriptors --dataset=DATASETS/photographs --split=train --layer=fc5"
        " --out=runs/train": RANDOM,
        "bulk_invert --dataset=DATASETS/photographs --split=test --out=runs/test": BULK,
        "extract_descriptors --images=PHOTOS --layer=fc5 --out=runs/descriptors": RANDOM,
        "bulk_invert --descriptors=runs/descriptors --out=runs/unseen": BULK,
        "bulk_invert --render=streets --scenes=1000 --out=runs/rendered": BULK,
        "srun --ntasks-per-node=4 --gpus-per-task=1 posenet-jax bulk_invert --distributed"
        " --images=PHOTOS --out=SHARED": (*BULK, "--limit=8", "--batch_size=2", "--shard_size=2"),
    },
    "searches of inversions": {
        "search_inversion --stage=1 --images=PHOTOS --workdir=runs/stage_1": SEARCH,
        "search_inversion --stage=2 --images=PHOTOS --workdir=runs/stage_2": SEARCH,
    },
    "other networks": {
        "invert --encoder=resnet50.safetensors --layer=layer3 --images=PHOTOS"
        " --out=runs/resnet": OTHER,
        "invert --encoder=resnet50.safetensors-random-0 --layer=layer3 --images=PHOTOS"
        " --out=runs/control": OTHER,
        "invert --encoder=squeezenet --layer=fire5 --images=PHOTOS --out=runs/fire5": (
            *OTHER,
            "--encoder=squeezenet-random-0",
        ),
        "invert --encoder=efficientnet_lite0 --layer=block4 --images=PHOTOS --out=runs/block4": (
            *OTHER,
            "--encoder=efficientnet_lite0-random-0@100",
        ),
        "invert --encoder=FILE.safetensors --layer=conv5 --images=PHOTOS --out=runs/conv5": OTHER,
        "invert --encoder=alexnet-random-0 --layer=conv5 --images=PHOTOS --out=runs/control": OTHER,
        "invert --encoder=efficientnet_lite0 --layer=block4,block10,features --images=STREETS"
        " --limit=8 --out=runs/lite": (*OTHER, "--encoder=efficientnet_lite0-random-0@100"),
    },
    "an encoder": {
        "train_posenet --workdir=runs/streetnet --facades=FACADES --photos=PHOTOS": PAIRS,
        "train_posenet --workdir=runs/varied --start=streetnet --photos=PHOTOS --room_pairs=8"
        " --vary=views,aside,along,development,courts,traffic,weather --plain_pairs=24"
        " --held_out_photos=OTHERS": (
            *PAIRS,
            "--start=compact",
            "--room_pairs=4",
            "--plain_pairs=4",
        ),
        "train_heads --facades=FACADES --photos=PHOTOS --workdir=runs/heads"
        " --vary=views,aside,along,development,courts,traffic,weather": (
            *ONE,
            "--encoder=compact",
            "--pool=8",
            "--steps=2",
        ),
        "blend_encoders --encoder=streetnet --other=runs/varied/weights.safetensors"
        " --out=runs/blend": ("--encoder=compact",),
        "evaluate_posenet --encoder=runs/varied/weights.safetensors --cameras=courtyard=FOLDER"
        " --out=runs/judged": (*ONE, "--pairs=8"),
    },
    "a decoder": {
        "search_decoder --stage=coarse --images=PHOTOS --workdir=runs/search": RATES,
        "search_decoder --stage=fine --images=PHOTOS --val_images=OTHERS"
        " --workdir=runs/search": RATES,
        "train_decoder --images=PHOTOS --val_images=OTHERS --rendered=32 --layer=fc5"
        " --learning_rate=8e-4 --steps=12000 --drops=8000,10500 --workdir=runs/decoder": (
            *DECODER,
            "--rendered=4",
            "--steps=2",
        ),
    },
    "buckets": {
        "bulk_invert --images=s3://PHOTOS/set --out=s3://RUNS/bulk --threads=32": BULK,
        "train_decoder --images=s3://PHOTOS/set --val_images=s3://PHOTOS/others"
        " --workdir=s3://RUNS/decoder": (*DECODER, "--steps=2"),
    },
    "what hangs on an encoder": {
        "remake --encoder=NAME": SMALL_RECORDS,
        "remake --encoder=NAME --run=decoder-fc5,decoder-conv4,decoder-fc5-adversarial"
        " --install=own --photos=PHOTOS --val_images=OTHERS --facades=FACADES"
        " --out=runs/remade": SMALL_RECORDS,
        "remake --run=stale --install=all --photos=PHOTOS --val_images=OTHERS --facades=FACADES"
        " --streets=STREETS --cars=CARS --rooms=ROOMS --strecha=STRECHA"
        " --out=runs/remade": SMALL_RECORDS,
    },
    "extreme directions": {
        "extreme_directions --images=PHOTOS --limit=8 --out=runs/extremes"
        " --beside=streetnet-random-0/fc5,squeezenet/features": (
            *RANDOM,
            "--beside=compact-random-1/fc5,squeezenet-random-0/features",
        ),
        "extreme_directions --images=PHOTOS --limit=6 --against=judge/fc5 --out=runs/judge": (
            *RANDOM,
            "--against=compact-random-1/fc5",
            "--judge=",
            "--steps=2",
        ),
    },
    "the learned prior": {
        "invert --images=PHOTOS --layer=fc5 --recipe=natural --out=runs/natural": OTHER,
    },
}
SHORT = ("first images", "many images")
TOLD_APART = ("many images", "buckets")  # by tests of their own

# What sets up an environment, in this order, with what makes it small. `.ci` runs all tests.
ENVIRONMENT = {
    "make demo": (),
    "make test": ("ARGS=tests/images/test_image_names.py",),
    ". .venv/bin/activate": (),
    "pip install .": ("--dry-run",),
    "pip install posenet_jax[buckets]": ("--dry-run",),
    ".venv/bin/pip install -e .[compare]": ("--dry-run",),
}
# Gigabytes: `test_guides.py` finds the extra, and a test below what it asks for.
UNTRIED = {".venv/bin/pip install -e .[cuda]"}


def told(command):
    """A command as `STORIES` and `ENVIRONMENT` have it."""
    return str(command).removeprefix("posenet-jax ")


def written():
    """Commands of the pages, in their order."""
    pages = [b for b in code_blocks.blocks() if b.page in ("README.md", *FURTHER)]
    pages += [b for b in code_blocks.blocks() if b.page.startswith("docs/guide/")]
    return code_blocks.commands(pages)


def folder_of(words):
    """Folder that a command writes to."""
    found = re.search(r"--(?:out|workdir)=(\S+)", words)
    return found[1] if found else None


def test_every_command_has_its_line():
    commands = written()
    assert not any(command.before for command in commands)
    in_stories = {words for story in STORIES.values() for words in story}
    assert {told(command) for command in commands} == in_stories | set(ENVIRONMENT) | UNTRIED
    by_folder = {}
    for words in in_stories:
        by_folder.setdefault(folder_of(words), set()).add(words)
    del by_folder[None]
    for folder, sharing in by_folder.items():
        assert any(sharing <= set(story) for story in STORIES.values()), (folder, sharing)


# Carrying out -----------------------------------------------------------------------------------


def furnish(folder, words):
    """Writes what the words of a command stand for, where it is not there."""
    for name in stand_ins.names():
        if re.search(rf"[=,/]{re.escape(name)}(?![\w/])", words) and not (folder / name).exists():
            stand_ins.write(name, folder)


def on_a_cluster(words, folder):
    """Has as many processes as srun is told find one another as SLURM's do."""
    count = int(re.search(r"--ntasks-per-node=(\d+)", words)[1])
    job = {
        "SLURM_JOB_ID": str(os.getpid()),  # of which JAX makes the number of the port
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": str(count),
    }
    script, *given = words.partition(" posenet-jax ")[2].split()
    begun = [
        script_process.start(
            f"experiments.{script}",
            *given,
            folder=folder,
            environment=job | {"SLURM_PROCID": str(index), "SLURM_LOCALID": str(index)},
        )
        for index in range(count)
    ]
    ends = [process.end() for process in begun]
    assert any("all shards done; " in end.stdout for end in ends), ends
    assert json.loads((folder / folder_of(words) / "run.json").read_text())["processes"] == count
    return ends


def carry_out(story, folder):
    """Runs the commands of a story in a folder; each is to write to the folder that it names."""
    for words, more in STORIES[story].items():
        furnish(folder, " ".join((words, *more)))
        begun = time.time()
        if words.startswith("srun "):
            ends = on_a_cluster(" ".join((words, *more)), folder)
        else:
            ends = [script_process.run(*words.split(), *more, folder=folder, timeout=3000)]
        for done in ends:
            assert done.returncode == 0, (words, done.stderr)
        made = folder / (folder_of(words) or "demo")
        if words != "remake --encoder=NAME":  # it prints
            new = [path for path in made.rglob("*") if path.stat().st_mtime >= begun - 1]
            assert any(path.is_file() for path in new), (words, done.stdout)
        print(f"{time.time() - begun:.0f} s: {words}")


def skip_unless_short(story):
    if story not in SHORT and not ALL:
        pytest.skip("minutes: POSENET_BLOCKS=1 has every block of the guides run")


@pytest.mark.parametrize("story", [name for name in STORIES if name not in TOLD_APART])
def test_what_a_page_says_is_carried_out(story, tmp_path):
    skip_unless_short(story)
    carry_out(story, tmp_path)


def test_many_images_are_written_and_read(monkeypatch, tmp_path):
    carry_out("many images", tmp_path)
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in code_blocks.python("docs/guide/many-images.md"):
        exec(block, names)
    assert names["example"]["name"].endswith(b".jpg")
    assert np.shape(names["example"]["image"]) == (2, 100, 100, 3)
    assert list(names["found"].names) == ["00.jpg", "01.jpg"]
    assert names["found"].descriptors.shape == (2, 512)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_what_the_page_on_buckets_says_is_carried_out(request, tmp_path):
    """Names of buckets have no capitals."""
    skip_unless_short("buckets")
    endpoint, s3 = (request.getfixturevalue(name) for name in ("endpoint", "s3"))
    for name, prefix in (("PHOTOS", "set"), ("OTHERS", "others")):
        stand_ins.write(name, tmp_path)
        for path in (tmp_path / name).iterdir():
            s3.upload_file(str(path), "photos", f"{prefix}/{path.name}")
    for words, more in STORIES["buckets"].items():
        script, *given = re.sub(r"s3://\w+", lambda found: found[0].lower(), words).split()
        flags = endpoint, f"experiments.{script}", *given, *more
        done = script_process.start("bucket_child", *flags, folder=tmp_path).end()
        assert done.returncode == 0, (words, done.stderr)
        prefix = folder_of(words).removeprefix("s3://RUNS/")
        assert s3.list_objects_v2(Bucket="runs", Prefix=f"{prefix}/").get("Contents"), words


# Environments -----------------------------------------------------------------------------------


def test_an_environment_is_made(tmp_path):
    """In a copy of the checkout, from the index that pip is told of; what is there stays."""
    if not ALL:
        pytest.skip("minutes, and downloads: POSENET_BLOCKS=1 has them")
    left_out = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "demo", "report", "site")
    copy = shutil.copytree(ROOT, tmp_path / "checkout", ignore=left_out)
    lines = [shlex.join([*words.split(), *more]) for words, more in ENVIRONMENT.items()]
    own = ("PYTHONPATH", "VIRTUAL_ENV", "XLA_FLAGS")
    env = {name: value for name, value in os.environ.items() if name not in own}
    done = subprocess.run(
        ["bash", "-ex"],
        input="\n".join([*lines, "command -v posenet-jax"]),
        cwd=copy,
        env=env,
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(f"{copy}/.venv/bin/posenet-jax\n")
    assert (copy / "demo" / "grid.png").is_file() and " passed" in done.stdout
    assert done.stdout.count("Would install") == 3


def test_extras_of_other_packages_are_there():
    """Extras of other packages that ours ask for: `jax[cuda12]` is gigabytes to install."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    asked = re.findall(r"(\w+)\[(\w+)\]", "\n".join(setup["options.extras_require"].values()))
    assert ("jax", "cuda12") in asked
    for package, extra in asked:
        if package != "posenet_jax":
            known = metadata.metadata(package).get_all("Provides-Extra")
            assert extra in known, (package, extra)
