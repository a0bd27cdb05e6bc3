"""Pickles: arrays come out, and nothing that a pickle names is ever called."""

import os
import pickle
import pickletools
import random
import sys

import numpy as np
import pytest
from damage import damaged_bytes, refused, seeds, tried
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from posenet_jax.errors import InputError
from posenet_jax.io.array_pickle import read_arrays


def weights() -> dict:
    rng = np.random.default_rng(0)
    return {
        "conv1": [rng.standard_normal((3, 3, 3, 8)).astype(np.float32), np.zeros(8, np.float64)],
        "turned": (np.asfortranarray(rng.standard_normal((4, 5))), np.float16([1, 2])),
        "empty": [np.zeros((0, 3), np.float32)],
        "swapped": [rng.standard_normal(3).astype(">f4")],
        "note": ["text", 3, 0.5, None],
    }


def same(ours, original) -> None:
    if isinstance(original, np.ndarray):
        assert isinstance(ours, np.ndarray) and ours.dtype == original.dtype
        np.testing.assert_array_equal(ours, original)
    elif isinstance(original, dict):
        assert ours.keys() == original.keys()
        for key in original:
            same(ours[key], original[key])
    elif isinstance(original, list | tuple):
        assert type(ours) is type(original) and len(ours) == len(original)
        for one, other in zip(ours, original, strict=True):
            same(one, other)
    else:
        assert ours == original


@pytest.fixture
def file(tmp_path):
    """Writes bytes and says where."""

    def write(content: bytes):
        path = tmp_path / "weights.pkl"
        path.write_bytes(content)
        return path

    return write


def refusal(path) -> str:
    with pytest.raises(InputError) as caught:
        read_arrays(path)
    message = str(caught.value)
    assert message.startswith(f"{path} is not a pickle of arrays")
    return message


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_arrays_come_out_as_numpy_reads_them(file, protocol):
    content = pickle.dumps(weights(), protocol=protocol)
    if protocol == 2:  # bytes are then text and a call of codecs.encode
        assert "_codecs.encode" in refusal(file(content))
        return
    same(read_arrays(file(content)), weights())


def test_files_of_numpy_1_are_read(file):
    """There the module was called numpy.core."""
    content = pickle.dumps([np.arange(3.0)], protocol=3)
    assert content.count(b"cnumpy._core.multiarray\n") == 1
    same(read_arrays(file(content.replace(b"numpy._core", b"numpy.core"))), [np.arange(3.0)])


class Malicious:
    """Unpickled by Python's own reader it would make a file."""

    def __init__(self, call, *arguments) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_pickle_that_runs_a_command_is_refused_by_name(file, tmp_path, protocol):
    trace = tmp_path / "trace"
    content = pickle.dumps(Malicious(os.system, f"touch {trace}"), protocol=protocol)
    assert f"it names {os.system.__module__}.system;" in refusal(file(content))
    assert not trace.exists()
    pickle.loads(content)  # the test would notice
    assert trace.exists()


@pytest.mark.parametrize(
    "call, named",
    [
        (eval, "builtins.eval"),
        (getattr, "builtins.getattr"),
        (np.load, "numpy.load"),
        (np.ndarray, None),
        (np.dtype, None),
    ],
)
def test_other_names_are_refused_too(file, call, named):
    assert (named or "") in refusal(file(pickle.dumps(Malicious(call, "1"), protocol=4)))


def test_a_name_hidden_among_arrays_is_refused(file):
    content = pickle.dumps(weights() | {"conv9": [Malicious(eval, "1 + 1")]}, protocol=4)
    assert "builtins.eval" in refusal(file(content))


@pytest.mark.parametrize(
    "array", [np.array(["text"]), np.array([object()]), np.array([1, 2]), np.zeros(2, "f4,f4")]
)
def test_arrays_of_anything_but_floats_are_refused(file, array):
    refusal(file(pickle.dumps([array], protocol=4)))


def test_an_array_of_more_numbers_than_its_bytes_hold_is_refused(file):
    content = pickle.dumps(np.zeros(3, np.float32), protocol=3)
    small, large = (bytes([pickle.BININT1[0], n, pickle.TUPLE1[0]]) for n in (3, 200))
    assert content.count(small) == 1
    assert "shape (200,) with 3 numbers" in refusal(file(content.replace(small, large)))


