"""Files of arrays: kinds of numbers, other kinds of files, and any damage to any of them."""

import io
import json
import math
import pickle
import random
import struct
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from damage import damaged_bytes, damaged_json, refused, seeds, tried
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from posenet_jax.decoders.decoding import Decoder, load_decoder, save_decoder
from posenet_jax.decoders.networks import Mirror
from posenet_jax.encoders.encoder import Encoder, init_params
from posenet_jax.encoders.heads import PoseScale
from posenet_jax.encoders.imagenet import SqueezeNet
from posenet_jax.encoders.streetnet import Compact
from posenet_jax.encoders.weights import load_encoder, save_encoder
from posenet_jax.errors import InputError
from posenet_jax.images.preprocessing import CUSTOMARY
from posenet_jax.io.tensors import read_tensors, write_tensors


def refusal(path, load=read_tensors) -> str:
    """The one sentence that a file is refused with; it begins with the file."""
    with pytest.raises(InputError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    return message


def header_of(dtype: str, size: int) -> bytes:
    """A file of one array of four numbers."""
    entry = {"dtype": dtype, "shape": [4], "data_offsets": [0, 4 * size]}
    header = json.dumps({"conv1/kernel": entry}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(4 * size)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_arrays_that_lie_otherwise_in_memory_are_written_as_they_are(tmp_path, dtype):
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    tree = {"transposed": array.T, "slice": array[:, ::2], "fortran": np.asfortranarray(array)}
    write_tensors(tmp_path / "all.safetensors", tree, {}, dtype)
    found = read_tensors(tmp_path / "all.safetensors")[0]
    for name, value in tree.items():
        np.testing.assert_array_equal(np.asarray(found[name], np.float32), value)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F8_E8M0", "C64"])
def test_numbers_of_other_kinds_are_named(tmp_path, dtype):
    path = tmp_path / "eight.safetensors"
    path.write_bytes(header_of(dtype, 8 if dtype == "C64" else 1))
    message = refusal(path)
    assert f"conv1/kernel is of dtype {dtype}, which is not read: convert it to float32" in message


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64", "int64", "uint8"])
def test_numbers_of_these_kinds_are_read(tmp_path, dtype):
    torch = pytest.importorskip("torch", reason="PyTorch writes them all: pip install .[oracle]")
    from safetensors.torch import save_file as save_torch

    path = tmp_path / "theirs.safetensors"
    values = torch.tensor([0.0, 1.0, 2.0, 96.0])
    save_torch({"a": values.to(getattr(torch, dtype))}, path)
    tensors, _ = read_tensors(path)
    assert tensors["a"].dtype == np.float32
    np.testing.assert_array_equal(tensors["a"], values.numpy())


def zipped(member: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(member, b"...")
    return content.getvalue()


OTHER_FILES = {
    "model.pt": (zipped("model/data.pkl"), "a file of PyTorch"),
    "model.ckpt": (zipped("epoch=3/data.pkl"), "a file of PyTorch"),
    "pytorch_model.bin": (pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2), "a file of PyTorch"),
    "weights.npz": (zipped("conv1.npy"), "a zip archive, not a safetensors file"),
    "cut.pt": (zipped("model/data.pkl")[:40], "a zip archive"),
    "weights.pkl": (pickle.dumps({"conv1": [1.0]}, protocol=4), "a pickle, which can run any"),
    "weights.h5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file"),
}


@pytest.mark.parametrize("name", OTHER_FILES)
@pytest.mark.parametrize("load", [read_tensors, load_encoder, load_decoder])
def test_weights_of_another_format_are_named_with_the_remedy(tmp_path, name, load):
    content, words = OTHER_FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    message = refusal(path, load)
    assert words in message
    if "PyTorch" in words:
        assert "write its state_dict with safetensors.torch.save_file" in message


def test_files_that_pytorch_writes_are_known(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install .[oracle]")
    for number, new in enumerate((True, False)):
        path = tmp_path / f"{number}.pth"
        torch.save({"a": torch.ones(3)}, path, _use_new_zipfile_serialization=new)
        assert "a file of PyTorch" in refusal(path)


# Damage ------------------------------------------------------------------------------------------


def filled(shapes):
    """Parameters of these shapes; their values mean nothing."""
    return jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, np.float32), shapes)


def encoder_file(path) -> None:
    module = Compact(descriptor_size=4)
    params, heads = filled(jax.eval_shape(lambda: init_params(module, jax.random.key(0))))
    scale = PoseScale(mean=jnp.zeros(6), std=jnp.ones(6))
    save_encoder(path, Encoder(params, heads, scale, module, CUSTOMARY, "small"))


