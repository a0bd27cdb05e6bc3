"""Vision transformers. Oracle: the same in torch.nn, with the names of DINOv2 and timm."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_compared

from posenet_jax.encoders import importing
from posenet_jax.encoders.encoder import parameter_shapes
from posenet_jax.encoders.network import IMAGENET, Normalisation
from posenet_jax.encoders.vit import ViT, resized
from posenet_jax.encoders.weights import (
    at_size,
    encoder_from_torch,
    load_encoder,
    save_encoder,
)
from posenet_jax.errors import InputError

PATCH, WIDTH, DEPTH, GRID, SIZE = 4, 128, 2, 5, 16  # positions of 5×5 patches; images have 4×4


def torch_vit(torch, form: str):
    """The network in one of four forms, and its taps; as in DINOv2's and timm's code."""
    nn = torch.nn
    of_dinov2, registers = form.startswith("dinov2"), 3 if "registers" in form else 0

    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.gamma = nn.Parameter(torch.ones(WIDTH))

        def forward(self, x):
            return x * self.gamma

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1 = nn.LayerNorm(WIDTH, eps=1e-6)
            self.attn = nn.Module()
            self.attn.qkv = nn.Linear(WIDTH, 3 * WIDTH)
            self.attn.proj = nn.Linear(WIDTH, WIDTH)
            self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6)
            self.mlp = nn.Module()
            self.mlp.fc1 = nn.Linear(WIDTH, 2 * WIDTH)
            self.mlp.fc2 = nn.Linear(2 * WIDTH, WIDTH)
            self.ls1, self.ls2 = (Scale(), Scale()) if form != "timm" else (nn.Identity(),) * 2

        def forward(self, x):
            count, tokens, _ = x.shape
            qkv = self.attn.qkv(self.norm1(x)).reshape(count, tokens, 3, WIDTH // 64, 64)
            query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
            y = nn.functional.scaled_dot_product_attention(query, key, value)
            x = x + self.ls1(self.attn.proj(y.transpose(1, 2).reshape(x.shape)))
            y = self.mlp.fc2(nn.functional.gelu(self.mlp.fc1(self.norm2(x))))
            return x + self.ls2(y)

    network = nn.Module()
    network.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
    own = 0 if form == "timm, registers" else 1
    grid = SIZE // PATCH if form == "timm" else GRID
    network.pos_embed = nn.Parameter(torch.zeros(1, own + grid**2, WIDTH))
    if of_dinov2:
        network.mask_token = nn.Parameter(torch.zeros(1, WIDTH))
    named = "register_tokens" if of_dinov2 else "reg_token"
    if registers:
        setattr(network, named, nn.Parameter(torch.zeros(1, registers, WIDTH)))
    network.patch_embed = nn.Module()
    network.patch_embed.proj = nn.Conv2d(3, WIDTH, PATCH, stride=PATCH)
    network.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
    network.norm = nn.LayerNorm(WIDTH, eps=1e-6)
    if form == "timm":
        network.head = nn.Linear(WIDTH, 7)

    def positions():
        """Embeddings of the class token, if it has one, and of the image's own grid of patches."""
        first, square = network.pos_embed[:, :own], network.pos_embed[:, own:]
        wanted = SIZE // PATCH
        if grid != wanted:
            how = {"size": (wanted, wanted), "antialias": True}
            if form == "dinov2":
                how = {"scale_factor": ((wanted + 0.1) / grid,) * 2}
            square = square.reshape(1, grid, grid, WIDTH).permute(0, 3, 1, 2)
            square = nn.functional.interpolate(square, mode="bicubic", **how)
            square = square.permute(0, 2, 3, 1).reshape(1, wanted**2, WIDTH)
        return first, square

    def taps(x):
        first, square = positions()
        x = network.patch_embed.proj(x).flatten(2).transpose(1, 2) + square
        prefix = [network.cls_token + first if own else network.cls_token]
        prefix += [getattr(network, named)] if registers else []
        x = torch.cat([*(part.expand(len(x), -1, -1) for part in prefix), x], 1)
        found = {}
        for number, block in enumerate(network.blocks):
            x = block(x)
            found[f"block{number}"], found[f"block{number}.class"] = parts(x)
        found["patches"], found["features"] = parts(network.norm(x))
        return found | ({"scores": network.head(found["features"])} if form == "timm" else {})

    def parts(x):
        patches = x[:, 1 + registers :].transpose(1, 2)
        return patches.reshape(len(x), WIDTH, SIZE // PATCH, -1), x[:, 0]

    return network.eval(), taps


FORMS = ("dinov2", "dinov2, registers", "timm", "timm, registers")


@pytest.fixture(scope="module")
def drawn(torch):
    """By form: (network, taps), its weights drawn."""

    @functools.cache
    def make(form):
        network, taps = torch_vit(torch, form)
        torch_compared.draw(torch, network)
        return network, taps

    return make


@pytest.mark.parametrize("form", FORMS)
def test_taps_and_gradients_agree_with_torch(torch, drawn, form):
    network, taps = drawn(form)
    encoder = encoder_from_torch(torch_compared.state(network), size=SIZE)
    registers, classes = 3 if "registers" in form else 0, 7 if form == "timm" else 0
    assert encoder.module == ViT(
        PATCH, WIDTH, DEPTH, 2, 2 * WIDTH, registers=registers, classes=classes
    )
    torch_compared.compare(torch, encoder, taps, torch_compared.images(SIZE), *IMAGENET)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("length, size", [(37, 16), (16, 37), (5, 4), (14, 15), (3, 1), (1, 4)])
def test_positions_are_resized_as_by_torch(torch, length, size, antialias):
    grid = np.random.default_rng(0).standard_normal((length, length, 3)).astype(np.float32)
    channels_first = torch.from_numpy(grid).permute(2, 0, 1)[None]
    offset = 0.0 if antialias else 0.1
    how = {"size": (size, size)} if antialias else {"scale_factor": (size + offset) / length}
    oracle = torch.nn.functional.interpolate(
        channels_first, mode="bicubic", antialias=antialias, **how
    )
    ours = resized(grid, size, offset=offset, antialias=antialias)
    # PyTorch computes places in float32, up to 37 here: off by 2^-19 of a pixel at most.
    np.testing.assert_allclose(ours, oracle[0].permute(1, 2, 0).numpy(), atol=2e-5)


def test_another_normalisation_is_folded_in(torch, drawn):
    """That of timm's older transformers: (v/255 - 0.5)/0.5."""
    halves = Normalisation((127.5,) * 3, (127.5,) * 3)
    network, taps = drawn("timm")
    encoder = encoder_from_torch(torch_compared.state(network), size=SIZE, normalisation=halves)
    assert encoder.preprocessing.means == (127.5,) * 3
    pixels = torch_compared.images(SIZE)
    ours = jax.jit(lambda tap, x: tap(x))(
        encoder.tap("features"), encoder.preprocessing.to_network(pixels)
    )
    with torch.no_grad():
        oracle = taps((torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5)
    difference = torch_compared.largest_difference(ours, oracle["features"].numpy())
    assert difference <= torch_compared.FORWARD


def test_what_is_saved_is_loaded_and_resized(drawn, tmp_path):
    encoder = encoder_from_torch(torch_compared.state(drawn("dinov2, registers")[0]), size=SIZE)
    path = tmp_path / "mine.safetensors"
    save_encoder(path, encoder, "float32")
    again = load_encoder(path)
    assert again.module == encoder.module and again.fingerprint == encoder.fingerprint
    larger = load_encoder(f"{path}@24")
    assert larger.preprocessing.size == 24 and larger.params["positions"].shape == (6, 6, WIDTH)
    with pytest.raises(
        InputError, match=r"a ViT cannot read images of 17×17 .*multiple of a patch"
    ):
        at_size(encoder, 17)


def test_a_pose_network_has_one_size():
    said = r"encoder 'compact' at 120 pixels, not its 100: fc5/kernel has shape .*, expected"
    with pytest.raises(InputError, match=said):
        load_encoder("compact@120")
    assert load_encoder("compact@100").fingerprint == load_encoder("compact").fingerprint


@pytest.mark.parametrize(
    "name, becomes, said",
    [
        ("blocks.0.mlp.w12.weight", np.zeros((8, WIDTH)), "gated dense layers"),
        ("blocks.0.mlp.fc2.weight", np.zeros((WIDTH, WIDTH)), "gated dense layers"),
        ("blocks.1.attn.q_norm.weight", np.zeros(64), "q_norm.weight is not a parameter"),
        ("blocks.1.attn.qkv.bias", None, "blocks.1.attn.qkv.bias is missing"),
        ("blocks.0.ls1.gamma", np.zeros(3), "blocks.0.ls1.gamma has shape"),
        ("pos_embed", np.zeros((1, 12, WIDTH)), "12 positions, no square of patches"),
        ("pos_embed", np.zeros((12, WIDTH)), "pos_embed is missing or not of three axes"),
        ("patch_embed.proj.weight", np.zeros((100, 3, 4, 4)), "100 numbers, not a multiple"),
        ("norm.weight", np.zeros(3), "norm.weight has shape"),
        ("cls_token", None, "cls_token is missing"),
    ],
)
def test_what_is_wrong_is_named(drawn, name, becomes, said):
    arrays = torch_compared.state(drawn("dinov2")[0])
    arrays = {k: a for k, a in arrays.items() if k != name}
    if becomes is not None:
        arrays[name] = becomes.astype(np.float32)
    with pytest.raises(InputError, match=f"^theirs, read as ViT: .*{said}"):
        encoder_from_torch(arrays, size=SIZE, origin="theirs")


def test_heads_of_another_size_are_given(drawn):
    arrays = torch_compared.state(drawn("timm")[0])
    network = ViT(PATCH, WIDTH, DEPTH, 4, 2 * WIDTH, classes=7)
    assert encoder_from_torch(arrays, network=network, size=SIZE).module.heads == 4
    with pytest.raises(InputError, match="none of the networks that are known by names: alexnet"):
        encoder_from_torch({"conv1.weight": np.zeros((4, 3, 3, 3))})


def test_heads_follow_from_the_width():
    shapes = {
        "cls_token": (1, 1, 1280),
        "pos_embed": (1, 257, 1280),
        "patch_embed.proj.weight": (1280, 3, 14, 14),
        "blocks.0.attn.qkv.weight": (3840, 1280),
        "blocks.0.mlp.fc1.weight": (5120, 1280),
        "blocks.0.mlp.fc2.weight": (1280, 5120),
        "blocks.0.norm1.weight": (1280,),
    }
    assert ViT.for_arrays(shapes) == ViT(14, 1280, 1, heads=16, hidden=5120)
    assert importing.recognise(shapes) is ViT


def test_shapes_at_its_own_size():
    """DINOv2's ViT-S/14: 22,056,576 parameters less mask token, layer scale, and the positions
    that its grid has more than ours.
    """
    params, _ = parameter_shapes(ViT(), 224)
    fewer = 384 * (1 + 2 * 12 + 1 + 37**2 - 16**2)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 22_056_576 - fewer
    image = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    taps = jax.eval_shape(ViT().apply, {"params": params}, image)
    assert set(taps) == set(ViT().taps) and len(ViT().taps) == 26
    assert taps["block11"].shape == taps["patches"].shape == (2, 16, 16, 384)
    assert taps["features"].shape == (2, 384)