def test_a_file_cut_short_anywhere_is_refused(file):
    content = pickle.dumps(weights(), protocol=4)
    for length in range(0, len(content), 7):
        refusal(file(content[:length]))


def test_damaged_bytes_are_refused_or_read_and_never_run(file):
    """Any byte changed: an InputError, or values of another content; nothing else comes out."""
    content = bytearray(pickle.dumps(weights()["conv1"], protocol=4))
    marks = [place for _, _, place in pickletools.genops(bytes(content))]
    for place in marks:
        for value in range(0, 256, 5):
            damaged = content.copy()
            damaged[place] = value
            try:
                read_arrays(file(bytes(damaged)))
            except InputError:
                pass


def test_other_files_are_refused(file, tmp_path):
    refusal(file(b"weights, honestly\n"))
    refusal(file(b""))
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "nowhere.pkl")


# Anything ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("pickles") / "weights.pkl"


_HAPPENED: list[str] = []
_WATCHED = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.", "ctypes.")


def _notice(event: str, details: tuple) -> None:
    text = event == "exec" and getattr(details[0], "co_filename", "") == "<string>"
    if text or event.startswith(_WATCHED):
        _HAPPENED.append(event)


sys.addaudithook(_notice)


def outcome(path, content: bytes):
    """What is read or refused; nothing that the pickle names has happened."""
    path.write_bytes(content)
    _HAPPENED.clear()
    found = refused(lambda: read_arrays(path), path)
    assert _HAPPENED == []
    return found


def test_what_happens_is_noticed():
    _HAPPENED.clear()
    eval(compile("1 + 1", "<string>", "eval"))
    os.system("true")
    assert _HAPPENED == ["exec", "os.system"]


