# %% [markdown]
"""
# A guided tour

A network trained for camera pose turns an image of 100×100 pixels into a descriptor. What is left
of the image in it? Run this file as it is (`python docs/tour.py`, a minute or two on two cores),
or cell by cell in an editor that knows `# %%`. Pictures go to `runs/tour`; nothing but the
package is needed. POSENET_TOUR_STEPS sets the steps of the inversions, 300 if not given.
"""

# %%
import dataclasses
import os
from importlib.resources import files
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from PIL import Image

import posenet_jax
from posenet_jax import metrics, scenes
from posenet_jax.analysis import probes
from posenet_jax.images import image_files
from posenet_jax.images.contact_sheet import image_grid
from posenet_jax.images.image_list import list_images
from posenet_jax.io.files import prepare_output

STEPS = int(os.environ.get("POSENET_TOUR_STEPS", "300"))
OUT = prepare_output(Path("runs/tour"))
recipe = posenet_jax.recipes.CALIBRATED.replace(steps=STEPS)

# %% [markdown]
# ## An encoder is a function
#
# `tap` is a layer as a function of an image, or of a batch. It reads *network space*: float32, BGR,
# less the means of the data that the network was trained on. `preprocessing` goes there and back;
# `describe` reads any number of images as they are.

# %%
encoder = posenet_jax.load_encoder("streetnet")
space, phi = encoder.preprocessing, encoder.tap("fc5")
paths = list_images(str(files(posenet_jax) / "demo_images"))
images = np.stack(image_files.read_images(paths, space).images)
targets = phi.describe(images)
print(f"{images.shape} uint8 RGB -> descriptors {targets.shape}")

# %% [markdown]
# ## Inversion
#
# Images whose descriptor is the same, found by gradient descent in image space. Beside them those
# of an untrained network: what any network of this shape gives back.

# %%
untrained = posenet_jax.load_encoder("streetnet-random-0")
pictures = {"original": images}
for name, one in (("fc5", encoder), ("fc5 untrained", untrained)):
    tap = one.tap("fc5")
    wanted = tap.describe(images)
    result = posenet_jax.invert(tap, wanted, key=jax.random.key(0), recipe=recipe, space=space)
    pictures[name] = np.asarray(space.to_image(result.image))
    print(f"{name}: relative losses {np.round(np.asarray(result.relative_loss), 3)}")

# %% [markdown]
# Two images with the same descriptor can look different, so there are two measures: *fidelity*, the
# relative loss between descriptors (eq. 3 of the paper), and *visibility*, the correlation of grey
# values between images. The control of each is the same measure with another image.

# %%
correlate = jax.vmap(metrics.luminance_correlation)
for name in ("fc5", "fc5 untrained"):
    own = correlate(jnp.asarray(pictures[name]), jnp.asarray(images))
    other = correlate(jnp.asarray(pictures[name]), jnp.asarray(np.roll(images, 1, axis=0)))
    print(f"{name}: light and dark {np.mean(own):.2f}, with another image {np.mean(other):.2f}")

# %% [markdown]
# ## Decoding
#
# What the descriptor determines on average, in one pass; and, by a decoder trained against a
# discriminator, several sharp images of each descriptor: what they share is kept, what differs is
# invented.

# %%
pictures["decoded"] = np.asarray(
    space.to_image(posenet_jax.decode(posenet_jax.load_decoder("streetnet-fc5"), targets))
)
generator = posenet_jax.load_decoder("streetnet-fc5-adversarial")
for number in range(2):
    drawn = posenet_jax.decode(generator, targets, jax.random.key(number))
    pictures[f"draw {number + 1}"] = np.asarray(space.to_image(drawn))
image_grid(OUT / "pictures.png", pictures)
Image.open(OUT / "pictures.png")

# %% [markdown]
# ## A function of your own
#
# Any function from one image to one descriptor can be inverted: here a Flax network with its
# variables bound, and an object that can be called, as Equinox's modules are. Both say what images
# they read with `space`.


# %%
class Blobs(nn.Module):
    """Means of 8×8 filters over blocks of the image."""

    @nn.compact
    def __call__(self, image):
        return nn.Conv(16, (8, 8), strides=8)(image / 128.0)


network = Blobs()
variables = network.init(jax.random.key(0), jnp.zeros((100, 100, 3)))
of_flax = jax.tree_util.Partial(network.apply, variables)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Thumbnail:
    """A pytree that can be called: its arrays are arguments of the compiled program."""

    gain: jax.Array

    def __call__(self, image):
        return self.gain * jax.image.resize(image, (10, 10, 3), "linear")


for name, function in (("Flax", of_flax), ("callable", Thumbnail(jnp.float32(0.1)))):
    wanted = jax.vmap(function)(space.to_network(images[:1]))
    result = posenet_jax.invert(function, wanted, key=jax.random.key(0), recipe=recipe, space=space)
    print(f"{name}: relative loss {float(result.relative_loss[0]):.3f}")

# %% [markdown]
# ## Scenes with ground truth
#
# The depth of rendered streets is known. Can it be predicted from the descriptor? A linear probe is
# fitted on some streets and scored on others; R² is 0 for always predicting the mean.

# %%
atlas = scenes.procedural_atlas(jax.random.key(1))
config = scenes.SceneConfig()
views = [
    scenes.render_pairs(jax.random.split(jax.random.key(seed), 32), atlas, config, geometry=True)
    for seed in range(2, 6)
]
streets = np.concatenate([view.image[:, 0] for view in views])
depth = np.concatenate([np.minimum(view.geometry.depth[:, 0], 100.0) for view in views])
middle = np.log(depth[:, 40:60, 40:60]).mean(axis=(1, 2))[:, None]
split = 3 * len(streets) // 4
for name, one in (("trained", encoder), ("untrained", untrained)):
    seen = one.tap("fc5").describe(streets)
    score = probes.score(seen[:split], middle[:split], seen[split:], middle[split:])
    print(f"{name}: R² of the depth ahead {score.value:.2f} [{score.low:.2f}, {score.high:.2f}]")

# %% [markdown]
# On 96 streets that is a first look with a wide interval; `posenet-jax measure_retention` does it
# on 1,024, and `posenet-jax report` puts everything on one page.
