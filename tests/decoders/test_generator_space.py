"""A generator's space: its gradient, its first picture, inversions in it, what is refused."""

import dataclasses
import functools

import code_blocks
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import posenet_jax
from posenet_jax.decoders import generator_space, named_inversion
from posenet_jax.decoders.decoder_network import DecoderNetwork
from posenet_jax.decoders.decoding import Decoder
from posenet_jax.errors import InputError
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import recipes
from posenet_jax.inversion.recipes import NATURAL

KEY = jax.random.key(3)
SIDE, LENGTH, NOISE = 16, 6, 4
SPACE = Preprocessing(means=(90.0, 100.0, 110.0), size=SIDE)
RNG = np.random.default_rng(0)
MATRIX = RNG.normal(0, 0.02, (LENGTH, SIDE * SIDE * 3)).astype(np.float32)
FEW = NATURAL.replace(steps=60)


class _Norm(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(use_running_average=True, name="norm")(nn.softplus(x))


class Tiny(DecoderNetwork):
    """Maps of 4, then of 16 pixels a side: the first are coarse, the second are not."""

    @nn.compact
    def __call__(self, descriptor, *, train=False):
        x = nn.Dense(4 * 4 * 5, name="small")(descriptor).reshape((*descriptor.shape[:-1], 4, 4, 5))
        x = _Norm(name="small_norm")(x).repeat(4, axis=-3).repeat(4, axis=-2)
        x = _Norm(name="fine_norm")(nn.Conv(4, (3, 3), name="fine")(x))
        return 0.1 * nn.Conv(3, (3, 3), name="image")(x)


def phi(image):
    return jnp.asarray(MATRIX) @ image.ravel()


TARGETS = np.asarray(jax.vmap(phi)(RNG.normal(0, 50, (3, SIDE, SIDE, 3)).astype(np.float32)))


@functools.cache
def _decoder(seed=0, noise=NOISE):
    module = Tiny()
    inputs = jnp.zeros(LENGTH + noise)
    variables = jax.jit(module.init)(jax.random.key(seed), inputs)
    return Decoder(
        variables=variables,
        descriptor_scale=jnp.float32(4.0),
        module=module,
        descriptor_shape=(LENGTH,),
        layer="fc5",
        encoder="tiny",
        encoder_fingerprint="0" * 16,
        preprocessing=SPACE,
        noise=(noise,) if noise else (),
        name="own",
    )


def _invert(recipe=FEW, targets=TARGETS):
    return posenet_jax.invert(
        phi,
        targets,
        key=KEY,
        recipe=recipe,
        space=SPACE,
        generator=_decoder(),
        slots=2,
    )


def _pictures(decoder):
    """Returns the decoder's own pictures of the targets, each of half its noise in `invert`."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(KEY, jnp.arange(len(TARGETS)))
    noise = jax.vmap(lambda key: jax.random.normal(key, decoder.noise, jnp.float32))(keys)
    return np.asarray(jax.jit(decoder.__call__)(TARGETS, 0.5 * noise))


@pytest.mark.parametrize("features", [False, True])
@pytest.mark.parametrize("noise", [0, NOISE])
def test_inversions_begin_with_the_decoders_picture(features, noise):
    decoder = _decoder(noise=noise)
    space = generator_space.parameterisation(decoder, features)
    key = jax.random.fold_in(KEY, 0)
    first = jax.jit(lambda: space.image(space.begin(key, TARGETS[0]), SIDE))()
    np.testing.assert_allclose(first, _pictures(decoder)[0], atol=1e-3)
    assert np.std(first) > 1.0


def test_the_gradient_matches_finite_differences():
    space = generator_space.parameterisation(_decoder(), features=True)
    parameters = space.begin(KEY, TARGETS[0])
    assert {name: own.shape for name, own in parameters["maps"].items()} == {"small": (4, 4, 5)}
    weights = RNG.normal(size=(SIDE, SIDE, 3)).astype(np.float32)

    def value(parameters):
        return jnp.sum(jnp.asarray(weights) * jnp.tanh(0.05 * space.image(parameters, SIDE)))

    gradient = jax.jit(jax.grad(value))(parameters)
    assert not np.any(gradient["inputs"])  # the target stays the target
    for group in ("noise", "maps", "pixels"):
        along = jax.tree.map(
            lambda x: RNG.normal(size=x.shape).astype(np.float32), parameters[group]
        )
        moved = [
            float(value(parameters | {group: jax.tree.map(lambda d, h=h: h * d, along)}))
            for h in (0.05, -0.05)
        ]
        both = zip(jax.tree.leaves(gradient[group]), jax.tree.leaves(along), strict=True)
        found = sum(float(np.vdot(own, d)) for own, d in both)
        expected = (moved[0] - moved[1]) / 0.1
        assert abs(expected) > 1e-3 and found == pytest.approx(expected, rel=2e-2)


def test_a_step_of_one_moves_the_image_by_the_groups_share_of_a_grey_level():
    decoder = _decoder()
    inputs = decoder.inputs(np.zeros(LENGTH, np.float32))
    generated = jax.jit(functools.partial(generator_space.generated, decoder))
    unit = generator_space.step_units(decoder)["small"]
    signs = np.float32(RNG.choice([-1, 1], (4, 4, 5)))
    images = [generated(inputs, {"small": h * unit * signs}) for h in (1e-2, 0)]
    moved = np.sqrt(np.mean(np.square(images[0] - images[1]))) / 1e-2
    assert 0.5 < moved / generator_space._STEP["maps"] < 2.0


def test_inversions_reach_their_targets_from_the_generators_pictures():
    """The first iterate, a single step's result, is the decoder's picture of the job's key."""
    np.testing.assert_allclose(
        _invert(FEW.replace(steps=1)).image, _pictures(_decoder()), atol=1e-3
    )
    result = _invert()
    assert np.all(result.relative_loss < 0.05), result.relative_loss
    once = posenet_jax.solve(
        phi,
        TARGETS[1],
        key=jax.random.fold_in(KEY, 1),
        recipe=generator_space.recipe_in(FEW, _decoder()),
        space=SPACE,
    )
    np.testing.assert_allclose(once.image, result.image[1], atol=0.5)


def test_features_are_moved_and_reach_their_targets():
    recipe = generator_space.recipe_in(FEW, _decoder(), features=True)
    result = posenet_jax.solve(phi, TARGETS[1], key=KEY, recipe=recipe, space=SPACE)
    assert result.relative_loss < 0.05
    error = np.linalg.norm(phi(result.image) - TARGETS[1]) / np.linalg.norm(TARGETS[1])
    assert error == pytest.approx(float(result.descriptor_error), rel=1e-2, abs=1e-5)


def test_a_generator_is_known_by_its_weights_and_recorded():
    again = dataclasses.replace(_decoder(), variables=dict(_decoder().variables))
    own = generator_space.recipe_in(NATURAL, _decoder())
    assert generator_space.recipe_in(NATURAL, again) == own
    assert generator_space.recipe_in(NATURAL, _decoder(seed=1)) != own
    named = recipes.record(own)["parameterisation"]
    assert named == f"pixels, begun in own {_decoder().fingerprint}, noise 0.5"
    assert generator_space.recipe_in(NATURAL, again, features=True) != own
    assert generator_space.recipe_in(recipes.WARM, None) is recipes.WARM


def test_what_has_no_generator_is_refused():
    other = posenet_jax.load_encoder("rendered")
    with pytest.raises(InputError, match="no generator is bundled for conv4 of encoder 'rendered'"):
        generator_space.generator_for(other, "conv4")
    with pytest.raises(InputError, match="none is bundled for layer fc5 of this encoder"):
        named_inversion.invert(other.tap("fc5"), TARGETS, key=KEY, recipe="natural")
    with pytest.raises(InputError, match="none is bundled for this function"):
        posenet_jax.invert(phi, TARGETS, key=KEY, recipe="natural", space=SPACE)
    with pytest.raises(InputError, match="recipe 'natural' begins in a generator"):
        posenet_jax.engine.invert(phi, TARGETS, key=KEY, recipe=NATURAL, space=SPACE)
    with pytest.raises(InputError, match="no recipe 'natrual'; there are paper, paper_no_prior"):
        posenet_jax.invert(phi, TARGETS, key=KEY, recipe="natrual", space=SPACE)
    with pytest.raises(InputError, match="recipe 'calibrated' has no use for a generator"):
        _invert("calibrated")
    with pytest.raises(InputError, match=r"reads descriptors \[6\], and targets are \[5\]"):
        _invert(targets=TARGETS[:, :5])
    with pytest.raises(InputError, match="takes no parameterisation besides"):
        _invert(FEW.replace(parameterisation="fourier"))
    with pytest.raises(InputError, match="give a decoder"):
        generator_space.recipe_in(NATURAL, None)


@pytest.mark.parametrize("layer", ["fc5", "conv4"])
def test_the_bundled_generator_is_found_by_the_encoders_weights(layer):
    tap = posenet_jax.load_encoder("streetnet").tap(layer)
    found = named_inversion._bundled(tap, NATURAL)
    assert found.name == f"streetnet-{layer}-adversarial"
    assert found.encoder_fingerprint == posenet_jax.load_encoder("streetnet").fingerprint


def test_the_page_on_the_learned_prior_runs(monkeypatch):
    """With the small generator in the place of the bundled one, in two steps."""
    two = NATURAL.replace(steps=2)
    monkeypatch.setitem(recipes.RECIPES, "natural", two)
    monkeypatch.setattr(recipes, "NATURAL", two)
    monkeypatch.setattr(named_inversion, "_bundled", lambda encode, recipe: _decoder())
    given = functools.partial(posenet_jax.invert, space=SPACE, slots=2)
    monkeypatch.setattr(posenet_jax, "invert", given)
    names = {"jax": jax, "posenet_jax": posenet_jax, "recipes": recipes, "phi": phi}
    names |= {"targets": TARGETS, "generator": _decoder()}
    for block in code_blocks.python("docs/natural.md"):
        exec(block, names)
    assert np.all(names["result"].steps == 2) and np.isfinite(names["result"].image).all()
    moved = given(phi, TARGETS, key=KEY, recipe=names["recipe"])
    assert np.all(moved.steps == 2)
    assert np.isfinite(moved.image).all() and np.any(moved.image != names["result"].image)
