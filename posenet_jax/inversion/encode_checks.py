"""Checks of a caller's arguments before the first step: φ, objective, targets, starts, keys.

φ is any function from one image, float32 [H, W, C] in network space, to floating numbers, the
descriptor: one array or a pytree of them. Whatever else it is or returns is refused here with what
to do instead: inside the compiled step the same mistake would be named by its consequence.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.errors import TracerArrayConversionError
from jax.tree_util import keystr

from posenet_jax.errors import InputError, one_line
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import data_terms, parameterisations
from posenet_jax.inversion.priors import shown
from posenet_jax.inversion.recipes import Recipe


def descriptor_like(phi: Any, space: Preprocessing) -> Any:
    """Returns shapes and dtypes of φ of one image, in float32, without computing it.

    Raises InputError where φ is no function, fails on such an image, or returns anything but
    floating numbers.
    """
    if not callable(phi):
        layer = ": give one of its taps, .tap(layer)" if hasattr(phi, "tap") else ""
        raise InputError(f"phi must be a function of one image, not a {kind_of(phi)}{layer}")
    size = list(space.shape)
    try:
        output = jax.eval_shape(phi, jax.ShapeDtypeStruct(size, jnp.float32))
    except InputError:
        raise
    except Exception as error:  # a caller's function raises what it likes
        raise InputError(
            f"phi fails on one image, float32 {size} without a batch axis: "
            f"{type(error).__name__}: {one_line(error)}"
        ) from error
    layers = jax.tree_util.tree_leaves_with_path(output)
    if not layers:
        raise InputError(
            f"phi returns a {kind_of(output)} without an array: return floating numbers"
        )
    for path, layer in layers:
        if not jnp.issubdtype(layer.dtype, jnp.floating):
            raise InputError(
                f"phi returns {layer.dtype}{_place(path)}, which has no gradient to follow: return "
                "floating numbers"
            )
    return jax.tree.map(lambda layer: jax.ShapeDtypeStruct(layer.shape, jnp.float32), output)


def _place(path: tuple[Any, ...]) -> str:
    return f" at {keystr(path)}" if path else ""


def kind_of(value: Any) -> str:
    """Returns the name of a value's type, for messages."""
    return type(value).__name__


def as_targets(values: Any, name: str = "targets") -> np.ndarray:
    """Values as a float32 array on the host. Raises InputError for what is not floating numbers."""
    try:
        array = np.asarray(values)
    except TracerArrayConversionError:
        raise InputError(
            f"{name} traced by JAX: the engine drives its steps from the host and cannot be called "
            "inside jit, vmap or grad; posenet_jax.solve can"
        ) from None
    except Exception as error:  # another library's array may refuse in its own way
        raise InputError(f"{name} of which NumPy makes no array: {one_line(error)}") from error
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise InputError(
            f"{name} of dtype {array.dtype}: give floating numbers, as descriptors of images are"
        )
    with np.errstate(over="ignore"):  # what overflows is not finite, and refused as that
        return array.astype(np.float32)


def checked_targets(targets: Any, like: Any) -> Any:
    """Returns targets in float32, arrays [N, ...]. Raises InputError for unusable ones, or none.

    like: shapes of one target, a pytree; None: any.
    """
    if like is None:
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x)[1:], jnp.float32), targets)
    count: int | None = None

    def checked(path: tuple[Any, ...], own: jax.ShapeDtypeStruct, values: Any) -> np.ndarray:
        nonlocal count
        array, place = as_targets(values, f"targets{keystr(path)}"), _place(path)
        if array.ndim < 1 or array.shape[0] == 0:
            raise InputError("there are no targets to invert")
        count = count or len(array)
        if array.shape[1:] != own.shape:
            raise InputError(
                f"targets have shape {list(array.shape)}{place}; this encoder's descriptors need "
                f"[{', '.join(map(str, ('N', *own.shape)))}]"
            )
        if len(array) != count:
            raise InputError(f"targets have {len(array)} rows{place}, and {count} before that")
        bad = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(1))
        if bad.size:
            numbers = bad[:10].tolist()
            raise InputError(f"targets {numbers} hold values that are not finite in float32{place}")
        return array

    arrays = matched(checked, like, targets, "targets")
    if count is None:
        raise InputError(f"there are no targets to invert in a {kind_of(targets)}")
    return arrays


def matched(checked: Callable[..., Any], like: Any, values: Any, name: str) -> Any:
    """Returns `checked`(path, shapes, values) of each array; InputError for another structure."""
    structure: Any = jax.tree.structure(like)
    try:
        structure.flatten_up_to(values)
    except ValueError:
        wanted, received = (
            str(tree)[len("PyTreeDef(") : -1] for tree in (structure, jax.tree.structure(values))
        )
        raise InputError(
            f"{name} must be {wanted}, as phi's descriptors and the data term ask, not {received}"
        ) from None
    return jax.tree_util.tree_map_with_path(checked, like, values)


def check_objective(recipe: Recipe, descriptor: Any, target: Any, space: Preprocessing) -> None:
    """Raises InputError for leaf weights that do not fit, and for functions that give no number.

    descriptor, target: their shapes.
    """
    if recipe.leaf_weights is not None:
        matched(lambda *_: None, descriptor, recipe.leaf_weights, "the recipe's leaf_weights")
    if callable(recipe.data_term):
        _check_number(recipe.data_term, "data term", descriptor, target)
    image = jax.ShapeDtypeStruct(space.shape, jnp.float32)
    for prior in filter(callable, recipe.priors):
        _check_number(prior, "prior", image)
    for transform in filter(callable, recipe.transforms):
        _check_transform(transform, image)
    if callable(recipe.diverse_in):
        _check_features(recipe.diverse_in, image)


