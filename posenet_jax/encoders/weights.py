"""Encoders with their weights: safetensors in and out, and the taps to invert.

A weights file holds one array a parameter (`conv1/kernel`, `heads/pose/bias`, …) and, in its
metadata, the architecture, the preprocessing and, where heads are present, the z-score of the poses
they predict. Files are read without pickle; every shape is checked. A `state_dict` of torchvision's
AlexNet or SqueezeNet 1.1, saved as safetensors, is known by its names.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct, traverse_util
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from posenet_jax import numerics
from posenet_jax.encoders import imagenet, importing
from posenet_jax.encoders.streetnet import ARCHITECTURES, HeadOutputs, SiameseHeads
from posenet_jax.errors import InputError
from posenet_jax.images.preprocessing import CUSTOMARY, Preprocessing
from posenet_jax.io.files import write_atomically

Array = jax.Array

PRETRAINED = Path(__file__).parents[1] / "pretrained"

ENCODERS = ARCHITECTURES | imagenet.ARCHITECTURES


@struct.dataclass(eq=False)
class Tap:
    """One layer of an encoder as a function from one image (or a batch) to one descriptor.

    A pytree: passed into a jitted function its parameters are arguments, not constants, so that
    two taps of one architecture share a compilation.
    """

    params: Any
    module: nn.Module = struct.field(pytree_node=False)
    layer: str = struct.field(pytree_node=False)
    preprocessing: Preprocessing = struct.field(pytree_node=False)
    evaluated: Any = struct.field(default_factory=dict)

    def __call__(self, image: Array) -> Array:
        """[..., H, W, 3] mean-subtracted image → the tap's activations."""
        variables = {"params": self.params, "evaluated": self.evaluated}
        taps: Any = self.module.apply(variables, numerics.as_float32(image))
        return taps[self.layer]

    def prepared(self) -> "Tap":
        """The same function, with all that depends on the weights alone worked out beforehand."""
        return self.replace(evaluated=_evaluated(self))  # type: ignore[attr-defined]


@jax.jit
def _evaluated(tap: Tap) -> Any:
    size = tap.preprocessing.size
    image = jnp.zeros((size, size, 3), jnp.float32)
    _, variables = tap.module.apply({"params": tap.params}, image, mutable=["evaluated"])
    return variables.get("evaluated", {})


@struct.dataclass
class PoseScale:
    """Mean and deviation [6] of the relative poses of the training pairs (radians, metres)."""

    mean: Array
    std: Array

    def normalise(self, pose: Array) -> Array:
        return (pose - jnp.broadcast_to(self.mean, pose.shape)) / jnp.broadcast_to(
            self.std, pose.shape
        )

    def restore(self, pose: Array) -> Array:
        return pose * jnp.broadcast_to(self.std, pose.shape) + jnp.broadcast_to(
            self.mean, pose.shape
        )


