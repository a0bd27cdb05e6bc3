"""Decodes the descriptors of images with a trained decoder, and measures what came back.

    posenet-jax decode --images=PHOTOS --layer=fc5 --out=runs/decoded
    posenet-jax decode --compare --images=PHOTOS --layer=fc5 --out=runs/compared

--compare sets all bundled decoders of the layer side by side, and inversion by optimisation (recipe
calibrated). Writes results.csv, one row an image and method with every measure beside its control,
metrics.json, images/METHOD/ with the pictures, grid.png, places.png (how much fine detail stands
where, over all pictures) and run.json.

Of each picture: mean squared error (1 = from black to white), PSNR, SSIM; relative loss of the
picture encoded anew (eq. 3), its pairwise-normalised error, the rank of its original among all;
agreement of the pose heads; luminance correlation; spectral deviation; relative loss in a judge
network; LPIPS. In metrics.json their means, medians and intervals of 95 % over images, and of the
whole set: energy_ratio, gradient energy over the originals' (1: as sharp); diversity_ratio;
grid_index (1: no grid, 3: it can be seen); fixed_pattern (0: no detail stands at the same place in
all pictures); kernel_distance (as in KID) and frechet_distance (as in FID) to the originals in the
judge's conv4 and, by their names, in the --feature_networks, each with the originals' own halves
beside it. A decoder that reads noise is measured on one draw; draws.png, draw_variance (of a pixel
over draws) and mean_error (of their mean) show what the descriptor leaves open.

Results of an earlier run in the same folder are replaced. Exit code: 0; 1 if some images could not
be read or written (they are named, the others are done); 2 if the run could not be made.
"""

from absl import flags

from .common import buckets, inputs, options, runtime

inputs.require()
_OUT = options.out()
_LAYER = options.decoded_layer()
_ENCODER = options.encoder()
_DECODER = buckets.strings(
    "decoder",
    None,
    "Decoders, with commas between: bundled ones or .safetensors files; ENCODER-LAYER if not"
    " given, or with --compare all that are bundled for it.",
)
_COMPARE = flags.DEFINE_bool(
    "compare",
    False,
    "Set all bundled decoders of the layer and inversion by optimisation side by side.",
)
_JUDGE = options.judge()
_NETWORKS = options.feature_networks()
_GRID = options.shown(32)
_DRAWS = flags.DEFINE_integer(
    "draws", 8, "Images made of each descriptor, by decoders that read noise.", lower_bound=2
)
_STEPS = options.inversion_steps()
_SEED = options.seed()

if __name__ == "__main__":  # before the imports that take seconds
    runtime.parse()

from posenet_jax import numerics, reconstruction
from posenet_jax.decoders import decoding
from posenet_jax.encoders import weights
from posenet_jax.evaluation import feature_networks, method_comparison
from posenet_jax.inversion import recipes
from posenet_jax.io.output_folder import OutputFolder
from posenet_jax.report import comparison_sheets

from .common import progress, results


def main() -> int:
    """Decodes, writes the results and returns the exit code."""
    encoder, layer = weights.load_encoder(_ENCODER.value), _LAYER.value
    decoders = decoding.decoders_for(encoder, layer, _DECODER.value, every=_COMPARE.value)
    originals = inputs.load(_OUT.value, encoder.preprocessing)
    names = [decoder.name for decoder in decoders] + [reconstruction.INVERSION] * _COMPARE.value
    files = {name: [f"images/{name}/{stem}.png" for stem in originals.stems] for name in names}
    tables, sheets = ["results.csv", "metrics.json"], comparison_sheets.file_names(decoders)
    out = OutputFolder(_OUT.value, "decode", [*tables, *sheets, *sum(files.values(), [])])
    tap = encoder.tap(layer)
    targets = tap.describe(originals.pixels)
    judge = weights.load_encoder(_JUDGE.value) if _JUDGE.value else None
    networks = feature_networks.load(_NETWORKS.value)
    recipe = recipes.with_steps(recipes.CALIBRATED, _STEPS.value) if _COMPARE.value else None
    with progress.bar(len(originals.pixels) * recipe.steps if recipe else 0, "image·step") as bar:
        methods = reconstruction.by_methods(
            encoder,
            layer,
            originals,
            targets,
            key=numerics.seed_key(_SEED.value),
            decoders=decoders,
            count=_DRAWS.value,
            recipe=recipe,
            progress=bar.update,
        )
    compared = method_comparison.compare(
        methods,
        originals,
        targets,
        encoder=encoder,
        tap=tap,
        judge=judge,
        networks=networks,
    )
    record = {
        "encoder": encoder.name,
        "weights": encoder.fingerprint,
        "decoders": {decoder.name: decoder.fingerprint for decoder in decoders},
        "feature_networks": networks.fingerprints,
        "images_left_out": len(originals.failures),
    }
    metrics = {"images": len(originals.pixels), "methods": compared.summary}
    missing = results.write(
        out,
        record,
        tables={"results.csv": compared.rows, "metrics.json": metrics},
        pictures={
            file: picture
            for name, method in methods.items()
            for file, picture in zip(files[name], method.pictures, strict=True)
        },
        pages=comparison_sheets.pages(
            methods,
            originals.pixels,
            compared,
            shown=_GRID.value,
            title=f"{_ENCODER.value} {layer}: PSNR under each",
            own=f"{encoder.name}-{layer}",
        ),
    )
    print(f"{len(originals.pixels)} images; medians, and figures of the set:")
    print(*method_comparison.lines(compared, list(methods)), *networks.absent, sep="\n")
    print(f"wrote {out.path}/grid.png, results.csv, metrics.json, run.json and images/{missing}")
    return 1 if originals.failures or out.failures else 0


if __name__ == "__main__":
    runtime.run(main)
