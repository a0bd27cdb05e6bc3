# %% [markdown]
"""
# Train an encoder, and judge it

`compact`, the smaller of the two architectures that can be trained here, on rendered streets, for
a few steps: enough to see what is measured, not enough for a good network. A minute on two cores,
most of it compilation; POSENET_TOUR_STEPS sets the steps.
"""

# %%
import os
from importlib.resources import files

import jax
from PIL import Image

import posenet_jax
from posenet_jax import scenes, sharding
from posenet_jax.data.training_pairs import RenderedPairs
from posenet_jax.evaluation import pose_evaluation
from posenet_jax.images.contact_sheet import contact_sheet
from posenet_jax.io.output_folder import prepare_workdir
from posenet_jax.training import encoder_runs
from posenet_jax.training.pose_training import TrainConfig

jax.config.update("jax_disable_most_optimizations", True)  # compiles in half the time
STEPS = int(os.environ.get("POSENET_TOUR_STEPS", "24"))
workdir, mesh = prepare_workdir("runs/train_and_judge"), sharding.device_mesh("pairs")

# %% [markdown]
# Two views of one target, and the camera's rotation and step between them: what the network is to
# tell. Held-out streets have other keys.

# %%
atlas = scenes.atlas_from_folder(str(files(posenet_jax) / "demo_images")).atlas  # for facades
rendered = RenderedPairs(atlas, scenes.SceneConfig(rays=1), 8, mesh)
config = TrainConfig(
    architecture="compact", steps=STEPS, rendered_pairs=8, photo_pairs=0, warmup_steps=4
)
data = encoder_runs.prepare(0, {"rendered": rendered}, rendered, held_out_pairs=32)
views = data.held_out.image[:6]
Image.fromarray(contact_sheet({"first view": views[:, 0], "second view": views[:, 1]}))

# %%
for step, found, _ in encoder_runs.train(config, data, workdir, mesh):
    if found and step % 8 == 0:
        print(f"step {step}: loss {found['loss']:.2f}")

# %% [markdown]
# A rotation error says something beside that of a constant answer: *identity* is that the camera
# never turned. After so few steps no network is better than that.

# %%
encoders = {"trained here": posenet_jax.load_encoder(workdir / encoder_runs.WEIGHTS)}
encoders |= {name: posenet_jax.load_encoder(name) for name in ("compact", "streetnet")}
for name, encoder in encoders.items():
    found = pose_evaluation.evaluate_rendered(encoder, data.held_out, mesh).metrics
    error, identity = found["rotation_median_deg"], found["identity_median_deg"]
    print(f"{name}: median rotation error {error:.1f}°, identity {identity:.1f}°")
