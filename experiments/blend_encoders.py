"""Writes the encoder whose weights lie between those of two.

    posenet-jax blend_encoders --encoder=streetnet --other=runs/robust/weights.safetensors \\
        --out=runs/blend

For a network and what it became in a short further training: the weights between them often keep
what both know. Measure the blend (evaluate_posenet) before you believe it; of two networks trained
apart it is worth nothing. Writes weights.safetensors and run.json.
"""

from absl import flags

from .common import buckets, options, runtime

_ENCODER = options.encoder()
_OTHER = buckets.string("other", None, "The other encoder, named as --encoder is.", required=True)
_SHARE = flags.DEFINE_float(
    "share", 0.5, "Share of --other in the weights; the rest is of --encoder.", 0.0, 1.0
)
_OUT = options.out()

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse()

from posenet_jax.encoders import weights
from posenet_jax.encoders.blending import blended
from posenet_jax.io import files, output_folder


def main() -> int:
    """Blends and writes the weights; returns the exit code."""
    one, other = (weights.load_encoder(name.value) for name in (_ENCODER, _OTHER))
    blend = blended(one, other, _SHARE.value, "blend")
    out = output_folder.prepare_workdir(_OUT.value)
    weights.save_encoder(out / "weights.safetensors", blend)
    made_of = {"weights": one.fingerprint, "other_weights": other.fingerprint}
    files.write_json(out / "run.json", runtime.record(made_of))
    print(f"wrote {out / 'weights.safetensors'}")
    return 0


if __name__ == "__main__":
    runtime.run(main)
