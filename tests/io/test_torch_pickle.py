"""Files of torch.save before 1.6, against PyTorch; damaged and malicious ones are refused."""

import io
import os
import random

import numpy as np
import pytest
from damage import damaged_bytes, refused, seeds, tried
from hypothesis import given

from posenet_jax.errors import InputError
from posenet_jax.io.torch_pickle import read_state_dict


def written(torch, value) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


@pytest.fixture
def file(tmp_path):
    def write(content: bytes):
        path = tmp_path / "weights.pth"
        path.write_bytes(content)
        return path

    return write


def tensors(torch):
    both = torch.arange(12.0)
    return {
        "lin0.model.1.weight": torch.randn((1, 4, 1, 1)),
        "half": torch.randn(3).half(),
        "double": torch.randn((2, 3)).double(),
        "counted": torch.tensor(7),
        "first": both[:6].reshape(2, 3),
        "last": both[6:],
    }


def test_a_state_dict_is_read_as_pytorch_reads_it(torch, file):
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).state_dict()
    for given_tensors in (layers, tensors(torch)):
        found = read_state_dict(file(written(torch, given_tensors)))
        assert found.keys() == given_tensors.keys()
        for name, tensor in given_tensors.items():
            assert found[name].dtype == tensor.numpy().dtype
            np.testing.assert_array_equal(found[name], tensor.numpy())


class Malicious:
    def __init__(self, trace) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch {self.trace}",)


def test_what_else_a_file_names_is_refused(torch, file, tmp_path):
    trace = tmp_path / "trace"
    for value, reason in (
        ({"a": Malicious(trace)}, f"it names {os.system.__module__}.system"),
        ({"a": torch.arange(6.0).reshape(2, 3).T}, "no whole part of its storage"),
        ({"a": torch.ones(2).bfloat16()}, "it names torch.BFloat16Storage"),
        ({"a": [torch.ones(2)]}, "it does not hold tensors by their names"),
        ([torch.ones(2)], "it does not hold tensors by their names"),
    ):
        path = file(written(torch, value))
        with pytest.raises(InputError, match="is no state_dict of PyTorch before 1.6: ") as caught:
            read_state_dict(path)
        assert reason in str(caught.value)
    assert not trace.exists()


def test_todays_files_are_refused(torch, file):
    content = io.BytesIO()
    torch.save(tensors(torch), content)
    with pytest.raises(InputError, match="is no state_dict of PyTorch before 1.6"):
        read_state_dict(file(content.getvalue()))


@pytest.fixture(scope="module")
def small(torch, tmp_path_factory):
    path = tmp_path_factory.mktemp("states") / "weights.pth"
    return path, written(torch, {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2)})


def test_a_file_cut_short_anywhere_is_refused(small):
    path, content = small
    for length in range(0, len(content), 5):
        path.write_bytes(content[:length])
        with pytest.raises(InputError):
            read_state_dict(path)


@tried(150)
@given(rng=seeds)
def test_a_damaged_file_is_read_or_refused(small, rng: random.Random):
    path, content = small
    path.write_bytes(damaged_bytes(content, rng))
    found = refused(lambda: read_state_dict(path), path)
    assert isinstance(found, InputError) or all(isinstance(x, np.ndarray) for x in found.values())
