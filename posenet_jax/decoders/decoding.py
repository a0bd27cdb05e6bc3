"""Trained decoders: from descriptors to images in one pass; safetensors in and out.

A decoder belongs to one layer of one encoder, and remembers which: a file holds its parameters
(`params/up5/kernel`, …), the running statistics of its normalisations (`batch_stats/…`) and, in its
metadata, the encoder's fingerprint and preprocessing. Images are [N, H, W, 3] in network space.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Key, UInt8

from posenet_jax import numerics
from posenet_jax.decoders.decoder_network import SIDE, DecoderNetwork
from posenet_jax.decoders.networks import NETWORKS
from posenet_jax.encoders.bundled_encoders import PRETRAINED
from posenet_jax.encoders.encoder import Encoder
from posenet_jax.errors import InputError, one_line, shown
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.io import storage
from posenet_jax.io.run_files import brief, parsed_json, schema_fault
from posenet_jax.io.tensors import checked_tree, fingerprint, read_tensors, write_tensors

Scalar = Float[Array, ""]
Descriptor = Float[Array, "*batch_and_layer"]
Descriptors = Float[Array | np.ndarray, "number *layer"]
Noise = Float[Array, "*batch noise"]
Image = Float[Array, "*batch height width 3"]  # network space
HostImages = Float[np.ndarray, "number height width 3"]  # network space
Draws = UInt8[np.ndarray, "draws number height width 3"]
OneKey = Key[Array, ""]
Keys = Key[Array, "number"]

_BATCH = 16  # fixed, so that few images do not wait for many or for another program
_FOLDER = PRETRAINED / "decoders"


@struct.dataclass(eq=False)
class Decoder:
    """A network with its weights, and what its descriptors are. A pytree, like `encoder.Tap`."""

    variables: Any  # {"params": …, "batch_stats": …}
    descriptor_scale: Scalar  # what the network's inputs are divided by
    module: DecoderNetwork = struct.field(pytree_node=False)
    descriptor_shape: tuple[int, ...] = struct.field(pytree_node=False)
    layer: str = struct.field(pytree_node=False)
    encoder: str = struct.field(pytree_node=False)  # its name
    encoder_fingerprint: str = struct.field(pytree_node=False)
    preprocessing: Preprocessing = struct.field(pytree_node=False)
    noise: tuple[int, ...] = struct.field(pytree_node=False, default=())  # its shape; () of none
    name: str = struct.field(pytree_node=False, default="")

    def __call__(self, descriptor: Descriptor, noise: Noise | None = None) -> Image:
        """[..., *descriptor_shape] → [..., H, W, 3] in network space.

        noise: [..., *self.noise] from N(0, 1), where the decoder makes several images of one
        descriptor; zeros if not given.
        """
        decoded: Any = self.module.apply(self.variables, self.inputs(descriptor, noise))
        return decoded * value_range(self.preprocessing)

    def inputs(self, descriptor: Descriptor, noise: Noise | None = None) -> Descriptor:
        """Returns what the network reads: the scaled descriptor, and behind it the noise."""
        read = numerics.as_float32(descriptor) / self.descriptor_scale
        if self.noise:
            drawn = numerics.as_float32(jnp.zeros(self.noise) if noise is None else noise)
            for _ in self.descriptor_shape[len(self.noise) :]:
                drawn = jnp.expand_dims(drawn, -2)
            drawn = jnp.broadcast_to(drawn, (*read.shape[:-1], self.noise[-1]))
            read = jnp.concatenate([read, drawn], axis=-1)
        return read

    @property
    def fingerprint(self) -> str:
        """As an encoder's, of all that its images depend on."""
        return fingerprint({**self.variables, "scale": self.descriptor_scale})

    def check_fits(self, encoder: Encoder, layer: str) -> None:
        """Raises InputError unless it was trained on this encoder's descriptors at this layer."""
        if layer != self.layer:
            raise InputError(f"decoder {self.name!r} decodes {self.layer}, not {layer}")
        if encoder.fingerprint != self.encoder_fingerprint:
            raise InputError(
                f"decoder {self.name!r} was trained on encoder {self.encoder!r} with weights "
                f"{self.encoder_fingerprint}; encoder {encoder.name!r} has {encoder.fingerprint}"
            )


def value_range(space: Preprocessing) -> float:
    """From black to white in network space: what decoders' outputs and losses count as 1."""
    if isinstance(space.scale, tuple):
        raise InputError("decoders read an image space of one scale, not of one for each channel")
    return 255.0 * space.scale


def noise_shape(shape: tuple[int, ...], numbers: int) -> tuple[int, ...]:
    """Shape of the noise beside a descriptor of a shape: so many numbers at each of its places.

    Were they the same at all places, what is drawn in one would follow from what is in another.
    """
    return (*shape[:-1], numbers) if numbers else ()