def _check_number(function: Callable[..., Any], kind: str, *arguments: Any) -> None:
    name = f"{kind} {shown(function)}"
    try:
        number = jax.eval_shape(function, *arguments)
    except Exception as error:  # a caller's function raises what it likes
        raise InputError(f"{name} fails: {type(error).__name__}: {one_line(error)}") from error
    if getattr(number, "shape", None) != () or not jnp.issubdtype(number.dtype, jnp.floating):
        raise InputError(f"{name} must return one floating number, not {_described(number)}")


def _check_transform(transform: Callable[..., Any], image: jax.ShapeDtypeStruct) -> None:
    name, amount = f"transform {shown(transform)}", jax.ShapeDtypeStruct((), jnp.float32)
    try:
        made = jax.eval_shape(transform, image, jax.random.key(0, impl="threefry2x32"), amount)
    except Exception as error:  # a caller's function raises what it likes
        raise InputError(f"{name} fails: {type(error).__name__}: {one_line(error)}") from error
    if getattr(made, "shape", None) != image.shape or not jnp.issubdtype(made.dtype, jnp.floating):
        expected = list(image.shape)
        raise InputError(f"{name} must return an image {expected}, not {_described(made)}")


def _check_features(features: Callable[..., Any], image: jax.ShapeDtypeStruct) -> None:
    name = f"diverse_in {shown(features)}"
    try:
        made = jax.eval_shape(features, image)
    except Exception as error:  # a caller's function raises what it likes
        raise InputError(f"{name} fails: {type(error).__name__}: {one_line(error)}") from error
    if not (hasattr(made, "dtype") and jnp.issubdtype(made.dtype, jnp.floating)):
        raise InputError(f"{name} must return an array of floating numbers, not {_described(made)}")


def check_begins(recipe: Recipe) -> None:
    """Raises InputError where a recipe begins in a generator and has none."""
    if recipe.start == "generator" and not parameterisations.of(recipe.parameterisation).begin:
        raise InputError(
            f"recipe {recipe.name!r} begins in a generator: give it one with "
            "decoders.generator_space.recipe_in(recipe, decoder), or call posenet_jax.invert, which"
            " takes the bundled one of a bundled encoder's layer"
        )


def checked_starts(
    start: Any, recipe: Recipe, count: int, space: Preprocessing
) -> np.ndarray | list[None]:
    """Starts [N, H, W, C] as float32, or N times None. Raises InputError where they do not fit."""
    _check_wanted(start, recipe)
    if start is None:
        return [None] * count
    array = as_targets(start, "start images")
    if array.shape != (count, *space.shape) or not np.isfinite(array).all():
        raise InputError(
            f"start must be finite, {[count, *space.shape]}; received {list(array.shape)}"
        )
    return array


def _check_wanted(start: Any, recipe: Recipe) -> None:
    if (recipe.start == "image") != (start is not None):
        wanted = "begins with images: give start" if start is None else "begins with noise alone"
        raise InputError(f"recipe {recipe.name!r} {wanted}")


def traced_target(target: Any, descriptor: Any, recipe: Recipe, space: Preprocessing) -> Any:
    """Returns one target in float32, which JAX may be tracing. Raises InputError by its shapes.

    descriptor: its shapes.
    """
    like = target_like(recipe, descriptor, target)
    check_objective(recipe, descriptor, like, space)
    return matched(
        lambda path, own, values: _traced(values, own.shape, f"target{keystr(path)}"),
        like,
        target,
        "target",
    )


def traced_start(start: Any, recipe: Recipe, space: Preprocessing) -> jax.Array | None:
    """Returns a start [H, W, C] in float32, likewise."""
    _check_wanted(start, recipe)
    return None if start is None else _traced(start, space.shape, "start")


def _traced(values: Any, shape: tuple[int, ...], name: str) -> jax.Array:
    try:
        array = jnp.asarray(values)
    except Exception as error:  # another library's array may refuse in its own way
        raise InputError(f"{name} of which JAX makes no array: {one_line(error)}") from error
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise InputError(f"{name} of dtype {array.dtype}: give floating numbers")
    if array.shape != shape:
        raise InputError(f"{name} has shape {list(array.shape)}, expected {list(shape)}")
    return array.astype(jnp.float32)


def target_like(recipe: Recipe, descriptor: Any, target: Any) -> Any:
    """Returns the shapes that one target must have; where the data term is a function, its own."""
    like = data_terms.target_like(recipe.data_term, descriptor)
    if like is not None:
        return like
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), jnp.float32), target)


def check_numbers(recipe: Recipe, whose: str) -> None:
    """Raises InputError where a recipe of one image has arrays."""
    for path, value in jax.tree_util.tree_leaves_with_path(recipe):
        if np.ndim(value):
            name, received = keystr(path).lstrip("."), list(np.shape(value))
            raise InputError(f"{whose} {name} must be one number, not {received}")


def check_key(key: Any) -> None:
    """Raises InputError for what is not one of JAX's random keys."""
    try:
        jax.eval_shape(lambda key: jax.random.fold_in(key, 0), key)
    except Exception as error:  # each kind of wrong key has an error of its own
        raise InputError(
            f"key must be one random key, such as jax.random.key(0), not {_described(key)}"
        ) from error


def _described(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"{value.dtype} {list(shape)}" if shape is not None else f"a {kind_of(value)}"
