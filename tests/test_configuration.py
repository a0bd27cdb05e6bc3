"""The caller's configuration of JAX: the same dtypes and the same bits, whatever it is."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from PIL import Image

import posenet_jax
from posenet_jax import geometry, metrics, numerics, reconstruction, scenes
from posenet_jax.bulk import extraction
from posenet_jax.data.sources import FolderImages
from posenet_jax.decoders import decoding
from posenet_jax.decoders.decoding import Decoder
from posenet_jax.decoders.networks import Mirror
from posenet_jax.encoders import weights
from posenet_jax.encoders.encoder import Encoder
from posenet_jax.evaluation import measures
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import engine, recipes
from posenet_jax.inversion.slots import Job

# All at once, since each is noticed beside the others: what is compiled depends on them together,
# and compiling is what these tests take their time for.
CONFIGURATION: dict[str, Any] = {
    "jax_enable_x64": True,
    "jax_numpy_dtype_promotion": "strict",
    "jax_debug_infs": True,
    "jax_debug_nans": True,
    "jax_default_prng_impl": "rbg",
    "jax_numpy_rank_promotion": "allow",
    "jax_default_matmul_precision": "highest",
}

SPACE = Preprocessing(means=(90.0, 100.0, 110.0), size=48)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 3), np.uint8)
_MATRIX = np.random.default_rng(1).normal(0, 0.02, (12, 48 * 48 * 3)).astype(np.float32)


def key() -> jax.Array:
    return jax.random.key(7, impl="threefry2x32")


def phi(image):
    return jax.nn.softplus(jnp.asarray(_MATRIX) @ image.ravel())


def breaking(image):
    """Not finite as soon as one pixel is bright."""
    return phi(image) * jnp.where(image[0, 0, 0] > 5.0, jnp.nan, 1.0)


@functools.cache
def targets() -> np.ndarray:
    network = np.asarray(SPACE.to_network(IMAGES)).reshape(3, -1)
    return np.logaddexp(0.0, network @ _MATRIX.T).astype(np.float32)


@functools.cache
def encoder() -> Encoder:
    return weights.random_encoder("compact", preprocessing=SPACE)


# What is public, in small ----------------------------------------------------------------------


def spaces(_):
    other = Preprocessing(means=(1.0, 2.0, 3.0), channel_order="RGB", scale=0.5)
    x = SPACE.to_network(IMAGES)
    return x, SPACE.to_image(x), SPACE.to_space(x, other)


def inverted(_):
    priors = {"tv": 1e-6, "tv_squared": 1e-6, "l6_norm": 1e-6}
    own = {"priors": priors, "schedule": "cosine", "patience": 3, "warmup": 3}
    chosen = [
        (recipes.PAPER.replace(steps=4), {}),
        (recipes.PAPER.replace(steps=4, stop_early=True, **own), {"chunk": 3}),
        (recipes.WARM.replace(steps=4), {"start": np.asarray(SPACE.to_network(IMAGES), float)}),
    ]
    found = [
        posenet_jax.invert(phi, targets(), key=key(), recipe=recipe, space=SPACE, **options)
        for recipe, options in chosen
    ]
    return [vars(result) for result in found]


def ran(_):
    jobs = [Job(i, t, restart=r) for i, t in enumerate(targets()) for r in range(2)]
    options = {"key": key(), "recipe": recipes.CALIBRATED.replace(steps=4), "space": SPACE}
    done = list(engine.run(breaking, jobs, slots=2, **options))
    assert {one.starts for one in done} == {1, 2}  # some began anew: what is not finite was met
    return [vars(one) for one in done]


def solved(_):
    recipe = recipes.CALIBRATED.replace(steps=3)

    def one(target):
        return posenet_jax.solve(phi, target, key=key(), recipe=recipe, space=SPACE)

    return vars(one(targets()[0])), vars(jax.jit(jax.vmap(one))(targets()))


def tapped(_):
    made, x = weights.random_encoder("compact", preprocessing=SPACE), SPACE.to_network(IMAGES[0])
    zeros = jnp.zeros((48, 48, 3))  # float64 where the caller works in 64 bits

    @jax.jit
    def several(x, zeros):
        gradient = jax.grad(lambda image: jnp.sum(made.tap("fc5")(image)))(x)
        return made.tap("conv2")(x), made.tap("conv4")(zeros), gradient

    return made.params, made.tap("fc5")(x), several(x, zeros)


def predicted(_):
    trained = posenet_jax.load_encoder("compact")
    first, second = np.linspace(0.0, 1.0, 1024).astype(np.float32).reshape(2, 512)
    heads = trained.heads(first, jnp.asarray(second))
    return trained.params, vars(heads), trained.pose_scale.restore(heads.pose)


def decoded(folder):
    read = np.linspace(0.0, 2.0, 3 * 512).reshape(3, 512).astype(np.float32)
    variables = jax.jit(Mirror().init)(key(), jax.ShapeDtypeStruct((515,), jnp.float32))
    made = Decoder(variables, jnp.float32(3.0), Mirror(), (512,), "fc5", "", "", SPACE, noise=(3,))
    path = folder / "decoder.safetensors"
    decoding.save_decoder(path, made, "float32")
    read_again = decoding.load_decoder(path)
    return [decoding.decode(read_again, x, key()) for x in (read, read.astype(np.float64))]


def extracted(folder):
    (folder / "images").mkdir()
    for number, image in enumerate(IMAGES):
        Image.fromarray(image).save(folder / "images" / f"{number}.png")
    config = extraction.ExtractionConfig(batch_size=2, shard_size=2)
    source = FolderImages(folder / "images")
    extraction.extract(encoder(), "fc5", source, folder / "out", config)
    mesh = Mesh(np.asarray(jax.local_devices()), ("images",))
    encoded = extraction.encode(encoder().tap("fc5"), IMAGES[:2], mesh)
    return encoded, list(extraction.read_descriptors(folder / "out").descriptors)


def measured(_):
    one, other, angle = jnp.asarray(IMAGES[0]), jnp.asarray(IMAGES[1]), jnp.float32(0.3)
    a, b = targets()[:2]

    @jax.jit
    def finite(one, other, a, b):
        return [
            metrics.relative_loss(a, b),
            metrics.pairwise_normalised_errors(targets(), targets()[::-1].copy()),
            metrics.luminance(one),
            metrics.luminance_correlation(one, other),
            metrics.ssim(one, other),
            metrics.spectral_deviation(one),
            geometry.camera_rotation(angle, angle, angle),
            geometry.pixel_rays(3, 4, angle),
        ]

    infinite = metrics.psnr(one, one), metrics.descriptor_error(a, np.zeros_like(a))
    return finite(one, other, a, b), infinite, metrics.descriptor_error(a, b)


def reconstructed(_):
    recipe, judge = recipes.CALIBRATED.replace(steps=3), encoder().tap("conv4")
    made = reconstruction.reconstruct(encoder(), "fc5", IMAGES, key=key(), recipe=recipe)
    tap = encoder().tap("fc5")
    seen = tap.describe(IMAGES)
    context = measures.Context(tap, seen, IMAGES, IMAGES, judge, encoder())
    same = measures.measured(context)  # infinite PSNR
    return {**vars(made), "result": vars(made.result)}, same


def rendered(_):
    config = scenes.SceneConfig(height=32, width=32, rays=1)
    atlas = scenes.procedural_atlas(key(), 4, size=16)
    views = scenes.render_pairs(jax.random.split(key(), 6), atlas, config, geometry=True)
    camera = scenes.Camera(views.rotation[0, 0], views.centre[0, 0], views.field_of_view[0, 0])
    return views._asdict(), scenes.moved(camera, yaw=0.1), scenes.vanishing_points(camera, 8, 8)


def drawn(_):
    return scenes.procedural_atlas(key(), 1, size=16)


SURFACE = [
    spaces,
    inverted,
    ran,
    solved,
    tapped,
    predicted,
    decoded,
    extracted,
    measured,
    reconstructed,
    rendered,
    drawn,
]


@contextlib.contextmanager
def configured(options: dict[str, Any]):
    """As a caller would: for all threads."""
    before = {name: getattr(jax.config, name) for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


def leaves(tree: Any) -> dict[str, np.ndarray]:
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in flat}


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> Callable[[Callable], dict[str, np.ndarray]]:
    """What JAX as it is installed gives."""

    @functools.cache
    def made(part):
        return leaves(part(tmp_path_factory.mktemp("expected")))

    return made


@pytest.mark.parametrize("part", SURFACE, ids=lambda part: part.__name__)
def test_dtypes_and_bits_are_the_same_whatever_the_caller_has_set(part, expected, tmp_path):
    wanted = expected(part)
    with configured(CONFIGURATION):
        found = leaves(part(tmp_path))
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype, name
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_documented_dtypes(expected):
    """Not only the same as ever, but as the docstrings say."""
    result = expected(inverted)
    images = [value for name, value in result.items() if "image" in name]
    assert len(images) == 3 and all(value.dtype == np.float32 for value in images)
    steps = [value for name, value in result.items() if "steps" in name or "status" in name]
    assert len(steps) == 6 and all(value.dtype == np.int32 for value in steps)
    assert all(value.dtype == np.float32 for value in expected(tapped).values())


@pytest.mark.parametrize("setting", CONFIGURATION)
def test_the_caller_finds_the_configuration_again_and_phi_never_loses_it(setting):
    options, seen = {setting: CONFIGURATION[setting]}, []

    def state():
        return {name: getattr(jax.config, name) for name in options}

    def curious(image):
        if setting not in ("jax_debug_infs", "jax_debug_nans"):  # set aside for the call
            seen.append(state())
        return phi(image)

    with configured(options):
        recipe = recipes.CALIBRATED.replace(steps=1)
        done = engine.run(
            curious, [Job(0, targets()[0])], key=key(), recipe=recipe, space=SPACE, slots=2
        )
        next(done)
        assert state() == options  # in the midst of a run, too
        list(done)
        assert state() == options
    assert all(one == options for one in seen)


def test_64_bit_arguments_are_taken_as_32_bits():
    camera = scenes.Camera(np.eye(3, dtype=np.float32), np.zeros(3, np.float32), np.float32(1.0))
    expected = scenes.moved(camera, yaw=0.1, translation=(1.0, 2.0, 3.0))
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), camera)
        way = jnp.arange(1, 4)
        found = scenes.moved(wide, yaw=jnp.float64(0.1), translation=way)
        assert way.dtype == jnp.int64 and wide.rotation.dtype == jnp.float64
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == jnp.float32
        np.testing.assert_array_equal(one, other)


def test_a_seed_is_the_same_key_whatever_generator_is_the_default():
    with jax.default_prng_impl("rbg"):
        assert numerics.seed_key(3) == jax.random.key(3, impl="threefry2x32")
