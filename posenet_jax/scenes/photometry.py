"""From rays' colours to a photograph: resolve, exposure, white balance, tone, lens and sensor.

Unbatched. Colours are display-referred, 1 = white; images leave as uint8.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from posenet_jax.numerics import seed_key
from posenet_jax.scenes.compression import TO_RGB, TO_YCBCR, compress
from posenet_jax.scenes.config import DevelopmentConfig, ViewConfig

Array = jax.Array

_MIDDLE = 0.44  # the mean that automatic exposure aims at


class Development(NamedTuple):
    """How one photograph differs from a plain one."""

    automatic: Array  # [] how far exposure is corrected toward a middle grey mean, 0-1
    gain: Array  # [3] exposure and white balance
    gamma: Array  # [] exponent on display-referred values
    contrast: Array  # [] slope about middle grey
    vignette: Array  # [] darkening at the corners, a fraction
    blur: Array  # [] weight of each neighbour in a 3-tap blur, below 1/3; negative: sharpened
    noise: Array  # [] standard deviation, 1 = white
    noise_key: Array  # [] key of the sensor's noise
    quality: Array | None = None  # [] of the JPEG file, 1-100; None: not compressed
    colours: Array | None = None  # [3, 3] matrix that RGB is multiplied by; None: as they are


def plain_development() -> Development:
    """No change at all."""
    zero, one = jnp.float32(0.0), jnp.float32(1.0)
    return Development(zero, jnp.ones(3), one, one, zero, zero, zero, seed_key(0))


def recolouring(hue: Array, saturation: Array) -> Array:
    """[3, 3] matrix on RGB that turns chroma by `hue`, radians, and multiplies it by `saturation`.

    Luma stays, and so do all greys: T⁻¹ M T, where T leads from RGB to YCbCr (ITU T.871) and M acts
    on both differences of colour alone.
    """
    cos, sin = saturation * jnp.cos(hue), saturation * jnp.sin(hue)
    zero, one = jnp.zeros_like(cos), jnp.ones_like(cos)
    rows = ((one, zero, zero), (zero, cos, -sin), (zero, sin, cos))
    turn = jnp.stack([jnp.stack(row) for row in rows])
    return jnp.float32(TO_RGB) @ turn @ jnp.float32(TO_YCBCR)


def _sample_recolouring(key: Array, config: DevelopmentConfig) -> Array | None:
    if not config.hue and not config.saturation:
        return None
    hue, saturation = jax.random.uniform(key, (2,), minval=-1.0)
    return recolouring(config.hue * hue, 1.0 + config.saturation * saturation)


def sample_development(key: Array, config: DevelopmentConfig) -> Development:
    """A random photograph's settings."""
    setting_key, colour_key, noise_key = jax.random.split(key, 3)
    r = jax.random.uniform(setting_key, (7,))
    jitter = config.colour_jitter * jax.random.normal(colour_key, (3,))
    low, high = config.automatic
    further = jax.random.uniform(jax.random.fold_in(key, 1), (2,))
    span = 100.0 - config.lowest_quality
    gain = jnp.exp(0.28 * (r[0] - 0.5) + jitter)
    return Development(
        automatic=low + (high - low) * r[6],
        gain=gain,
        gamma=0.85 + 0.35 * r[1],
        contrast=0.95 + 0.4 * r[2],
        vignette=0.25 * r[3] ** 2,
        blur=0.18 * r[4] ** 3 - config.sharpening * further[0],
        noise=config.noise * r[5] ** 2,
        noise_key=noise_key,
        quality=100.0 - span * further[1] if span else None,
        colours=_sample_recolouring(jax.random.fold_in(key, 2), config),
    )


def sample_developments(key: Array, config: DevelopmentConfig) -> Development:
    """Settings of the two photographs of a pair, leading axis 2; each has noise of its own.

    `config.difference` says how far apart they are: 0, one camera's settings for both;
    1, two settings drawn apart.
    """
    shared_key, *own_keys = jax.random.split(key, 3)
    shared = sample_development(shared_key, config)
    own = jax.vmap(lambda k: sample_development(k, config))(jnp.stack(own_keys))
    share = config.difference

    def mix(common: Array, apart: Array) -> Array:
        return common[None] + share * (apart - common[None])

    # The key is no number to be mixed: each photograph has its own.
    shared = shared._replace(noise_key=own.noise_key)
    return jax.tree.map(
        lambda a, b: b if jnp.issubdtype(b.dtype, jax.dtypes.prng_key) else mix(a, b), shared, own
    )


def resolve(colour: tuple[Array, Array, Array], config: ViewConfig) -> Array:
    """Rays' colours [R] x 3 -> [3, H, W], by the weights of the antialiasing scheme."""
    height, width = config.height, config.width
    planes = []
    for plane in colour:
        if config.rays == 4:
            planes.append(plane.reshape(4, height, width).mean(axis=0))
            continue
        centre = plane[: height * width].reshape(height, width)
        if config.rays == 2:
            corner = plane[height * width :].reshape(height + 1, width + 1)
            rows = corner[1:] + corner[:-1]
            centre = 0.5 * centre + 0.125 * (rows[:, 1:] + rows[:, :-1])
        planes.append(centre)
    return jnp.stack(planes)


def blur(image: Array, weight: Array) -> Array:
    """[3, H, W] image under the separable kernel (w, 1 - 2 w, w); borders replicate."""
    for axis in (1, 2):
        size = image.shape[axis]
        padded = jnp.pad(image, [(int(axis == a),) * 2 for a in range(3)], mode="edge")
        before = jax.lax.slice_in_dim(padded, 0, size, axis=axis)
        after = jax.lax.slice_in_dim(padded, 2, size + 2, axis=axis)
        image = image + weight * (before + after - 2.0 * image)
    return image


def _sensor_noise(key: Array, shape: tuple[int, int]) -> Array:
    """[3, H, W] uniform noise of unit variance: three bytes of one random word a pixel."""
    word = jax.random.bits(key, shape)
    byte = jnp.stack([(word >> shift) & 255 for shift in (0, 8, 16)]).astype(jnp.float32)
    return (byte - 127.5) * (12.0**0.5 / 255.0)


def develop(image: Array, development: Development) -> Array:
    """[3, H, W] colours, already blurred -> uint8 [3, H, W]."""
    height, width = image.shape[1:]
    y = (jnp.arange(height) + 0.5) / height - 0.5
    x = (jnp.arange(width) + 0.5) / width - 0.5
    falloff = 1.0 - development.vignette * 2.0 * (x[None] ** 2 + y[:, None] ** 2)
    # Metered below the sky, as cameras do, or a bright sky would turn streets black.
    metered = image[:, height // 3 :].mean()
    exposure = jnp.exp(development.automatic * jnp.log(_MIDDLE / (metered + 0.02)))
    gain = (exposure * development.gain)[:, None, None]
    image = image * gain * falloff[None]
    image = jnp.exp(development.gamma * jnp.log(jnp.maximum(image, 1e-4)))
    image = 0.5 + development.contrast * (image - 0.5)
    if development.colours is not None:
        image = jnp.einsum("kc,chw->khw", development.colours, image)
    image = image + development.noise * _sensor_noise(development.noise_key, (height, width))
    image = jnp.round(255.0 * jnp.clip(image, 0.0, 1.0)).astype(jnp.uint8)
    return image if development.quality is None else compress(image, development.quality)
