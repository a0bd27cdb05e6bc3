"""Encoders by name and by file: safetensors in and out.

A weights file holds one array a parameter (`conv1/kernel`, `heads/pose/bias`, …) and, in its
metadata, the architecture, the preprocessing and, where heads are present, the z-score of the poses
they predict. Files are read without pickle; every shape is checked. A `state_dict` of PyTorch,
saved as safetensors, is known by its names (`Network.signature`).
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util

from posenet_jax import numerics
from posenet_jax.encoders import bundled_encoders, importing
from posenet_jax.encoders.bundled_encoders import PRETRAINED
from posenet_jax.encoders.encoder import Encoder, init_params, parameter_shapes
from posenet_jax.encoders.encoder_networks import NETWORKS
from posenet_jax.encoders.heads import PoseScale, correction_shapes
from posenet_jax.encoders.network import Network, Normalisation
from posenet_jax.encoders.packaged import PACKAGED
from posenet_jax.errors import InputError, one_line, shown
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.io import storage
from posenet_jax.io.run_files import brief, parsed_json
from posenet_jax.io.tensors import check_tree, checked_tree, named, read_tensors, write_tensors

Array = jax.Array


def random_encoder(
    architecture: str | Network = "streetnet",
    *,
    seed: int = 0,
    preprocessing: Preprocessing | None = None,
) -> Encoder:
    """The control: an architecture, or a network of given sizes, with untrained weights.

    It reads the image space of the trained encoder of its architecture, where there is one.
    """
    if isinstance(architecture, str):
        module, name = _architecture(architecture)(), architecture
        space = preprocessing or _image_space(architecture)
    else:
        module, name = architecture, architecture.architecture
        space = preprocessing or module.image_space
    parameter_shapes(module, space.shape)  # refuses images that are too small for it
    params, _ = init_params(module, numerics.seed_key(seed), space.shape)
    return _headless(params, module, space, f"{name}-random-{seed}")


def _image_space(architecture: str) -> Preprocessing:
    """Image space of the bundled encoder; else the network's own."""
    if (PRETRAINED / f"{architecture}.safetensors").is_file():
        return load_encoder(architecture).preprocessing
    return NETWORKS[architecture].image_space


def _architecture(name: str) -> type[Network]:
    if name not in NETWORKS:
        raise InputError(f"no architecture {name!r}; there are {', '.join(NETWORKS)}")
    return NETWORKS[name]


def _has_size(kind: type[nn.Module]) -> bool:
    """Whether the descriptor's size is a field of the network, which its files say then."""
    return any(field.name == "descriptor_size" for field in dataclasses.fields(kind))


def save_encoder(path: str | Path, encoder: Encoder, dtype: str = "float16") -> None:
    """Writes parameters, heads and metadata as safetensors, whole or not at all.

    Raises InputError for an encoder that `load_encoder` could not make again from the file.
    """
    tree = dict(encoder.params)
    if encoder.head_params is not None:
        tree["heads"] = encoder.head_params
    metadata = _metadata(encoder)
    wanted = _wanted(encoder.module, encoder.preprocessing, _names(tree))
    check_tree(f"encoder {encoder.name!r}, not written", tree, wanted)
    write_tensors(path, tree, metadata, dtype)


def _metadata(encoder: Encoder) -> dict[str, str]:
    """Metadata of which `_assemble` makes the network again; InputError if it would be another."""
    module, kind = encoder.module, type(encoder.module)
    architecture = next((name for name, own in NETWORKS.items() if own is kind), None)
    if architecture is None:
        raise InputError(
            f"a {kind.__name__} is not written: load_encoder makes {', '.join(NETWORKS)} alone; "
            "add it to posenet_jax.encoders.encoder_networks.NETWORKS, or keep the parameters of "
            "another network by Orbax or flax.serialization"
        )
    metadata = {
        "architecture": architecture,
        "preprocessing": json.dumps(encoder.preprocessing.to_json(), sort_keys=True),
    }
    fields_saved = NETWORKS[architecture].saved_fields
    if _has_size(kind):
        metadata["descriptor_size"] = str(module.descriptor_size)
    if fields_saved:
        metadata["network"] = json.dumps({field: getattr(module, field) for field in fields_saved})
    again = _module(metadata)
    if again != module:
        fields = [field.name for field in dataclasses.fields(module)]
        other = [name for name in fields if getattr(again, name) != getattr(module, name)]
        given = ", ".join(f"{name}={brief(getattr(module, name))}" for name in other)
        written = ", ".join([*(["descriptor_size"] if _has_size(kind) else []), *fields_saved])
        raise InputError(
            f"a {kind.__name__} with {given} is not written: a file says its {written} alone"
        )
    if encoder.pose_scale is not None:
        scale = {k: np.asarray(v).tolist() for k, v in vars(encoder.pose_scale).items()}
        metadata["pose_scale"] = json.dumps(scale)
    return metadata


