"""Scenes changed in one way: what changes, what stays, and SciPy's rotations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from posenet_jax import scenes
from posenet_jax.analysis import texture
from posenet_jax.scenes import interventions, solids
from posenet_jax.scenes.car import cars
from posenet_jax.scenes.street import city

SCENES = 6
CONFIG = scenes.SceneConfig(height=32, width=32, rays=1)
CLUTTER = [scenes.Semantic.CAR, scenes.Semantic.TREE, scenes.Semantic.POLE]
CAMERA = ("yaw", "pitch", "roll", "translation")


@pytest.fixture(scope="module")
def drawn():
    keys = interventions.numbered_keys(jax.random.key(4), 0, SCENES)
    return interventions.draw(keys, CONFIG)


@pytest.fixture(scope="module")
def seen(drawn, small_atlas):
    return {
        name: jax.device_get(scenes.render_scenes(scene, small_atlas, CONFIG, geometry=True))
        for name, scene in drawn.items()
    }


def equal(one, two):
    def plain(leaf):
        return (
            jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        )

    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
    return all(np.array_equal(plain(a), plain(b)) for a, b in leaves)


def test_all_are_drawn_in_the_order_of_figures(drawn, seen):
    assert list(drawn) == ["original", *interventions.AMOUNTS]
    for views in seen.values():
        assert views.image.shape == (SCENES, 1, 32, 32, 3)
    for name in interventions.AMOUNTS:
        assert (seen[name].image != seen["original"].image).any(), name


def test_scenes_whose_textures_alone_are_drawn_anew_are_told_from_their_twins(small_atlas):
    """By the statistics of texture, blurred too; sizes are those of the other tests here."""
    keys = interventions.numbered_keys(jax.random.key(4), 0, SCENES)
    drawn = [scenes.first_view(scenes.sample_scenes(keys, config=CONFIG))]
    drawn += [interventions.redrawn(keys, "texture", number, CONFIG) for number in (1, 2)]
    views = [scenes.render_scenes(one, small_atlas, CONFIG, geometry=True) for one in drawn]
    for twin, scene in zip(views[1:], drawn[1:], strict=True):
        for field in ("depth", "semantic", "normals"):
            before, after = (getattr(x.geometry, field) for x in (views[0], twin))
            np.testing.assert_array_equal(before, after)
        assert equal(drawn[0].cameras, scene.cameras)
        assert equal(drawn[0].developments, scene.developments)
        assert equal(drawn[0].world.light, scene.world.light)
    images, *others = (np.asarray(one.image)[:, 0] for one in views)
    assert (others[0] != images).any() and (others[0] != others[1]).any()
    for sigma in (0.0, 0.7):
        pictures = ndimage.gaussian_filter(images, (0, sigma, sigma, 0))
        told = texture.measures(pictures, images, np.stack(others, axis=1))["own_texture"]
        assert np.nanmean(told) > 0.9


@pytest.mark.parametrize("name", ["noise", "photograph", "colour", "texture", "light"])
def test_appearance_leaves_what_there_is_to_see(drawn, seen, name):
    before, after = seen["original"], seen[name]
    for field in ("depth", "semantic", "normals", "vanishing"):
        np.testing.assert_array_equal(
            getattr(before.geometry, field), getattr(after.geometry, field)
        )
    assert equal(drawn["original"].cameras, drawn[name].cameras)
    same_world = name in ("noise", "photograph")
    assert equal(drawn["original"].world, drawn[name].world) == same_world
    assert equal(drawn["original"].developments, drawn[name].developments) != same_world


def test_noise_changes_nothing_but_the_noise(drawn, seen):
    before, after = drawn["original"].developments, drawn["noise"].developments
    assert equal(before._replace(noise_key=after.noise_key), after)
    change = seen["noise"].image.astype(float) - seen["original"].image
    # Two draws of uniform noise of the same deviation.
    expected = np.sqrt(2.0) * 255.0 * np.asarray(before.noise)[:, 0]
    found = change.std(axis=(1, 2, 3, 4))
    assert (found < 1.3 * expected + 0.5).all() and found.max() > 0.5
    assert np.abs(change).max() <= np.sqrt(6.0) * expected.max() + 1.0


def test_geometry_is_another_street_of_the_same_looks(drawn, seen):
    before, after = drawn["original"], drawn["geometry"]
    assert not equal(before.world.boxes, after.world.boxes)
    assert equal(before.world.surface, after.world.surface)
    assert equal(before.world.light, after.world.light)
    assert equal(before.developments, after.developments)
    assert (seen["original"].geometry.semantic != seen["geometry"].geometry.semantic).any()


def test_clutter_leaves_the_street_behind_it(seen):
    before, after = seen["original"].geometry, seen["clutter"].geometry
    hidden = np.isin(before.semantic, CLUTTER)
    assert hidden.any() and not np.isin(after.semantic, CLUTTER).any()
    np.testing.assert_array_equal(before.semantic[~hidden], after.semantic[~hidden])
    np.testing.assert_array_equal(before.depth[~hidden], after.depth[~hidden])
    assert (after.depth[hidden] > before.depth[hidden]).all()


@pytest.mark.parametrize("name", CAMERA)
def test_the_camera_moves_as_scipy_says(drawn, seen, name):
    before, after = (jax.device_get(drawn[n].cameras) for n in ("original", name))
    assert equal(drawn["original"]._replace(cameras=drawn[name].cameras), drawn[name])
    angles = {"yaw": (10, 0, 0), "pitch": (0, 10, 0), "roll": (0, 0, 10)}.get(name, (0, 0, 0))
    turn = Rotation.from_euler("YXZ", angles, degrees=True).as_matrix()
    np.testing.assert_allclose(after.rotation, before.rotation @ turn, atol=1e-6)
    target = np.asarray(drawn["original"].target)[:, None]
    distance = np.linalg.norm(target - before.centre, axis=-1, keepdims=True)
    step = 0.15 * distance * before.rotation[..., 0] if name == "translation" else 0.0
    np.testing.assert_allclose(after.centre, before.centre + step, atol=1e-5)
    # The first of `scenes.moved` by hand.
    camera = jax.tree.map(lambda x: x[0, 0], before)
    by_hand = scenes.moved(camera, **dict(zip(CAMERA, np.radians(angles), strict=False)))
    np.testing.assert_allclose(after.rotation[0, 0], by_hand.rotation, atol=1e-6)


def test_a_scene_depends_on_its_number_alone(drawn):
    keys = interventions.numbered_keys(jax.random.key(4), 2, SCENES)
    later = interventions.draw(keys, CONFIG)
    for name in interventions.AMOUNTS:
        one, two = (
            jax.tree.map(lambda x, rows=rows: x[rows], made[name].cameras)
            for made, rows in ((drawn, slice(2, None)), (later, slice(0, SCENES - 2)))
        )
        assert equal(one, two), name


def test_rooms_have_no_clutter():
    rooms = interventions.available(scenes.RoomConfig())
    assert set(interventions.AMOUNTS) - set(rooms) == {"clutter"}
    with pytest.raises(ValueError, match="no kind of scene has a ViewConfig"):
        interventions.available(scenes.ViewConfig())


def test_the_car_that_is_looked_at_stays_alone():
    build = jax.jit(lambda key: cars.build_cars(scenes.scene_keys(key), scenes.CarConfig()))
    for number in range(4):
        world = build(jax.random.key(number))
        bare = jax.jit(scenes.kind_named("cars").functions().clutter)(world)
        standing = {}
        for made in (world, bare):
            above = set()
            for first, solid in made.solids():
                top = np.asarray(solids.bounds(solid).high)[:, 2]
                above |= {first + i for i in np.flatnonzero(top > 0).tolist()}
            standing[made is bare] = above
        car = {city.CAR_BODIES.start, city.CAR_CABINS.start, cars.AXLES.start}
        car.add(cars.AXLES.start + cars.NUM_CARS)
        buildings = {i for i in standing[False] if i < city.TURNED.stop}
        assert standing[True] == car | buildings
        for part in ("low", "high"):
            own, kept = (getattr(made.city.boxes, part)[city.CAR_BODIES] for made in (world, bare))
            np.testing.assert_array_equal(own[0], kept[0])
            wedge = getattr(bare.wedges.boxes, part)
            np.testing.assert_array_equal(kept, wedge[: cars.NUM_CARS])