def descriptor_shape(encoder: Encoder, layer: str) -> tuple[int, ...]:
    """Shape of a tap's descriptor. Raises InputError for taps that no decoder can be made for."""
    tap, space = encoder.tap(layer), encoder.preprocessing
    if space.shape != (SIDE, SIDE, 3):
        channels = "" if space.channels == 3 else f" of {space.channels} channels"
        raise InputError(
            f"decoders make {SIDE}×{SIDE} images; {encoder.name!r} reads "
            f"{space.height}×{space.width}{channels}"
        )
    image = jax.ShapeDtypeStruct(space.shape, jnp.float32)
    shape = tuple(jax.eval_shape(tap.__call__, image).shape)
    if len(shape) != 1 and shape[:2] != (6, 6):
        raise InputError(f"decoders read vectors or 6×6 feature maps; {layer} is {list(shape)}")
    return shape


@jax.jit
def _decode(decoder: Decoder, descriptors: Descriptor, keys: Keys | None) -> Image:
    if keys is None:
        return decoder(descriptors)
    return decoder(
        descriptors,
        jax.vmap(lambda key: jax.random.normal(key, decoder.noise, jnp.float32))(keys),
    )


def decode(decoder: Decoder, descriptors: Descriptors, key: OneKey | None = None) -> HostImages:
    """[N, H, W, 3] in network space of descriptors [N, *descriptor_shape].

    key: draws the noise of a decoder that reads some; without one it is zero. Raises InputError for
    descriptors of another shape.
    """
    keys = None if key is None or not decoder.noise else jax.random.split(key, len(descriptors))
    if tuple(descriptors.shape[1:]) != decoder.descriptor_shape or not len(descriptors):
        raise InputError(
            f"decoder {decoder.name!r} reads descriptors [N, "
            f"{', '.join(map(str, decoder.descriptor_shape))}], received {list(descriptors.shape)}"
        )
    parts = []
    for start in range(0, len(descriptors), _BATCH):
        # One shape for all batches: the last is filled up with copies.
        rows = np.minimum(np.arange(start, start + _BATCH), len(descriptors) - 1)
        drawn = None if keys is None else keys[rows]
        decoded = _decode(decoder, jnp.asarray(descriptors[rows]), drawn)
        parts.append(np.asarray(decoded[: len(descriptors) - start]))
    return np.concatenate(parts)


def draws(decoder: Decoder, descriptors: Descriptors, key: OneKey, *, count: int) -> Draws:
    """Images uint8 RGB [S, N, H, W, 3] of `count` draws of noise; of one, where none is read."""
    keys = jax.random.split(key, count if decoder.noise else 1)
    space = decoder.preprocessing
    return np.stack([space.to_image(decode(decoder, descriptors, own)) for own in keys])


def bundled(encoder: Encoder, layer: str) -> list[str]:
    """Names of the decoders in the package for this encoder's layer."""
    return bundled_names(f"{encoder.name}-{layer}*")


def bundled_generator(encoder: Encoder, layer: str) -> str | None:
    """Name of the layer's adversarial decoder in the package; None where there is none."""
    name = f"{encoder.name}-{layer}-adversarial"
    return name if name in bundled(encoder, layer) else None


def bundled_names(pattern: str = "*") -> list[str]:
    """Names of the decoders in the package that match a glob."""
    return sorted(file.stem for file in _FOLDER.glob(f"{pattern}.safetensors"))


def decoders_for(
    encoder: Encoder, layer: str, names: Sequence[str] | None, *, every: bool = False
) -> list[Decoder]:
    """Decoders of this encoder's layer, as `decoder_for` finds each.

    names: None: the layer's own, or with `every` all that are bundled for it. Raises InputError
    where two have the same name.
    """
    if not names and every:
        names = bundled(encoder, layer)
    chosen: Sequence[str | None] = names or [None]
    found = [decoder_for(encoder, layer, name) for name in chosen]
    if len({decoder.name for decoder in found}) < len(found):
        raise InputError("two of the decoders have the same name; rename one file")
    return found


def decoder_for(encoder: Encoder, layer: str, name_or_path: str | Path | None = None) -> Decoder:
    """A decoder of this encoder's layer: the bundled one, or another, as `load_decoder` finds it.

    Raises InputError where it is not this encoder's, or not this layer's.
    """
    decoder = load_decoder(name_or_path or f"{encoder.name}-{layer}")
    decoder.check_fits(encoder, layer)
    return decoder


