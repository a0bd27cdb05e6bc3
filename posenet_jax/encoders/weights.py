"""Encoders by name and by file: safetensors in and out.

A weights file holds one array a parameter (`conv1/kernel`, `heads/pose/bias`, …) and, in its
metadata, the architecture, the preprocessing and, where heads are present, the z-score of the poses
they predict. Files are read without pickle; every shape is checked. A `state_dict` of torchvision's
AlexNet or SqueezeNet 1.1, saved as safetensors, is known by its names.
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

from posenet_jax import numerics
from posenet_jax.encoders import bundled_encoders, imagenet, importing
from posenet_jax.encoders.bundled_encoders import PRETRAINED
from posenet_jax.encoders.encoder import Encoder, init_params, parameter_shapes
from posenet_jax.encoders.encoder_networks import NETWORKS
from posenet_jax.encoders.heads import PoseScale
from posenet_jax.encoders.network import Network
from posenet_jax.errors import InputError, one_line, shown
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.io.run_files import brief, parsed_json
from posenet_jax.io.tensors import check_tree, checked_tree, named, read_tensors, write_tensors

Array = jax.Array


def random_encoder(
    architecture: str = "streetnet",
    *,
    seed: int = 0,
    preprocessing: Preprocessing | None = None,
) -> Encoder:
    """The control: the architecture with untrained weights.

    It reads the image space of the trained encoder of its architecture, where there is one.
    """
    module = _architecture(architecture)()
    space = preprocessing or _image_space(architecture)
    parameter_shapes(module, space.size)  # refuses images that are too small for it
    params, _ = init_params(module, numerics.seed_key(seed), space.size)
    return _headless(params, module, space, f"{architecture}-random-{seed}")


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
    wanted = _wanted(encoder.module, encoder.preprocessing.size, encoder.head_params is not None)
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
    if _has_size(kind):
        metadata["descriptor_size"] = str(module.descriptor_size)
    again = _module(metadata)
    if again != module:
        fields = [field.name for field in dataclasses.fields(module)]
        other = [name for name in fields if getattr(again, name) != getattr(module, name)]
        given = ", ".join(f"{name}={brief(getattr(module, name))}" for name in other)
        raise InputError(
            f"a {kind.__name__} with {given} is not written: a file says its descriptor_size alone"
        )
    if encoder.pose_scale is not None:
        scale = {k: np.asarray(v).tolist() for k, v in vars(encoder.pose_scale).items()}
        metadata["pose_scale"] = json.dumps(scale)
    return metadata


def _module(metadata: Mapping[str, str]) -> nn.Module:
    kind = _architecture(metadata["architecture"])
    if not _has_size(kind):
        return kind()
    size = parsed_json(metadata["descriptor_size"], range(1, 2**31), "descriptor_size")
    return kind(**{"descriptor_size": size})  # a field of the networks that have one


def _wanted(module: nn.Module, size: int, has_heads: bool) -> dict[str, Any]:
    """The shapes of what a file holds."""
    params, heads = parameter_shapes(module, size)
    return {**params, "heads": heads} if has_heads and heads is not None else dict(params)


def load_encoder(name_or_path: str | Path = bundled_encoders.DEFAULT) -> Encoder:
    """A bundled encoder by name, `<architecture>-random-<seed>`, or a .safetensors file by path.

    `squeezenet` is SqueezeNet 1.1 trained on ImageNet, where the extra `compare` is installed.
    """
    name = str(name_or_path)
    architecture, marker, seed = name.partition("-random-")
    if marker and architecture in NETWORKS and seed.isdigit():
        return random_encoder(architecture, seed=int(seed))
    if name in importing.PACKAGED:
        kind = NETWORKS[name]
        return _headless(importing.PACKAGED[name](), kind(), kind.image_space, name)
    path = PRETRAINED / f"{name}.safetensors"
    if not path.is_file():
        path = Path(name_or_path)
    if not path.is_file():
        bundled = ", ".join(bundled_encoders.names(PRETRAINED))
        raise InputError(
            f"no weights {name!r}: give a .safetensors file or one of {bundled}, or squeezenet"
        )
    tensors, metadata = read_tensors(path)
    found = importing.recognise(tensors)
    if found and "architecture" not in metadata:
        params = importing.from_torch(found(), tensors, origin=f"{path}, read as {found.__name__}")
        folded = importing.fold_torchvision(params)
        return _headless(folded, found(), imagenet.TORCHVISION, path.stem)
    return _assemble(path, tensors, metadata)


def encoder_and_layer(named: str) -> tuple[Encoder, str]:
    """Encoder and layer that "ENCODER/LAYER" names, the encoder as for `load_encoder`.

    Raises InputError where it is not of that form, or the encoder has no such layer.
    """
    name, separator, layer = named.rpartition("/")
    if not separator:
        raise InputError(f"expected ENCODER/LAYER, such as streetnet/fc5; received {named!r}")
    encoder = load_encoder(name)
    encoder.tap(layer)
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
    if missing := needed - set(metadata):
        raise InputError(_lacking(path, missing, tensors))
    has_heads = any(name.startswith("heads/") for name in tensors)
    try:
        module = _module(metadata)
        preprocessing = Preprocessing.from_json(parsed_json(metadata["preprocessing"]))
        scale = _pose_scale(metadata)
        wanted = _wanted(module, preprocessing.size, has_heads)
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
        f"save_encoder wrote, and is no state_dict of torchvision's AlexNet or SqueezeNet ({holds})"
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
