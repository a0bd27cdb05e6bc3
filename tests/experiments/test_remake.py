"""Products of an encoder: all are recorded, stale ones are known, and are made anew."""

import json
import re
import shutil

import pytest
import script_process

from experiments.common import products
from experiments.common.products import Now, Products
from experiments.common.remaking import Remaking
from posenet_jax.decoders import decoding
from posenet_jax.encoders import bundled_encoders, weights
from posenet_jax.errors import InputError

ROOT = products.RECORDS.parents[1]
OTHER = "0123456789abcdef"
INPUTS = ("photos", "val_images", "facades", "strecha", "streets", "cars", "rooms")


@pytest.fixture(scope="module")
def records() -> Products:
    return products.read(products.RECORDS)


@pytest.fixture(scope="module")
def encoder():
    return weights.load_encoder("compact-random-0")


def written(folder, records):
    """The path of records, in a folder docs."""
    path = folder / "docs" / "products.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"products": records, "independent": {"docs/products.json": "."}}))
    return path


def product(name, commands, *files):
    return {"name": name, "commands": commands, "files": list(files)}


# The repository's records -----------------------------------------------------------------------


def test_every_document_and_decoder_is_recorded_or_said_to_be_independent(records):
    assert records.unrecorded(ROOT) == []


def test_one_that_is_not_is_named(records, tmp_path):
    known = ["docs/sensitivity.png", "docs/guide/data.md", "posenet_jax/pretrained/judge.md"]
    new = ["docs/guide/new.md", "docs/new.png", "posenet_jax/pretrained/decoders/mine-fc5.md"]
    for path in (*known, *new):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    assert records.unrecorded(tmp_path) == new


def test_records_name_files_that_exist(records):
    now = Now(records, weights.load_encoder(), ROOT, {})
    made = []
    for one in records.by_name.values():
        for state in now.states(one):
            assert state.there, state.path
            made += [state.file.path] if state.file.made else []
    assert len(set(made)) == len(made), "two products make the same file"
    for pattern in records.independent:
        assert list(ROOT.glob(pattern)), pattern


def test_weights_are_those_that_the_commands_name(records):
    for one in records.by_name.values():
        roles = set(records.roles(one))
        assert one.fields <= roles | {"encoder", "control", "name", "out", *INPUTS}, one.name
        for file in one.files:
            assert set(file.weights) <= roles, (one.name, file.path)


def test_documents_name_the_fingerprints_of_their_records(records):
    recorded = {}
    for one in records.by_name.values():
        for file in one.files:
            path = ROOT / file.path.format(name=bundled_encoders.DEFAULT)
            recorded.setdefault(path, set()).update(file.weights.values())
    named = 0
    for path, fingerprints in recorded.items():
        found = re.findall(r"`([0-9a-f]{16})`", path.read_text()) if path.suffix == ".md" else []
        assert set(found) <= fingerprints, path
        named += len(found)
    assert named >= 6


def test_decoders_say_of_themselves_what_the_records_say(records):
    made = [one for one in records.by_name.values() if one.decoder]
    assert len(made) == 4
    for one in made:
        path = ROOT / one.decoder.path.format(name=bundled_encoders.DEFAULT)
        own = products.own_record(one.decoder, path)
        assert own == one.decoder.weights["encoder"], path


def test_records_are_written_as_they_stand(tmp_path):
    text = products.RECORDS.read_text()
    assert products.as_text(json.loads(text)) == text
    copy = tmp_path / "products.json"
    copy.write_text(text)
    products.record_weights(
        copy, {("surgery", "docs/surgery.png"): {"encoder": OTHER, "judge": "x"}}
    )
    lines = [pair for pair in zip(text.splitlines(), copy.read_text().splitlines(), strict=True)]
    ((old, new),) = [pair for pair in lines if pair[0] != pair[1]]
    assert "docs/surgery.png" in old
    assert new == re.sub(r'"encoder": "\w+"', f'"encoder": "{OTHER}"', old)


# What is stale ----------------------------------------------------------------------------------