def _module(metadata: Mapping[str, str]) -> nn.Module:
    kind = _architecture(metadata["architecture"])
    fields = {}
    if _has_size(kind):
        size = parsed_json(metadata["descriptor_size"], range(1, 2**31), "descriptor_size")
        fields["descriptor_size"] = size  # of the networks that have one
    if kind.saved_fields:
        given = parsed_json(metadata["network"], dict(kind.saved_fields), "network")
        fields |= {name: _hashable(given[name]) for name in kind.saved_fields}
    return kind(**fields)


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


_CORRECTION = "heads/correction/"


def _names(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arrays of a tree by their names in a file."""
    return traverse_util.flatten_dict(tree, sep="/")


def _wanted(module: nn.Module, space: Preprocessing, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The shapes of what a file with arrays of these names holds; what heads correct is free."""
    params, heads = parameter_shapes(module, space.shape)
    if heads is None or not any(name.startswith("heads/") for name in arrays):
        return dict(params)
    if any(name.startswith(_CORRECTION) for name in arrays):
        units = max(1, np.size(arrays.get(f"{_CORRECTION}fc_1/bias", ())))
        size = heads["common_fc"]["kernel"].shape[0] // 2
        heads = {**heads, "correction": correction_shapes(units, size)}
    return {**params, "heads": heads}


def load_encoder(name_or_path: str | Path = bundled_encoders.DEFAULT) -> Encoder:
    """A bundled encoder by name, or a .safetensors file by path.

    ENCODER-random-SEED is its control, untrained: of an architecture by name, or of a file's
    network. ENCODER@SIZE is the same for images of SIZE pixels a side (`at_size`). `squeezenet` and
    `efficientnet_lite0`, trained on ImageNet, are there where the extra `compare` is installed.
    """
    name = str(name_or_path)
    if not storage.is_file(name):
        known, marker, size = name.rpartition("@")
        if marker and size.isdecimal():
            encoder = _loaded(known, int(size))
            return dataclasses.replace(encoder, name=f"{encoder.name}@{size}")
    return _loaded(name, None)


def _loaded(name: str, size: int | None) -> Encoder:
    """The encoder of that name, for images of `size` pixels or its own."""
    known, marker, seed = name.rpartition("-random-")
    if marker and seed.isdecimal() and known in NETWORKS:
        return at_size(random_encoder(known, seed=int(seed)), size)
    if marker and seed.isdecimal() and storage.is_file(known):
        return control_of(_read(storage.path(known), size), seed=int(seed))
    if name in PACKAGED:
        kind = NETWORKS[name]
        return at_size(_headless(PACKAGED[name](), kind(), kind.image_space, name), size)
    path = PRETRAINED / f"{name}.safetensors"
    if not path.is_file():
        path = storage.path(name)
    if not storage.is_file(path):
        bundled = ", ".join(bundled_encoders.names(PRETRAINED))
        raise InputError(
            f"no weights {name!r}: give a .safetensors file or one of {bundled}, or "
            f"{' or '.join(PACKAGED)}"
        )
    return _read(path, size)


def _read(path: Path, size: int | None) -> Encoder:
    tensors, metadata = read_tensors(path)
    if "architecture" not in metadata and importing.recognise(tensors):
        return encoder_from_torch(tensors, size=size, name=path.stem, origin=str(path))
    return at_size(_assemble(path, tensors, metadata), size)


def encoder_from_torch(
    tensors: Mapping[str, Any],
    *,
    network: Network | None = None,
    size: int | None = None,
    normalisation: Normalisation | None = None,
    name: str = "state_dict",
    origin: str = "state_dict",
) -> Encoder:
    """The encoder of a PyTorch `state_dict`: of a network that both have (`importing.recognise`).

    network: None: as the arrays' names and shapes say. size: of the images, pixels; None: the
    network's own. normalisation: of the images that the weights were trained on; None: the
    network's. origin: what messages begin with.
    Raises InputError for another network's arrays, and as `importing.from_torch` does.
    """
    network = network or importing.network_of(tensors, origin)
    if network is None:
        known = ", ".join(name for name, kind in NETWORKS.items() if importing.signature(kind))
        raise InputError(f"{origin} is of none of the networks that are known by names: {known}")
    normalisation = normalisation or network.normalisation
    space = normalisation.space(size or network.image_space.side)
    origin = f"{origin}, read as {type(network).__name__}"
    params = importing.from_torch(network, tensors, size=space.side, origin=origin)
    folded = importing.folded(params, network.first, normalisation)
    return _headless(folded, network, space, name)


def at_size(encoder: Encoder, size: int | None) -> Encoder:
    """The encoder for images of `size` pixels a side; None: the encoder as it is.

    Raises InputError where its weights fit no other size.
    """
    space = encoder.preprocessing
    if size is None or size == space.size:
        return encoder
    module = encoder.module
    params = encoder.params
    if isinstance(module, Network):
        params = module.at_size(params, size)
    own = space.size if isinstance(space.size, int) else f"{space.height}×{space.width}"
    origin = f"encoder {encoder.name!r} at {size} pixels, not its {own}"
    space = dataclasses.replace(space, size=size)
    check_tree(origin, params, parameter_shapes(module, space.shape)[0])
    return dataclasses.replace(encoder, params=params, preprocessing=space)


def control_of(encoder: Encoder, *, seed: int = 0) -> Encoder:
    """The same network with untrained weights, for the same images."""
    space = encoder.preprocessing
    params, _ = init_params(encoder.module, numerics.seed_key(seed), space.shape)
    name, *size = encoder.name.partition("@")
    name = f"{name}-random-{seed}{''.join(size)}"
    return _headless(params, encoder.module, space, name)


def encoder_and_layer(named: str, *, size: int | None = None) -> tuple[Encoder, str]:
    """Encoder and layer that "ENCODER/LAYER" names, the encoder as for `load_encoder`.

    size: of the images, pixels, that the encoder must read; None: any.
    Raises InputError where it is not of that form, or the encoder has no such layer or other size.
    """
    name, separator, layer = named.rpartition("/")
    if not separator:
        raise InputError(f"expected ENCODER/LAYER, such as streetnet/fc5; received {named!r}")
    encoder = load_encoder(name)
    encoder.tap(layer)
    own = encoder.preprocessing.size if size is None else encoder.preprocessing.side
    if size is not None and own != size:
        raise InputError(
            f"encoder {encoder.name!r} reads images of {own} pixels a side, and these have {size}: "
            f"name it {name.removesuffix(f'@{own}')}@{size}/{layer}"
        )
    return encoder, layer


def _headless(params: Any, module: nn.Module, space: Preprocessing, name: str) -> Encoder:
    return Encoder(
        params=params,
        head_params=None,
        pose_scale=None,
        module=module,
        preprocessing=space,
        name=name,
    )


def _assemble(path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> Encoder:
    needed = {"architecture", "preprocessing"}
    kind = NETWORKS.get(metadata.get("architecture", ""))
    if kind is None or _has_size(kind):
        needed.add("descriptor_size")
    if kind is not None and kind.saved_fields:
        needed.add("network")
    if missing := needed - set(metadata):
        raise InputError(_lacking(path, missing, tensors))
    try:
        module = _module(metadata)
        preprocessing = Preprocessing.from_json(parsed_json(metadata["preprocessing"]))
        scale = _pose_scale(metadata)
        wanted = _wanted(module, preprocessing, tensors)
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{shown(path)} has unusable metadata: {one_line(error)}") from error
    tree = checked_tree(path, tensors, wanted)
    return Encoder(
        head_params=tree.pop("heads", None),
        params=tree,
        pose_scale=scale,
        module=module,
        preprocessing=preprocessing,
        name=path.stem,
    )


def _lacking(path: Path, missing: set[str], tensors: Iterable[str]) -> str:
    """Message about a file that is not an encoder's, or no longer is."""
    names = ", ".join(map(named, sorted(tensors)[:3]))
    holds = f"it holds {names}, ..." if names else "it holds no arrays"
    return (
        f"{shown(path)} lacks the metadata {', '.join(sorted(missing))} of an encoder that "
        f"save_encoder wrote, and is no state_dict of a network that is known by names ({holds})"
    )


_POSE_SCALE = {"mean": [float], "std": [float]}


def _pose_scale(metadata: Mapping[str, str]) -> PoseScale | None:
    if "pose_scale" not in metadata:
        return None
    record = parsed_json(metadata["pose_scale"], _POSE_SCALE, "pose_scale")
    with np.errstate(over="ignore"):  # what overflows is refused below
        mean, std = (np.array(record[name], float).astype(np.float32) for name in ("mean", "std"))
    fits = mean.shape == std.shape == (6,) and np.isfinite([mean, std]).all() and (std > 0).all()
    if not fits:
        raise ValueError(f"pose_scale must have six means and deviations, not {brief(record)}")
    return PoseScale(mean=jnp.asarray(mean), std=jnp.asarray(std))
