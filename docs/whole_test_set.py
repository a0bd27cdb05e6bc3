# %% [markdown]
"""
# A whole test set

`invert_all` inverts any number of images, streamed to disk: here the eight demo images, a folder.
A run that was killed goes on where it ended, when the same call is made again. Half a minute on
two cores; POSENET_TOUR_STEPS sets the steps.
"""

# %%
import csv
import os
from importlib.resources import files
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

import posenet_jax
from posenet_jax.images.contact_sheet import contact_sheet

STEPS = int(os.environ.get("POSENET_TOUR_STEPS", "60"))
OUT = Path("runs/whole_test_set")

# %%
encoder = posenet_jax.load_encoder("streetnet")
source = posenet_jax.FolderImages(str(files(posenet_jax) / "demo_images"))
recipe = posenet_jax.RECIPES["quick"].replace(steps=STEPS)
config = posenet_jax.BulkConfig(restarts=2, seed=0)
summary = posenet_jax.invert_all(encoder, "fc5", source, OUT, recipe, config)
print(f"{summary.inverted} images inverted, {summary.left_out} left out")

# %% [markdown]
# A second call finds everything done and computes nothing.

# %%
again = posenet_jax.invert_all(encoder, "fc5", source, OUT, recipe, config)
print(f"{again.new} images inverted anew")

# %% [markdown]
# `results.csv` has a row for each image and restart: fidelity (`relative_loss`), visibility
# (`luminance_correlation`), and beside each its control, which is the same for another image.

# %%
with open(OUT / "results.csv", newline="", encoding="utf-8") as file:
    rows = list(csv.DictReader(file))
for column in ("relative_loss", "luminance_correlation"):
    own = np.median([float(row[column]) for row in rows])
    other = np.median([float(row[f"other_{column}"]) for row in rows])
    print(f"{column}: median {own:.3f}, another image {other:.3f}")

# %% [markdown]
# The pictures are a TensorFlow data set, read without TensorFlow: each restart's, and how much the
# restarts differ from pixel to pixel.

# %%
examples = list(tfds.builder_from_directory(OUT).as_data_source("images"))
names = [Path(example["name"].decode()).stem for example in examples]
restarts = np.stack([example["image"] for example in examples])  # [8, 2, 100, 100, 3]
columns = {"restart 0": restarts[:, 0], "restart 1": restarts[:, 1]}
Image.fromarray(contact_sheet(columns, row_labels=names))