def test_all_that_depends_on_the_encoder_is_stale_for_another(records):
    now = Now(records, weights.load_encoder("rendered"), ROOT, {})
    current = {
        (one.name, state.file.path)
        for one in records.by_name.values()
        for state in now.states(one)
        if state.is_current
    }
    card = "posenet_jax/pretrained/{name}.md"  # its own
    others = {
        (one.name, file.path)
        for one in records.by_name.values()
        for file in one.files
        if "encoder" not in file.weights or file.path == card
    }
    assert current == others


def test_a_decoder_of_other_weights_is_not_this_encoders(records, encoder, tmp_path):
    decoders = tmp_path / "posenet_jax" / "pretrained" / "decoders"
    decoders.mkdir(parents=True)
    name = bundled_encoders.DEFAULT
    shutil.copy(bundled_encoders.PRETRAINED / "decoders" / f"{name}-fc5.safetensors", decoders)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    assert Now(records, weights.load_encoder(), tmp_path, {}).decoder("decoder-fc5")
    # The same name, other weights: an encoder that has been trained anew.
    now = Now(records, encoder.replace(name=name), tmp_path, {})
    assert now.decoder("decoder-fc5") is None
    decoder, *_ = now.states(records.by_name["decoder-fc5"])
    default = weights.load_encoder().fingerprint
    assert decoder.sentence() == f"stale (encoder {default}, now {encoder.fingerprint})"
    surgery = {state.file.path: state for state in now.states(records.by_name["surgery"])}
    assert surgery["docs/surgery_pictures.png"].stale == {
        "encoder": encoder.fingerprint,
        "decoder-fc5": None,
    }
    # Its own decoder, beside the default encoder's, of which the records are.
    own = decoding.load_decoder(f"{name}-fc5").replace(encoder_fingerprint=encoder.fingerprint)
    decoding.save_decoder(decoders / "mine-fc5.safetensors", own)
    mine = Now(records, encoder.replace(name="mine"), tmp_path, {})
    decoder, *_ = mine.states(records.by_name["decoder-fc5"])
    assert decoder.is_current and mine.decoder("decoder-fc5") == decoders / "mine-fc5.safetensors"


def test_what_others_need_comes_first(records):
    order = [one.name for one in records.chosen(["surgery", "decoded", "decoder-fc5"])]
    assert order[0] == "decoder-fc5"
    names = list(records.by_name)
    for one in records.by_name.values():
        for needed in one.fields & set(names):
            assert names.index(needed) < names.index(one.name)


# Making -----------------------------------------------------------------------------------------


def remaking(records, encoder, tmp_path, **inputs):
    given = dict.fromkeys(INPUTS) | inputs
    return Remaking(
        products=records,
        encoder=encoder,
        named=encoder.name,
        inputs=given,
        work=tmp_path / "work",
        root=tmp_path,
    )


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["findngs"], "no product 'findngs'"),
        (["findings"], "findings needs data that is not here: give --cars, --rooms"),
        (["surgery"], "surgery needs decoder-fc5 of encoder 'compact-random-0'"),
        (["surgery", "decoder-fc5"], "decoder-fc5 needs data that is not here: give --photos"),
    ],
)
def test_what_cannot_be_made_is_refused_before_the_first_command(
    records, encoder, tmp_path, names, words
):
    making = remaking(records, encoder, tmp_path, streets="streets")
    with pytest.raises(InputError, match=re.escape(words)):
        making.check(making.chosen(names))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([product("a", ["x {b}"]), product("b", ["x {a}"])], "products need each other"),
        ([product("a", [], {"path": "p", "weights": {}})], "either `made` or `figures`"),
        (
            [product("a", [], {"path": "p", "made": "p", "weights": {"encoder": "?"}})],
            "a text like",
        ),
        ([{"name": "a"}], "lacks commands, files"),
    ],
)
def test_records_that_cannot_be_used_are_refused(tmp_path, content, words):
    with pytest.raises(InputError, match=re.escape(words)):
        products.read(written(tmp_path, content))


