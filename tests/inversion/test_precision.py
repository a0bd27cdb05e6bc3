"""Steps in low precision, on a device whose fast products round as a GPU's or a TPU's.

That device is an interpreter of the function: of products whose precision JAX's program says is not
the highest, the operands are rounded, forward and backward.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from posenet_jax.errors import InputError
from posenet_jax.images.preprocessing import Preprocessing
from posenet_jax.inversion import engine, recipes, solver
from posenet_jax.inversion.job_queues import Job

BFLOAT16 = 7  # bits of mantissa
PRODUCTS = ("dot_general", "conv_general_dilated")
KEY = jax.random.key(7)
SIDE = 16
SPACE = Preprocessing(means=(90.0, 100.0, 110.0), size=SIDE)
RNG = np.random.default_rng(0)
FIRST = RNG.normal(0, 0.02, (24, SIDE * SIDE * 3)).astype(np.float32)
SECOND = RNG.normal(0, 0.2, (12, 24)).astype(np.float32)
FEW = recipes.CALIBRATED.replace(steps=12)


def rounding(function, bits):
    """The function on a device whose products round their operands to so many bits of mantissa."""

    def computed(jaxpr, consts, *args):
        values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

        def read(atom):
            return atom.val if hasattr(atom, "val") else values[atom]

        for equation in jaxpr.eqns:
            inputs = [read(atom) for atom in equation.invars]
            inner = next(
                (
                    equation.params[name]
                    for name in ("jaxpr", "call_jaxpr")
                    if name in equation.params
                ),
                None,
            )
            if inner is not None:
                outputs = computed(inner.jaxpr, inner.consts, *inputs)
            else:
                precision = equation.params.get("precision")
                if (
                    equation.primitive.name in PRODUCTS
                    and precision != (lax.Precision.HIGHEST,) * 2
                ):
                    inputs = [lax.reduce_precision(x, 8, bits) for x in inputs]
                outputs = equation.primitive.bind(*inputs, **equation.params)
                outputs = outputs if equation.primitive.multiple_results else [outputs]
            values.update(zip(equation.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def on_device(function, *args):
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
        leaves = computed(closed.jaxpr, closed.consts, *jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shape), leaves)

    @jax.custom_vjp
    def rounded(image):
        return on_device(function, image)

    def backward(image, cotangent):
        return (on_device(lambda x, d: jax.vjp(function, x)[1](d)[0], image, cotangent),)

    rounded.defvjp(lambda image: (rounded(image), image), backward)
    return rounded


def phi(image):
    return jnp.asarray(SECOND) @ jax.nn.softplus(jnp.asarray(FIRST) @ image.ravel())


on_tpu = rounding(phi, BFLOAT16)
IMAGES = RNG.normal(0, 50, (4, SIDE, SIDE, 3)).astype(np.float32)
TARGETS = np.stack([np.asarray(phi(image)) for image in IMAGES])


# One device and two slots in every test, which share their programs.
HOW = {"key": KEY, "space": SPACE, "slots": 2}
HALF = FEW.replace(low_precision_share=0.5)


def invert(recipe, encode=on_tpu, targets=TARGETS, **options):
    return engine.invert(encode, targets, recipe=recipe, mesh=one_device(), **HOW, **options)


def one_device():
    return jax.sharding.Mesh(np.asarray(jax.local_devices()[:1]), ("slots",))


def true_errors(result):
    found = np.stack([np.asarray(phi(image)) for image in result.image])
    return np.linalg.norm(found - TARGETS, axis=1) / np.linalg.norm(TARGETS, axis=1)


def test_losses_are_those_in_full_precision_and_without_the_recipe_they_are_not():
    low = invert(FEW)
    assert np.abs(low.descriptor_error - true_errors(low)).max() > 1e-4
    for share in (0.5, 1.0):  # the last step at least is in full precision
        result = invert(HALF.replace(low_precision_share=share))
        np.testing.assert_allclose(result.descriptor_error, true_errors(result), rtol=1e-4)
        assert set(result.steps) == {12}


def test_no_share_is_full_precision_and_half_comes_as_near():
    full, none = invert(FEW, encode=phi), invert(HALF.replace(low_precision_share=0.0))
    np.testing.assert_allclose(none.image, full.image, atol=1e-2)
    assert np.abs(invert(HALF).image - full.image).max() > 0.1  # so that the bound above can fail
    errors = [
        np.median(invert(recipe.replace(steps=100), encode=encode).descriptor_error)
        for recipe, encode in ((HALF, on_tpu), (FEW, phi))
    ]
    assert errors[0] == pytest.approx(errors[1], rel=0.05)


def test_a_result_does_not_depend_on_neighbours_in_another_half_of_their_steps():
    def run(steps):
        jobs = [
            Job(i, TARGETS[i], recipe=HALF.replace(steps=number), number=i)
            for i, number in enumerate(steps)
        ]
        return list(engine.run(on_tpu, jobs, recipe=HALF, mesh=one_device(), **HOW))

    alike, mixed = run([12, 12, 12, 12]), run([12, 5, 12, 9])
    for number in (0, 2):
        np.testing.assert_array_equal(mixed[number].image, alike[number].image)
        assert mixed[number].relative_loss == alike[number].relative_loss
    assert [one.steps for one in mixed] == [12, 5, 12, 9]


def test_solve_and_groups_in_a_loop_do_the_same():
    expected = invert(HALF).image[0]
    key = jax.random.fold_in(KEY, 0)
    alone = solver.solve(on_tpu, TARGETS[0], key=key, recipe=HALF, space=SPACE)
    np.testing.assert_allclose(alone.image, expected, atol=0.05)
    assert alone.steps == 12
    group = invert(HALF.replace(group=2, diverse=0.0), targets=TARGETS[:1], chunk=25)
    np.testing.assert_allclose(group.image[0, 0], expected, atol=0.05)
    assert group.steps.tolist() == [[12, 12]]


def test_nothing_stalls_in_low_precision():
    assert set(invert(HALF.replace(patience=2, learning_rate=0.0)).steps) == {9}


def test_what_cannot_be_is_refused_and_what_is_not_chosen_not_recorded():
    with pytest.raises(ValueError, match="between 0 and 1, received 1.5"):
        FEW.replace(low_precision_share=1.5)
    assert "low_precision_share" not in recipes.record(FEW)
    assert recipes.record(HALF)["low_precision_share"] == 0.5
    jobs = [Job(3, TARGETS[0], recipe=HALF)]
    with pytest.raises(InputError, match="job 3: .* one of the two alone a low_precision_share"):
        list(engine.run(phi, jobs, recipe=FEW, **HOW))