def decoder_if_any(encoder: Encoder, layer: str, name_or_path: str | None = None) -> Decoder | None:
    """As `decoder_for`; None where none is named and none is bundled."""
    if not name_or_path and not bundled(encoder, layer):
        return None
    return decoder_for(encoder, layer, name_or_path)


def save_decoder(path: str | Path, decoder: Decoder, dtype: str = "float16") -> None:
    """Writes parameters, statistics and metadata as safetensors, whole or not at all."""
    kind = type(decoder.module)
    network = next((name for name, own in NETWORKS.items() if own is kind), None)
    # Where the axis of a training's devices was named, nothing else depends on it.
    if network is None or NETWORKS[network]() != decoder.module.clone(axis_name=None):
        raise InputError(
            f"a decoder of {kind.__name__} is not written: load_decoder makes "
            f"{', '.join(NETWORKS)} alone, as they are by default"
        )
    metadata = {
        "network": network,
        "descriptor_shape": json.dumps(decoder.descriptor_shape),
        "descriptor_scale": repr(float(decoder.descriptor_scale)),
        "noise": json.dumps(decoder.noise),
        "layer": decoder.layer,
        "encoder": decoder.encoder,
        "encoder_fingerprint": decoder.encoder_fingerprint,
        "preprocessing": json.dumps(decoder.preprocessing.to_json(), sort_keys=True),
    }
    write_tensors(path, decoder.variables, metadata, dtype)


def load_decoder(name_or_path: str | Path) -> Decoder:
    """A bundled decoder by name (`streetnet-fc5`, …), or a .safetensors file by path.

    Raises InputError where there is none, or its contents are not a decoder's.
    """
    path = _FOLDER / f"{name_or_path}.safetensors"
    if not path.is_file():
        path = storage.path(name_or_path)
    if not storage.is_file(path):
        bundled = ", ".join(bundled_names()) or "none"
        raise InputError(
            f"no decoder {str(name_or_path)!r}: give a .safetensors file, or one of those bundled: "
            f"{bundled}"
        )
    tensors, metadata = read_tensors(path)
    try:
        module = NETWORKS[metadata["network"]]()
        shape = _descriptor_shape(metadata)
        noise = _noise_shape(metadata, shape)
        scale = _scale(metadata)
        space = Preprocessing.from_json(parsed_json(metadata["preprocessing"]))
        origin = [metadata[key] for key in ("layer", "encoder", "encoder_fingerprint")]
        expected = _variable_shapes(module, (*shape[:-1], shape[-1] + sum(noise[-1:])))
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        reason = f"no {one_line(error)}" if isinstance(error, KeyError) else one_line(error)
        raise InputError(f"{shown(path)} has unusable metadata for a decoder: {reason}") from error
    return Decoder(
        variables=checked_tree(path, tensors, expected),
        descriptor_scale=scale,
        module=module,
        descriptor_shape=shape,
        layer=origin[0],
        encoder=origin[1],
        encoder_fingerprint=origin[2],
        preprocessing=space,
        noise=noise,
        name=path.stem,
    )


@functools.lru_cache(maxsize=64)
def _variable_shapes(module: DecoderNetwork, read: tuple[int, ...]) -> Any:
    array = jax.ShapeDtypeStruct(read, jnp.float32)
    return jax.eval_shape(module.init, jax.random.key(0), array)


def _descriptor_shape(metadata: Mapping[str, str]) -> tuple[int, ...]:
    """Shape of a vector, or of a 6×6 feature map."""
    sides = [range(1, 2**31)]
    shape = parsed_json(metadata["descriptor_shape"], sides, "descriptor_shape")
    if len(shape) != 1 and (len(shape) != 3 or shape[:2] != [6, 6]):
        raise ValueError(f"descriptor_shape must be [F] or [6, 6, C], not {brief(shape)}")
    return tuple(shape)


def _noise_shape(metadata: Mapping[str, str], shape: tuple[int, ...]) -> tuple[int, ...]:
    """(); (Z,) of a vector, or of numbers that all places of a map share; (6, 6, Z) of a map."""
    found = parsed_json(metadata.get("noise", "[]"))
    if isinstance(found, int):  # as files said it at first
        found = [found] if found else []
    if fault := schema_fault(found, [range(1, 2**31)], "noise"):
        raise ValueError(fault)
    if found[:-1] not in ([], list(shape[:-1])):
        raise ValueError(f"noise must be [Z] or [6, 6, Z], and here is {brief(found)}")
    return tuple(found)


def _scale(metadata: Mapping[str, str]) -> Scalar:
    scale = float(metadata["descriptor_scale"])
    with np.errstate(over="ignore", under="ignore"):
        single = np.float32(scale)
    if not 0.0 < single < np.inf:
        raise ValueError(f"descriptor_scale must be a positive number, not {scale}")
    return jnp.asarray(single)