@struct.dataclass
class Encoder:
    """A network, its weights, the image space it reads and, if trained here, its heads."""

    params: Any
    head_params: Any
    pose_scale: PoseScale | None
    module: nn.Module = struct.field(pytree_node=False)
    preprocessing: Preprocessing = struct.field(pytree_node=False)
    name: str = struct.field(pytree_node=False, default="")

    @property
    def taps(self) -> tuple[str, ...]:
        """Names of the layers that can be inverted, from the image on."""
        return self.module.taps

    def tap(self, layer: str) -> Tap:
        """The function to invert. InputError names the taps there are."""
        if layer not in self.taps:
            raise InputError(
                f"no layer {layer!r} in encoder {self.name!r}; its taps are {', '.join(self.taps)}"
            )
        return Tap(self.params, self.module, layer, self.preprocessing)

    def heads(self, first: Array, second: Array) -> HeadOutputs:
        """Heads' outputs for two batches of fc5 descriptors [..., F]; pose still z-scored."""
        if self.head_params is None:
            raise InputError(f"encoder {self.name!r} has no heads")
        pair = numerics.as_float32(first), numerics.as_float32(second)
        outputs: Any = SiameseHeads().apply({"params": self.head_params}, *pair)
        return outputs

    @property
    def fingerprint(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the encoder's parameters."""
        return fingerprint(self.params)


def fingerprint(tree: Any) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a tree of arrays, their names included."""
    digest = hashlib.sha256()
    for name, value in sorted(traverse_util.flatten_dict(tree, sep="/").items()):
        digest.update(name.encode())
        digest.update(np.asarray(value, np.float32).tobytes())
    return digest.hexdigest()[:16]


def init_params(module: nn.Module, key: Array, size: int = 100) -> tuple[Any, Any]:
    """Random parameters of an encoder and of its heads, None where it has no fc5 to put them on."""

    @jax.jit  # of the forward pass nothing is left then but the shapes
    def init(key: Array) -> tuple[Any, Any]:
        encoder_key, head_key = jax.random.split(key)
        image = jnp.zeros((size, size, 3), jnp.float32)
        taps, variables = module.init_with_output(encoder_key, image)
        if "fc5" not in taps:
            return variables["params"], None
        head_variables = SiameseHeads().init(head_key, taps["fc5"], taps["fc5"])
        return variables["params"], head_variables["params"]

    return init(key)


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
    params, _ = init_params(module, numerics.seed_key(seed), space.size)
    return _headless(params, module, space, f"{architecture}-random-{seed}")


def _image_space(architecture: str) -> Preprocessing:
    """What the trained encoder reads; else the channel means customary for Caffe's networks."""
    if architecture in imagenet.IMAGE_SPACES:
        return imagenet.IMAGE_SPACES[architecture]
    if (PRETRAINED / f"{architecture}.safetensors").is_file():
        return load_encoder(architecture).preprocessing
    return CUSTOMARY


def _architecture(name: str) -> type[nn.Module]:
    if name not in ENCODERS:
        raise InputError(f"no architecture {name!r}; there are {', '.join(ENCODERS)}")
    return ENCODERS[name]


def save_encoder(path: str | Path, encoder: Encoder, dtype: str = "float16") -> None:
    """Writes parameters, heads and metadata as safetensors, whole or not at all."""
    tree = dict(encoder.params)
    if encoder.head_params is not None:
        tree["heads"] = encoder.head_params
    architecture = next(k for k, v in ENCODERS.items() if v is type(encoder.module))
    metadata = {
        "architecture": architecture,
        "preprocessing": json.dumps(encoder.preprocessing.to_json(), sort_keys=True),
    }
    if architecture in ARCHITECTURES:
        metadata["descriptor_size"] = str(encoder.module.descriptor_size)
    if encoder.pose_scale is not None:
        scale = {k: np.asarray(v).tolist() for k, v in vars(encoder.pose_scale).items()}
        metadata["pose_scale"] = json.dumps(scale)
    write_tensors(path, tree, metadata, dtype)


def write_tensors(path: str | Path, tree: Any, metadata: dict[str, str], dtype: str) -> None:
    """Writes a tree of arrays, whole or not at all. InputError names one not finite in `dtype`."""
    flat = traverse_util.flatten_dict(tree, sep="/")
    with np.errstate(over="ignore"):  # what overflows is refused below, by name
        tensors = {name: np.asarray(value, dtype) for name, value in flat.items()}
    for name, value in tensors.items():
        if not np.isfinite(value).all():
            raise InputError(f"{name} is not finite in {dtype}: not written to {path}")
    payload = save(tensors, metadata)
    write_atomically(Path(path), lambda file: file.write(payload))


def load_encoder(name_or_path: str | Path = "streetnet") -> Encoder:
    """A bundled encoder by name, `<architecture>-random-<seed>`, or a .safetensors file by path.

    `squeezenet` is SqueezeNet 1.1 trained on ImageNet, where the extra `compare` is installed.
    """
    name = str(name_or_path)
    architecture, marker, seed = name.partition("-random-")
    if marker and architecture in ENCODERS and seed.isdigit():
        return random_encoder(architecture, seed=int(seed))
    if name == "squeezenet":
        space = imagenet.IMAGE_SPACES[name]
        return _headless(importing.packaged_squeezenet(), imagenet.SqueezeNet(), space, name)
    path = PRETRAINED / f"{name}.safetensors"
    if not path.is_file():
        path = Path(name_or_path)
    if not path.is_file():
        bundled = ", ".join(sorted(p.stem for p in PRETRAINED.glob("*.safetensors")))
        raise InputError(
            f"no weights {name!r}: give a .safetensors file or one of {bundled}, or squeezenet"
        )
    tensors, metadata = read_tensors(path)
    kind = importing.recognise(tensors)
    if kind and "architecture" not in metadata:
        params = importing.from_torch(kind(), tensors, origin=f"{path}, read as {kind.__name__}")
        folded = importing.fold_torchvision(params)
        return _headless(folded, kind(), imagenet.TORCHVISION, path.stem)
    return _assemble(path, tensors, metadata)


def encoder_and_layer(named: str) -> tuple[Encoder, str]:
    """What "ENCODER/LAYER" names, the encoder as for `load_encoder`.

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


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(arrays by name, float32; metadata). Raises InputError for what is no safetensors file."""
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {k: file.get_tensor(k).astype(np.float32) for k in file.keys()}
            return tensors, file.metadata() or {}
    except SafetensorError as error:
        raise InputError(f"{path} is not a readable safetensors file: {error}") from error


def _assemble(path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> Encoder:
    needed = {"architecture", "preprocessing"}
    if metadata.get("architecture") not in imagenet.ARCHITECTURES:
        needed.add("descriptor_size")
    if missing := needed - set(metadata):
        raise InputError(f"{path} lacks the metadata {', '.join(sorted(missing))}")
    try:
        kind, options = _architecture(metadata["architecture"]), {}
        if "descriptor_size" in needed:
            options["descriptor_size"] = int(metadata["descriptor_size"])
        module = kind(**options)
        preprocessing = Preprocessing.from_json(json.loads(metadata["preprocessing"]))
        scale = _pose_scale(metadata)
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} has unusable metadata: {error}") from error
    expected = jax.eval_shape(lambda: init_params(module, jax.random.key(0), preprocessing.size))
    has_heads = expected[1] is not None and any(name.startswith("heads/") for name in tensors)
    wanted = {**expected[0], "heads": expected[1]} if has_heads else dict(expected[0])
    tree = checked_tree(path, tensors, wanted)
    return Encoder(
        head_params=tree.pop("heads", None),
        params=tree,
        pose_scale=scale,
        module=module,
        preprocessing=preprocessing,
        name=path.stem,
    )


def _pose_scale(metadata: dict[str, str]) -> PoseScale | None:
    if "pose_scale" not in metadata:
        return None
    record = json.loads(metadata["pose_scale"])
    return PoseScale(**{k: jnp.asarray(v, jnp.float32) for k, v in record.items()})


def checked_tree(path: Path, tensors: dict[str, np.ndarray], wanted: Any) -> dict[str, Any]:
    """The arrays as a tree; InputError names one that is not finite or not as `wanted` says."""
    shapes = traverse_util.flatten_dict(wanted, sep="/")
    importing.check_arrays(path, tensors, {name: leaf.shape for name, leaf in shapes.items()})
    return jax.device_put(traverse_util.unflatten_dict(tensors, sep="/"))