def plain(value) -> bool:
    if isinstance(value, dict):
        return all(map(plain, value)) and all(map(plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(plain, value))
    if isinstance(value, np.ndarray):
        return value.dtype.kind == "f" and not value.dtype.hasobject
    return value is None or type(value) in (str, bytes, int, float, bool)


FLOATS = arrays.arrays(
    st.sampled_from([np.dtype(kind) for kind in ("<f4", "<f8", "<f2")]),
    arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
    | st.binary(max_size=5) | FLOATS,
    lambda inner: st.lists(inner, max_size=4)
    | st.lists(inner, max_size=4).map(tuple)
    | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


@tried(100)
@given(TREES, st.sampled_from([3, 4]), st.booleans())
def test_every_tree_of_arrays_is_read_as_pickle_reads_it(path, tree, protocol, twice):
    tree = [tree, tree] if twice else tree  # the second time by a place in the memory
    content = pickle.dumps(tree, protocol=protocol)
    path.write_bytes(content)
    found, expected = read_arrays(path), pickle.loads(content)
    assert plain(found)
    same(found, expected)


@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
def test_any_damage_is_refused_or_read_as_values_of_another_content(path, protocol):
    content = pickle.dumps(weights(), protocol=protocol)

    @tried(60)
    @given(seeds)
    def check(rng):
        found = outcome(path, damaged_bytes(content, rng))
        assert isinstance(found, InputError) or plain(found)

    check()


_ARRAY = pickle.dumps(np.arange(3.0), protocol=3)[2:-1]
_NAMES = (
    *(b"cposix\nsystem\n", b"cbuiltins\nexec\n", b"cbuiltins\neval\n", b"cos\nsystem\n"),
    *(b"cnumpy\ndtype\n", b"cnumpy\nndarray\n", b"cnumpy._core.multiarray\n_reconstruct\n"),
    *(b"cnumpy\nload\n", b"csubprocess\nPopen\n", b"\x8c\x05posix\x8c\x06system\x93"),
    *(b"iposix\nsystem\n", b"cposenet_jax\ninvert\n", b"\x82\x01", b"Pid\n"),
)
_VALUES = (
    *(b"K\x03", b"M\xff\xff", b"J\xff\xff\xff\xff", b"\x8a\x09" + b"\xff" * 9, b"I01\n", b"F1.5\n"),
    *(b"I" + b"9" * 5000 + b"\n", b"L7L\n", b"G" + bytes(8), b"N", b"\x88", b"\x89"),
    *(b"X\x02\x00\x00\x00f4", b"U\x02f8", b"B\x04\x00\x00\x00abcd", b"S'echo anything'\n", b"V<\n"),
    *(b"\x8e" + b"\xff" * 8, b"\x96" + b"\xff" * 8, b"T\xff\xff\xff\x7f", b"\x8b\xff\xff\xff\x7f"),
)
_ACTIONS = (
    *(b"(", b"0", b"1", b"2", b"]", b"}", b")", b"\x85", b"\x86", b"\x87", b"t", b"l", b"d"),
    *(b"a", b"e", b"s", b"u", b"R", b"b", b"\x81", b"\x92", b"o", b"\x8f", b"\x90", b"\x91", b"Q"),
    *(b"q\x00", b"h\x00", b"r\xff\xff\xff\xff", b"j\xff\xff\xff\xff", b"p99999999999\n", b"\x94"),
    *(b"g0\n", b"\x95" + b"\xff" * 8, b"\x97", b"\x98", b"\x80\x04", b"."),
)


def program(rng: random.Random) -> bytes:
    """Operations in any order, values and arrays among them."""
    parts = [b"\x80\x04"]
    for _ in range(rng.randrange(1, 40)):
        parts.append(rng.choice(rng.choice((_NAMES, _VALUES, _VALUES, _ACTIONS, [_ARRAY]))))
    return b"".join(parts) + b"."


@tried(200)
@given(seeds)
def test_operations_in_any_order_are_refused_or_make_plain_values(path, rng):
    found = outcome(path, program(rng))
    assert isinstance(found, InputError) or plain(found)


def tuples(depth: int) -> bytes:
    """Tuples whose hash, or comparison, goes as deep: a million overflow Python's own reader."""
    return b"K\x01" + b"\x85" * depth


def shaped(sides: bytes) -> bytes:
    """Three numbers, said to be of another shape."""
    assert _ARRAY.count(b"K\x03\x85") == 1
    return b"\x80\x04" + _ARRAY.replace(b"K\x03\x85", sides) + b"."


_FLOAT32 = b"cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85R"
CRAFTED = {
    "bytes of 16 EB": b"\x80\x04\x8e" + b"\xff" * 8 + b".",
    "a bytearray of 4 GB": b"\x80\x05\x96" + (2**32).to_bytes(8, "little") + b".",
    "a deep key": b"\x80\x04}" + tuples(300_000) + b"K\x02s.",
    "a deep name of a dtype": b"\x80\x04cnumpy\ndtype\n" + tuples(300_000) + b"\x85R.",
    "a deep byte order": b"\x80\x04" + _FLOAT32 + b"K\x00" + tuples(300_000) + b"\x86b.",
    "deep lists": b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "a list in itself": b"\x80\x04]q\x00h\x00a.",
    "marks that do not close": b"\x80\x04" + b"(" * 100_000 + b".",
    "a shape of texts": shaped(b"X\x01\x00\x00\x00aJ\xff\xff\xff\x7f\x86"),
    "a shape beyond all memory": shaped(b"K\x00\x8a\x08" + b"\x7f" * 8 + b"\x86"),
    "a shape of huge numbers": shaped(b"(" + (b"\x8a\x64" + b"\x7f" * 100) * 9 + b"t"),
    "a shape of many axes": shaped(b"(K\x03" + b"K\x01" * 10_000 + b"t"),
    "a shape below zero": shaped(b"J\xff\xff\xff\xffJ\xfd\xff\xff\xff\x86"),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_crafted_pickles_are_refused_at_once(path, name):
    assert isinstance(outcome(path, CRAFTED[name]), InputError)


@pytest.mark.parametrize("place", [b"r\xff\xff\xff\x7f", b"p" + b"9" * 4000 + b"\n"])
def test_a_place_far_away_takes_no_memory(path, place):
    """Python's own reader makes room for all places before it: here for 17 GB."""
    assert outcome(path, b"\x80\x02K\x01" + place + b".") == 1


def test_what_is_named_again_and_again_is_made_once(path):
    """2^60 leaves, of 60 lists that each hold the one before it twice."""
    doubled = b"".join(b"](h%ch%ceq%c" % (n, n, n + 1) for n in range(60))
    found = outcome(path, b"\x80\x04]q\x00" + doubled + b".")
    depth = 0
    while found:
        assert found[0] is found[1]
        found, depth = found[0], depth + 1
    assert depth == 60
