"""Files of PyTorch before 1.6: tensors come out, and nothing that they name is ever called."""

import collections
import io
import pickle
import pickletools

import numpy as np
import pytest
from damage import damaged_bytes, refused, seeds, tried
from hypothesis import given

from posenet_jax.errors import InputError
from posenet_jax.io.torch_file import read_state_dict


@pytest.fixture(scope="module")
def content(torch) -> bytes:
    """A whole file, as PyTorch writes it."""
    torch.manual_seed(0)
    whole = torch.randn(40)
    tensors = collections.OrderedDict(
        weight=torch.randn(4, 3, 2, 2).permute(0, 2, 3, 1),
        part=whole[10:30].reshape(4, 5),
        rest=whole[30:],
        half=torch.randn(3).half(),
        double=torch.randn(2, 2).double(),
        count=torch.tensor(7),
        empty=torch.zeros(0, 3),
    )
    tensors._metadata = {"": {"version": 1}}
    file = io.BytesIO()
    torch.save(tensors, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def refusal(path) -> str:
    with pytest.raises(InputError) as caught:
        read_state_dict(path)
    message = str(caught.value)
    assert message.startswith(f"{path} is not a state_dict of PyTorch before 1.6: ")
    assert "\n" not in message
    return message


def test_tensors_are_those_that_torch_reads(torch, content, tmp_path):
    path = tmp_path / "theirs.pth"
    path.write_bytes(content)
    oracle = torch.load(path, weights_only=True)
    ours = read_state_dict(path)
    assert list(ours) == list(oracle)
    for name, tensor in oracle.items():
        assert ours[name].dtype == tensor.numpy().dtype
        np.testing.assert_array_equal(ours[name], tensor.numpy())


def saved(torch, value, path):
    torch.save(value, path, _use_new_zipfile_serialization=False)
    return path


class Pairs:
    """Pickled as Python 2 pickles an ordered dictionary."""

    def __init__(self, pairs):
        self.pairs = pairs

    def __reduce__(self):
        return collections.OrderedDict, (self.pairs,)


def test_a_dictionary_may_be_pairs(torch, tmp_path):
    path, tensor = tmp_path / "theirs.pth", torch.arange(6.0).reshape(2, 3)
    saved(torch, Pairs([["a", tensor], ["b", torch.arange(3.0)]]), path)
    assert list(torch.load(path, weights_only=True)) == ["a", "b"]
    found = read_state_dict(path)
    np.testing.assert_array_equal(found["a"], tensor.numpy())
    assert "not made of pairs" in refusal(saved(torch, Pairs([["a"]]), path))
    assert "keys are no texts" in refusal(saved(torch, Pairs([[1, tensor]]), path))


def test_what_is_no_dictionary_of_tensors_is_refused(torch, tmp_path):
    path = tmp_path / "theirs.pth"
    layer = torch.nn.Linear(2, 2)
    assert "it names torch.nn" in refusal(saved(torch, layer, path))
    assert "no dictionary of tensors" in refusal(saved(torch, {"epoch": 3}, path))
    assert "no dictionary of tensors" in refusal(saved(torch, [torch.zeros(2)], path))
    repeated = torch.zeros(1).expand(1000)
    assert "of shape (1000,) of 1 numbers" in refusal(saved(torch, {"a": repeated}, path))
    torch.save(layer.state_dict(), path)
    refusal(path)  # of PyTorch since 1.6


def test_a_call_in_a_pickle_is_not_made(content, tmp_path):
    path, proof = tmp_path / "evil.pth", tmp_path / "proof"

    class Evil:
        def __reduce__(self):
            return (open, (str(proof), "w"))

    parts = io.BytesIO(content)
    for _ in range(4):  # before the number, the version, the machine's facts, the dictionary
        path.write_bytes(content[: parts.tell()] + pickle.dumps(Evil(), 2))
        assert "it names" in refusal(path)
        pickletools.dis(parts, io.StringIO())
    assert not proof.exists()


@tried(50)
@given(seeds)
def test_damaged_files_are_refused_or_read(content, tmp_path_factory, seed):
    path = tmp_path_factory.getbasetemp() / "damaged.pth"
    path.write_bytes(damaged_bytes(content, seed))
    found = refused(lambda: read_state_dict(path), path)
    assert isinstance(found, InputError) or sum(array.size for array in found.values()) < 1000
