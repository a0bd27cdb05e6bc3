"""Courts, traffic and weather: what changes, what stays, and how often."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from posenet_jax import scenes
from posenet_jax.scenes import vectors
from posenet_jax.scenes.street import street_views, variety
from posenet_jax.scenes.street.city import (
    CAR_BODIES,
    CAR_CABINS,
    GROUND,
    LOTS,
    OPEN,
    POLES,
    TURNED,
    build_city,
)

COUNT = 200
PLAIN = scenes.SceneConfig()


@functools.cache
def _cities(**chances):
    """Cities [COUNT] of one key each."""
    config = dataclasses.replace(PLAIN, **chances)

    def one(key):
        return variety.build_street(scenes.scene_keys(key), config)

    return jax.device_get(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), COUNT)))


def _same(one, other):
    """[COUNT] bool: is every array of two trees the same, but for two programs' rounding?"""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    close = [np.isclose(a, b, rtol=1e-5, atol=1e-4).reshape(COUNT, -1).all(1) for a, b in pairs]
    return np.all(close, axis=0)


def test_without_chances_a_street_is_the_street():
    plain = jax.jit(jax.vmap(lambda key: build_city(scenes.scene_keys(key), PLAIN)))
    assert _same(_cities(), plain(jax.random.split(jax.random.key(0), COUNT))).all()


@pytest.mark.parametrize("name", ["court", "traffic", "weather"])
def test_as_many_change_as_the_chance_says_and_the_others_not_at_all(name):
    changed = ~_same(_cities(**{f"chance_of_{name}": 0.3}), _cities())
    assert 0.2 < changed.mean() < 0.4


def test_a_court_changes_what_closes_it_alone():
    plain, court = _cities(), _cities(chance_of_court=1.0)
    assert _same(plain.surface, court.surface).all() and _same(plain.light, court.light).all()
    kept = np.delete(np.arange(plain.boxes.low.shape[1]), np.arange(TURNED.start, TURNED.stop))
    np.testing.assert_allclose(plain.boxes.low[:, kept], court.boxes.low[:, kept], atol=1e-4)
    assert (plain.street.end == OPEN).all()
    assert (court.street.end > 6.9).all() and (court.street.end < 28.1).all()


def test_a_court_is_closed_but_for_one_passage():
    court = _cities(chance_of_court=1.0)
    low, high = court.boxes.low[:, TURNED], court.boxes.high[:, TURNED]
    standing = high[..., 2] > 0.0
    assert (standing.sum(axis=1) >= 3).all() and 0.1 < (standing.sum(axis=1) == 3).mean() < 0.7
    # Each half of an end reaches from the middle beyond its row of buildings.
    left, right = court.street.line.T
    for wall, line in enumerate((left, -right, left, -right)):
        inner, outer = np.sort(np.abs([low[:, wall, 1], high[:, wall, 1]]), axis=0)
        assert (inner < 0.01).all() and (outer > np.abs(line) + 2.0).all()
    # No wall stands before the end that the city states.
    assert (low[:, :2, 0] >= court.street.end[:, :1] - 1e-3).all()
    assert (-high[:, 2:, 0] >= court.street.end[:, 1:] - 1e-3).all()


def test_targets_in_a_court_lie_on_its_walls_and_rows():
    court = _cities(chance_of_court=1.0)
    keys = jax.random.split(jax.random.key(1), COUNT)
    point, normal = jax.device_get(jax.jit(jax.vmap(street_views.street_targets))(keys, court))
    np.testing.assert_allclose(np.linalg.norm(normal, axis=-1), 1.0, atol=1e-5)
    boxes = court.boxes
    for city in range(COUNT):
        for target in range(point.shape[1]):
            ids = np.arange(TURNED.start, TURNED.stop) if target >= 2 else np.arange(2 * LOTS)
            place, way = (
                np.array(vectors.turn_vector(court.turn[city], tuple(v))) if target >= 2 else v
                for v in (point[city, target], normal[city, target])
            )
            low, high = boxes.low[city, ids], boxes.high[city, ids]
            inside = np.all((place > low - 1e-3) & (place < high + 1e-3), axis=1)
            axis = int(np.argmax(np.abs(way)))
            face = high[:, axis] if way[axis] > 0 else low[:, axis]
            # Nothing sees a target on a wall that is missing: it lies below the ground.
            assert place[2] < 1.0 or np.any(inside & (np.abs(face - place[axis]) < 2e-3))


def test_cameras_in_a_court_stand_in_it():
    config = dataclasses.replace(PLAIN, chance_of_court=1.0)
    court = _cities(chance_of_court=1.0)
    places = functools.partial(street_views.street_places, target=np.zeros(3), config=config)
    places = jax.jit(jax.vmap(places))
    x = np.asarray(places(jax.random.split(jax.random.key(2), COUNT), court))[..., 0]
    assert (x < court.street.end[:, :1] - 0.9).all() and (x > 0.9 - court.street.end[:, 1:]).all()


def test_traffic_stands_on_the_ground_between_the_houses():
    plain, busy = _cities(), _cities(chance_of_traffic=1.0)
    left, right = busy.street.line.T
    for part in (CAR_BODIES, CAR_CABINS, POLES):
        low, high = busy.boxes.low[:, part], busy.boxes.high[:, part]
        middle = 0.5 * (low + high)[..., 1]
        assert (middle < left[:, None]).all() and (middle > -right[:, None]).all()
    roofs = busy.boxes.high[:, CAR_CABINS, 2]
    assert 0.3 < (roofs > 2.1).mean() < 0.5 and roofs.max() < 3.4
    people = np.any(busy.surface.tint[:, POLES] != plain.surface.tint[:, POLES], axis=-1)
    heights = busy.boxes.high[:, POLES, 2]
    assert 0.6 < people.mean() < 0.8
    assert (heights[people] > 1.0).all() and (heights[people] < 2.0).all()


def test_each_weather_has_its_light():
    plain, other = _cities(), _cities(chance_of_weather=1.0)
    dark = other.light.zenith.max(axis=-1) < 0.1
    sunless = other.light.sunlight.max(axis=-1) == 0.0
    low = ~sunless
    fog = other.light.haze > 0.007
    snow = np.any(other.surface.tint[:, GROUND] > 1.5 * plain.surface.tint[:, GROUND], axis=-1)
    for one in (dark, low, fog, snow):
        assert 0.15 < one.mean() < 0.35
    assert (dark.astype(int) + low + fog + snow == 1).all() and (sunless == ~low).all()
    assert (other.light.sun[low, 2] < 0.3).all()
    np.testing.assert_allclose(np.linalg.norm(other.light.sun, axis=-1), 1.0, atol=1e-5)
    assert _same(plain.boxes, other.boxes).all()
