"""Pickles: arrays come out, and nothing that a pickle names is ever called."""

import os
import pickle
import pickletools

import numpy as np
import pytest

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
