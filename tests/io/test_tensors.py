"""Files of arrays: kinds of numbers, and other kinds of files than safetensors."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest

from posenet_jax.decoders.decoding import load_decoder
from posenet_jax.encoders.weights import load_encoder
from posenet_jax.errors import InputError
from posenet_jax.io.tensors import read_tensors


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
