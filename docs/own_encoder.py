# %% [markdown]
"""
# Invert your own encoder

A module that can be called is a function from an image to a descriptor: Flax NNX's and Equinox's
modules are inverted as they are. Half a minute on two cores; POSENET_TOUR_STEPS sets the steps.
"""

# %%
import os
from importlib.resources import files

import equinox as eqx
import jax
import numpy as np
from flax import nnx
from PIL import Image

import posenet_jax
from posenet_jax.images import image_files
from posenet_jax.images.contact_sheet import contact_sheet
from posenet_jax.images.image_list import list_images

STEPS = int(os.environ.get("POSENET_TOUR_STEPS", "200"))
recipe = posenet_jax.recipes.CALIBRATED.replace(steps=STEPS)

# %% [markdown]
# `Preprocessing` says what the network reads: 64 pixels a side, BGR, grey levels less these means.

# %%
space = posenet_jax.Preprocessing(means=(103.5, 116.3, 123.7), size=64)
paths = list_images(str(files(posenet_jax) / "demo_images"))
images = np.stack(image_files.read_images(paths, space).images)[:4]  # uint8 RGB [4, 64, 64, 3]


# %%
class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 32, (8, 8), strides=4, rngs=rngs)

    def __call__(self, image):  # [64, 64, 3] -> [16, 16, 32]
        return nnx.relu(self.conv(image / 57.0))


network = eqx.nn.Conv2d(3, 32, 8, stride=4, key=jax.random.key(0))


def mean_features(image, network=network):  # Equinox has channels first
    return jax.nn.relu(network(image.transpose(2, 0, 1) / 57.0)).mean(axis=(1, 2))  # [32]


# %% [markdown]
# The control is another image's descriptor: its relative loss is what an inversion has to beat. A
# map of features has the image in it; its mean over positions, 32 numbers, does not.

# %%
pictures = {"original": images}
for name, phi in (("NNX, map", Nnx(nnx.Rngs(0))), ("Equinox, mean", mean_features)):
    wanted = jax.vmap(phi)(space.to_network(images))
    result = posenet_jax.invert(phi, wanted, key=jax.random.key(0), recipe=recipe, space=space)
    pictures[name] = np.asarray(space.to_image(result.image))
    control = jax.vmap(posenet_jax.metrics.relative_loss)(wanted, np.roll(wanted, 1, axis=0))
    reached, other = np.median(result.relative_loss), np.median(control)
    print(f"{name}: relative loss {reached:.3f}, another image {other:.3f}")
Image.fromarray(contact_sheet(pictures))
