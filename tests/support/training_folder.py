"""Folders as train_posenet leaves them, their weights random."""

import json

from posenet_jax.encoders import weights


def write(folder, seed, *, tasks=("pose",), pairs=("together",), radius=0.0, kept=()):
    """Writes a training of 9 steps, and weights that were kept after fewer."""
    folder.mkdir(parents=True)
    for step in kept:
        encoder = weights.random_encoder("compact", seed=seed + 10 * step)
        weights.save_encoder(folder / f"weights-{step}.safetensors", encoder)
    encoder = weights.random_encoder("compact", seed=seed)
    weights.save_encoder(folder / "weights.safetensors", encoder)
    (folder / "weights.json").write_text(json.dumps({"steps": 9}))
    options = {"tasks": tasks, "vary": pairs, "robust_radius": radius, "start": None}
    (folder / "run.json").write_text(json.dumps({"flags": {"seed": 3}, "options": options}))
    rows = "step,rotation_median_deg,normal_median_deg\n4,30.5,\n9,20.25,7\n"
    (folder / "metrics.csv").write_text(rows)