TINY = (
    "JAX_DISABLE_MOST_OPTIMIZATIONS=1 extract_descriptors --encoder={encoder} --images={streets}"
    " --layer=fc5 --limit=2 --cpu_devices=1 --out={out}"
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, encoder):
    """(folder, records, flags): two products of other weights, and a document in no record."""
    folder = tmp_path_factory.mktemp("tiny")
    weights_then = {"weights": {"encoder": OTHER}}
    grid = {"path": "docs/{name}.json", "made": "extraction.json", **weights_then}
    text = {"path": "docs/text.md", "figures": "printed", **weights_then}
    kept = {"path": "docs/kept.md", "figures": "printed", **weights_then}
    path = written(folder, [product("tiny", [TINY], grid, text), product("other", [TINY], kept)])
    for name in ("compact-random-0.json", "text.md", "kept.md", "new.md"):
        (path.parent / name).write_text("as it was")
    flags = (
        f"--encoder={encoder.name}",
        f"--products={path}",
        f"--streets={ROOT / 'posenet_jax' / 'demo_images'}",
    )
    return folder, path, flags


def test_a_stale_product_is_made_anew_and_installed(tiny, encoder):
    folder, path, flags = tiny
    now = encoder.fingerprint
    lines = products.table(Now(products.read(path), encoder, folder, {}), {})
    assert f"  docs/text.md: stale (encoder {OTHER}, now {now}); by hand: printed" in lines
    assert "docs/new.md: in no record" in lines
    assert lines[-1].startswith("2 of 2 products are stale for encoder compact-random-0")
    work = "--run=tiny", "--install=all", "--written=other", f"--out={folder / 'work'}"
    done = script_process.run("remake", *flags, *work)
    assert done.returncode == 0, done.stderr
    place = path.parent / "compact-random-0.json"
    made = folder / "work" / now / "tiny"
    assert (
        f"tiny: {made / 'files' / 'docs' / place.name} belongs at docs/{place.name}" in done.stdout
    )
    assert "tiny: write docs/text.md by hand: printed\n" in done.stdout
    printed = (made / "printed.txt").read_text()
    assert printed.startswith("$ JAX_DISABLE_MOST") and "2 of 2 images" in printed
    assert place.read_bytes() == (made / "output" / "extraction.json").read_bytes()
    assert (path.parent / "text.md").read_text() == "as it was"
    lines = products.table(Now(products.read(path), encoder, folder, {}), {})
    assert f"  docs/{place.name}: current (encoder {now})" in lines
    assert f"  docs/text.md: stale (encoder {OTHER}, now {now}); by hand: printed" in lines
    assert f"  docs/kept.md: current (encoder {now}); by hand: printed" in lines
    # A second time nothing is computed; with other data it is refused, not mixed.
    again = remaking(products.read(path), encoder, folder, streets=flags[2].split("=")[1])
    before = {file: file.stat().st_mtime_ns for file in made.rglob("*")}
    assert not again.make(again.products.by_name["tiny"])
    assert {file: file.stat().st_mtime_ns for file in made.rglob("*")} == before
    # Without the documents: what bears the encoder's name.
    place.unlink()
    assert again.install(again.products.by_name["tiny"], None) == [f"docs/{place.name}"]
    assert place.exists()
    other = remaking(products.read(path), encoder, folder, streets=str(folder))
    with pytest.raises(InputError, match="was begun with other weights or flags"):
        other.make(other.products.by_name["tiny"])


def test_the_script_prints_the_table_and_says_what_is_missing(tiny, tmp_path):
    _, path, flags = tiny
    done = script_process.run("remake", *flags)
    assert done.returncode == 0 and "other: " in done.stdout, done.stderr
    for more, words in (
        (["--run=tiny"], "give --out"),
        ([f"--products={tmp_path}/no.json"], "no.json cannot be opened"),
    ):
        done = script_process.run("remake", *flags, *more)
        assert done.returncode == 2 and words in done.stderr
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_a_command_that_fails_is_named_and_nothing_is_said_to_be_made(tmp_path, encoder):
    bad = product("tiny", ["invert --steps=0 --out={out}"])
    records = products.read(written(tmp_path, [bad]))
    making = remaking(records, encoder, tmp_path)
    with pytest.raises(InputError, match="tiny: invert ended with exit code 2"):
        making.make(records.by_name["tiny"])
    record = making.folder("tiny") / "product.json"
    assert json.loads(record.read_text())["done"] is False
