"""How the data that flags name becomes a decoder's batches."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from posenet_jax import numerics, scenes
from posenet_jax.bulk import extraction
from posenet_jax.bulk.inversion_batches import check_origin
from posenet_jax.data import training_pairs
from posenet_jax.data.image_stream import ImageStream
from posenet_jax.data.sources import ImageSource
from posenet_jax.data.traces import SourceFacts, source_facts
from posenet_jax.decoders import decoding
from posenet_jax.encoders.encoder import Encoder, Tap
from posenet_jax.encoders.weights import load_encoder
from posenet_jax.errors import InputError
from posenet_jax.evaluation.decoder_evaluation import ImageSet, described
from posenet_jax.training import decoder_data
from posenet_jax.training.decoder_training import AXIS

from . import decoder_options, images, inputs, run_sources

_SETS = 400
_NEIGHBOURS = 8192
_RENDERED_KNOWN = 2048
_SCALE_IMAGES = 256


@dataclasses.dataclass(frozen=True, eq=False)
class DecoderInputs(decoder_data.DecoderData):
    """The data, and facts about the files that it comes from."""

    sources: run_sources.Sources


def load(output: str, noise: tuple[int, int] | None = None) -> DecoderInputs:
    """Raises InputError where the flags do not fit each other or their files.

    output: folder of the run, whose pictures are no inputs. noise: (draws, numbers each) beside
    every place of a batch's descriptors.
    """
    encoder = load_encoder(decoder_options.ENCODER.value)
    shape = decoding.descriptor_shape(encoder, decoder_options.LAYER.value)
    tap, space = encoder.tap(decoder_options.LAYER.value), encoder.preprocessing
    mesh = Mesh(np.asarray(jax.devices()), (AXIS,))
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    _check(mesh.size)
    source = inputs.source(output) if inputs.number_given() else None
    stream = _stream(source, encoder) if source else None
    rendered, held_out = _rendered(mesh, output) if decoder_options.RENDERED.value else (None, None)
    batches = decoder_data.DecoderBatches(
        stream,
        rendered,
        jax.random.fold_in(numerics.seed_key(decoder_options.SEED.value), 1),
        space.side,
        sharding,
        1.0 if decoder_options.DESCRIPTORS.value else decoder_options.CROP.value,
        (noise[0], *decoding.noise_shape(shape, noise[1])) if noise else None,
    )
    known = _whole(tap, source) if source else _views(tap, rendered, _RENDERED_KNOWN)
    judged = {"train": known.take(_SETS)}
    if decoder_options.VALIDATION.value:
        judged["validation"] = _whole(tap, images.source(decoder_options.VALIDATION.value, output))
    if held_out:
        judged["rendered"] = _views(tap, held_out, _SETS)
    sample = known.take(_SCALE_IMAGES).descriptors
    scale = jnp.asarray(np.sqrt(np.mean(np.square(sample))), jnp.float32)
    sources = _sources(source, output)
    return DecoderInputs(encoder, tap, mesh, batches, scale, known, judged, sources)


def _sources(source: ImageSource | None, output: str) -> run_sources.Sources:
    """Facts about all that is trained on or validated on."""
    found = {"images": source_facts(source)._asdict()} if source else {}
    if decoder_options.VALIDATION.value:
        found["val_images"] = run_sources.files(decoder_options.VALIDATION.value, output)
    if decoder_options.RENDERED.value and decoder_options.FACADES.value:
        found["facades"] = run_sources.files(decoder_options.FACADES.value, output)
    if decoder_options.DESCRIPTORS.value:
        descriptors = extraction.read_descriptors(decoder_options.DESCRIPTORS.value)
        found["descriptors"] = SourceFacts(descriptors.fingerprint)._asdict()
    return found


def _check(devices: int) -> None:
    batch, rendered = decoder_options.BATCH.value, decoder_options.RENDERED.value
    photographs = batch - rendered
    unit = max(4, 2 * devices)
    for name, count, multiple in (
        ("batch_size", batch, devices),
        ("rendered", rendered, unit),
    ):
        if count % multiple:
            raise InputError(
                f"--{name} must be a multiple of {multiple} on {devices} devices, received {count}:"
                " give another, or --cpu_devices that fit (a resumed run: those it was begun on)"
            )
    if photographs < 0:
        raise InputError(f"--rendered={rendered} is more than the batch, {batch}")
    if bool(photographs) != bool(inputs.number_given()):
        raise InputError(
            f"{photographs} of the {batch} images of a batch are not rendered: "
            + (f"give one of {inputs.names()}" if photographs else "none is left for those given")
        )
    if decoder_options.DESCRIPTORS.value and (rendered or not photographs):
        raise InputError("--descriptors are those of --images: leave --rendered at 0")


def _stream(source: ImageSource, encoder: Encoder) -> ImageStream:
    space = encoder.preprocessing
    items: Any = source
    transform = decoder_data.photograph_transform(space, decoder_options.CROP.value)
    if decoder_options.DESCRIPTORS.value:
        found = extraction.read_descriptors(decoder_options.DESCRIPTORS.value)
        check_origin(found, encoder, decoder_options.LAYER.value)
        extraction.check_images(decoder_options.DESCRIPTORS.value, source)
        items = decoder_data.DescribedImages(source, found)
        transform = decoder_data.described_transform(space)
    return ImageStream(
        items,
        transform,
        decoder_options.BATCH.value - decoder_options.RENDERED.value,
        seed=decoder_options.SEED.value,
        cache_bytes=int(decoder_options.CACHE.value * 2**30),
        threads=decoder_options.THREADS.value,
        report=images.tell,
    )


def _rendered(
    mesh: Mesh, output: str
) -> tuple[training_pairs.RenderedPairs, training_pairs.RenderedPairs]:
    """(of the training facades, of others)."""
    key = jax.random.fold_in(numerics.seed_key(decoder_options.SEED.value), 2)
    atlas, other, _ = images.facade_atlases(decoder_options.FACADES.value, key, mesh, output)
    views = decoder_options.RENDERED.value // 2
    make = training_pairs.RenderedPairs
    return make(atlas, scenes.SceneConfig(), views, mesh), make(
        other, scenes.SceneConfig(), views, mesh
    )


def _whole(tap: Tap, source: ImageSource) -> ImageSet:
    found, names, failures = decoder_data.whole_images(source, tap.preprocessing, _NEIGHBOURS)
    for failure in failures:
        images.tell(failure)
    return described(tap, found, names)


def _views(tap: Tap, rendered: training_pairs.RenderedPairs | None, count: int) -> ImageSet:
    assert rendered is not None  # `_check` has seen to it
    key = jax.random.fold_in(numerics.seed_key(decoder_options.SEED.value), 3)
    draws = -(-count // (2 * rendered.count))
    drawn = np.concatenate(
        [np.asarray(rendered(jax.random.fold_in(key, draw)).image) for draw in range(draws)]
    )
    drawn = drawn.reshape((-1, *drawn.shape[2:]))[:count]
    return described(tap, drawn, [f"rendered-{number}" for number in range(len(drawn))])