def decoder_file(path) -> None:
    read = jax.ShapeDtypeStruct((6, 6, 2), jnp.float32)
    variables = filled(jax.eval_shape(Mirror().init, jax.random.key(0), read))
    shape = (6, 6, 1)
    decoder = Decoder(
        variables,
        jnp.float32(2.0),
        Mirror(),
        shape,
        "conv4",
        "small",
        "0" * 16,
        CUSTOMARY,
        noise=(1,),
    )
    save_decoder(path, decoder)


def state_dict_file(path) -> None:
    """PyTorch's names, whose layers' place in SqueezeNet the reader has to find."""
    params, _ = filled(jax.eval_shape(lambda: init_params(SqueezeNet(), jax.random.key(0))))
    theirs = {"features.0.weight": params["conv1"]["kernel"].transpose(3, 2, 0, 1)}
    theirs |= {"features.0.bias": params["conv1"]["bias"]}
    path.write_bytes(save({name: np.ascontiguousarray(value) for name, value in theirs.items()}))


MAKERS = {
    encoder_file: load_encoder,
    decoder_file: load_decoder,
    state_dict_file: load_encoder,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Writer of a kind of file -> (header, numbers, fingerprint where it can be read)."""
    folder, found = tmp_path_factory.mktemp("whole"), {}
    for make, load in MAKERS.items():
        path = folder / make.__name__
        make(path)
        content = path.read_bytes()
        end = 8 + struct.unpack("<Q", content[:8])[0]
        own = None if make is state_dict_file else load(path).fingerprint
        found[make] = content[8:end], content[end:], own
    return found


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged") / "weights.safetensors"


def with_header(header: bytes, numbers: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + numbers


def damaged_header(header: bytes, rng: random.Random) -> bytes:
    """As a JSON tree of another form, or as bytes; or the texts of its metadata, which are JSON."""
    kind = rng.randrange(4)
    if kind == 0:
        return damaged_bytes(header, rng)
    tree = json.loads(header)
    if kind == 1 or "__metadata__" not in tree:
        return damaged_json(tree, rng)
    texts = tree["__metadata__"]
    name = rng.choice(sorted(texts))
    try:
        value = json.loads(texts[name])
    except ValueError:
        value = texts[name]
    texts[name] = damaged_json(value, rng).decode("utf-8", "replace")
    return json.dumps(tree).encode()


@pytest.mark.parametrize(("make", "count"), list(zip(MAKERS, (100, 60, 40), strict=True)))
def test_a_damaged_header_is_refused_or_read_as_it_was(make, count, whole, path):
    header, numbers, own = whole[make]

    @tried(count)
    @given(seeds)
    def check(rng):
        path.write_bytes(with_header(damaged_header(header, rng), numbers))
        found = refused(lambda: MAKERS[make](path), path)
        if not isinstance(found, InputError):
            # The numbers are untouched, and so is what they mean.
            assert found.fingerprint == own or make is decoder_file

    check()


@pytest.mark.parametrize(("make", "count"), list(zip(MAKERS, (60, 40, 20), strict=True)))
def test_damaged_bytes_are_refused_or_read(make, count, whole, path):
    """Most of them numbers: those that no longer are finite are named, others are weights too."""
    header, numbers, _ = whole[make]
    content = with_header(header, numbers)

    @tried(count)
    @given(seeds)
    def check(rng):
        path.write_bytes(damaged_bytes(content, rng))
        refused(lambda: MAKERS[make](path), path)

    check()


SIZES = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8, "F8_E4M3": 1, "C64": 8, "BOOL": 1, "I64": 8}


@pytest.mark.parametrize("shape", [[0, 2**62, 2**62], [0, 2**63], [1] * 70, [0] * 70])
def test_shapes_that_numpy_cannot_have_are_refused(shape, path):
    entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, 4 * math.prod(shape)]}
    path.write_bytes(with_header(json.dumps({"a": entry}).encode(), bytes(4 * math.prod(shape))))
    assert "not a readable safetensors file" in refusal(path)


LENGTHS = st.one_of(
    st.integers(0, 200), st.sampled_from([2**27, 2**32, 2**62, 2**63, 2**64 - 1, 100_000_000])
)
HUGE = st.sampled_from([2**31, 2**53, 2**63, 2**64, 10**30, 0.5, -1])
SHAPES = st.one_of(st.lists(st.integers(0, 9), max_size=3), st.just([1] * 70), st.just([0] * 70))
EMPTY = st.lists(st.sampled_from([0, 7, 2**31, 2**53, 2**63]), min_size=1, max_size=4).map(
    lambda sides: [0, *sides]
)
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*SIZES, "F4", "X", "", 7]),
        "shape": st.one_of(SHAPES, SHAPES, EMPTY, st.lists(HUGE, max_size=3), st.just("3")),
        "data_offsets": st.lists(st.one_of(st.integers(-2, 90), HUGE), min_size=1, max_size=3),
    }
)
METADATA = st.dictionaries(
    st.sampled_from(["architecture", "descriptor_size", "preprocessing", "pose_scale", "network"]),
    st.one_of(st.text(max_size=9), st.integers(), st.none(), st.just("9" * 5000)),
)
NAMES = st.one_of(st.text(max_size=5), st.sampled_from(["a/b", "a", "features.0.weight", "\n"]))


def laid_out(entries: dict) -> int:
    """Gives the entries offsets, one after another; how many bytes they take."""
    end = 0
    for _, entry in sorted(entries.items(), key=lambda item: -SIZES.get(item[1]["dtype"], 1)):
        fits = isinstance(entry["shape"], list) and all(type(n) is int for n in entry["shape"])
        size = max(math.prod(entry["shape"]), 0) if fits else 1
        start, end = end, min(end + SIZES.get(entry["dtype"], 1) * size, 2**64)
        entry["data_offsets"] = [start, end]
    return end


@pytest.mark.parametrize("load", [read_tensors, load_encoder, load_decoder])
def test_headers_of_any_content(load, path):
    """Shapes beyond all memory, offsets that overlap, end before they begin or beyond the file."""

    @tried(140)
    @given(
        st.dictionaries(NAMES, ENTRIES, max_size=3),
        st.one_of(st.none(), METADATA),
        st.one_of(st.none(), LENGTHS),
        st.booleans(),
    )
    def check(entries, metadata, length, ordered):
        numbers = bytes(min(laid_out(entries), 4000) if ordered else 40)
        tree = entries if metadata is None else {"__metadata__": metadata, **entries}
        header = json.dumps(tree).encode("utf-8", "surrogatepass")
        stated = len(header) if length is None or ordered else length
        path.write_bytes(struct.pack("<Q", stated) + header + numbers)
        found = refused(lambda: load(path), path)
        if load is read_tensors and not isinstance(found, InputError):
            for name, value in found[0].items():
                assert value.dtype == np.float32 and list(value.shape) == entries[name]["shape"]

    check()


@pytest.mark.parametrize(
    ("make", "name", "text", "words"),
    [
        (encoder_file, "descriptor_size", "1000000000000", "descriptor_size is 1000000000000"),
        (encoder_file, "descriptor_size", "2000000000", "fc5/bias has shape (4,)"),
        (encoder_file, "preprocessing", '{"means": [1, 2, 3], "size": 8}', "8×8 pixels"),
        (encoder_file, "preprocessing", '{"means": [1, 2, 3], "size": 999999}', "8192 allowed"),
        (encoder_file, "preprocessing", "[" * 100_000, "nested too deeply"),
        (encoder_file, "preprocessing", "[1, 2]", "unusable metadata"),
        (encoder_file, "pose_scale", '{"mean": [1e300], "std": []}', "six means and deviations"),
        (decoder_file, "descriptor_shape", "[1000000000, 1000000000, 256]", "[F] or [6, 6, C]"),
        (decoder_file, "descriptor_shape", "[]", "[F] or [6, 6, C]"),
        (
            decoder_file,
            "descriptor_shape",
            "[1000000000]",
            "batch_stats/up5_norm/norm/mean is missing",
        ),
        (decoder_file, "noise", "1000000000", "params/up4/kernel has shape"),
        (decoder_file, "noise", "[6, 6, 1000000000]", "params/up4/kernel has shape"),
        (
            decoder_file,
            "noise",
            "[6, 5, 1]",
            "noise must be [Z] or [6, 6, Z], and here is [6, 5, 1]",
        ),
        (decoder_file, "noise", "true", "noise[0] is True"),
        (decoder_file, "noise", "-3", "noise[0] is -3"),
        (decoder_file, "descriptor_scale", "nan", "must be a positive number"),
        (decoder_file, "descriptor_scale", "1e99", "must be a positive number"),
        (decoder_file, "network", "transformer", "no 'transformer'"),
    ],
)
def test_numbers_of_metadata_take_no_memory(make, name, text, words, whole, path):
    header, numbers, _ = whole[make]
    tree = json.loads(header)
    tree["__metadata__"][name] = text
    path.write_bytes(with_header(json.dumps(tree).encode(), numbers))
    assert words in str(refused(lambda: MAKERS[make](path), path))
