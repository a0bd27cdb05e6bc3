"""Cars and rooms against independent oracles: float64 polyhedra, SciPy's rotations, properties."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from float64_solids import oracle, part
from scipy.spatial.transform import Rotation

from posenet_jax import scenes
from posenet_jax.scenes import raycast, shading
from posenet_jax.scenes import views as pair_views
from posenet_jax.scenes.car import bodywork, cars
from posenet_jax.scenes.intersections import SLANTED
from posenet_jax.scenes.room import rooms
from posenet_jax.scenes.street import city

SIZE = 32
SCENES = 6  # of every batch, so that all tests of a kind share its programs
RAYS = 3000
KINDS = {
    "cars": scenes.CarConfig(height=SIZE, width=SIZE, rays=1),
    "indoor": scenes.RoomConfig(height=SIZE, width=SIZE, rays=1),
}
CLASSES = {
    "cars": {"SKY", "GROUND", "BUILDING", "CAR", "TREE", "POLE"},
    "indoor": {
        "TREE", "FLOOR", "WALL", "CEILING", "WINDOW", "DOOR", "PICTURE", "TABLE", "SEAT", "BED",
        "CUPBOARD", "LAMP",
    },
}  # fmt: skip
# Yaw, pitch, roll (radians) and translation (metres) of six cameras.
ANGLES = np.array(
    [[0, 0, 0], [0.2, 0, 0], [0, 0.15, 0], [0, 0, 0.4], [0, 0, 0], [-0.2, 0.1, 1]], np.float32
)
SHIFTS = np.array(
    [[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], [0.1, -0.2, 0.3], [-0.1, 0.1, 0]], np.float32
)


class Made(NamedTuple):
    """A kind's batch."""

    name: str
    config: scenes.ViewConfig
    keys: jax.Array
    scene: scenes.Scene
    world: Any  # the scene's, in NumPy
    views: scenes.Views  # in NumPy, with geometry


@pytest.fixture(scope="module")
def atlas(small_atlas):
    return small_atlas


def look(scene, atlas, config):
    """Pictures and geometry of a scene, in NumPy."""
    views = scenes.render_scenes(scene, atlas, config, geometry=True)
    return jax.device_get(views)


@pytest.fixture(scope="module", params=list(KINDS))
def made(request, atlas):
    config = KINDS[request.param]
    keys = jax.random.split(jax.random.key(5), SCENES)
    scene = scenes.sample_scenes(keys, config=config)
    views = look(scene, atlas, config)
    return Made(request.param, config, keys, scene, jax.device_get(scene.world), views)


def cast(world, centre, direction):
    """Hits of rays direction [R, 3] of one world, their normals, and whether their ends see it.

    Not compiled: that would take longer than all else here.
    """
    centre, way = jnp.float32(centre), raycast.triple(jnp.float32(direction.T))
    hit = raycast.unpack_hit(raycast.nearest_hit(world, centre, way), world)
    point = raycast.triple(centre[i] + hit.depth * way[i] for i in range(3))
    normal = jnp.stack(shading.normals(world, way, point, hit), axis=-1)
    start = jnp.broadcast_to(centre, direction.shape)
    seen = pair_views.sees(world, start + jnp.float32(direction), start)
    return jax.device_get((hit, normal, seen))


def without_leaves(world):
    """Leaves have no closed form: far aside with them."""
    if isinstance(world, rooms.Room):
        return world._replace(plant=world.plant._replace(centre=world.plant.centre + 1e4))
    crowns = world.city.crowns
    crowns = crowns._replace(centre=crowns.centre + 1e4)
    return world._replace(city=world.city._replace(crowns=crowns))


def pose(made, scene, view):
    """Rotation, centre and field of view of one camera."""
    views = made.views
    return views.rotation[scene, view], views.centre[scene, view], views.field_of_view[scene, view]


def every_camera():
    return [(b, v) for b in range(SCENES) for v in range(2)]


def focal_length(field_of_view):
    return 0.5 * SIZE / np.tan(0.5 * np.float64(field_of_view))


def pixel_rays(rotation, field_of_view):
    """[H, W, 3] world directions with z component 1 in the camera's frame, in float64."""
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5 - 0.5 * SIZE
    focal = focal_length(field_of_view)
    return np.stack([x / focal, y / focal, np.ones_like(x)], -1) @ np.float64(rotation).T


def project(point, rotation, centre, field_of_view):
    """World points [..., 3] -> pixel x, y and depth, in float64."""
    x, y, z = np.moveaxis((np.float64(point) - centre) @ np.float64(rotation), -1, 0)
    focal = focal_length(field_of_view)
    return focal * x / z + 0.5 * SIZE, focal * y / z + 0.5 * SIZE, z


def rays_of(made, rng):
    """Centres [6, 3] and directions [6, R, 3] that meet much: cameras' places, toward things."""
    centre = made.views.centre[:, 0].copy()
    if made.name == "indoor":
        return centre, rng.normal(size=(SCENES, RAYS, 3)) * [1.0, 1.0, 0.6]
    # Half of them toward the parked cars, half over the roofs of the street.
    aim = rng.uniform([-9.0, -6.0, 0.0], [9.0, 6.0, 1.8], (SCENES, RAYS, 3))
    direction = aim - centre[:, None]
    direction[:, ::2] = rng.normal(size=(SCENES, RAYS // 2, 3)) * [1.0, 1.0, 0.4]
    return centre, direction


def test_nearest_hit_agrees_with_float64_geometry(made):
    centres, directions = rays_of(made, np.random.default_rng(0))
    met, faces, plain = set(), set(), []
    for b in range(SCENES):
        world = part(without_leaves(made.world), b)
        hit, normal, seen = cast(world, centres[b], directions[b])
        depth, number, outward, loose = oracle(world, centres[b], np.float32(directions[b]))
        sky = np.isinf(depth)
        number = np.where(sky, cars.SKY_ID, number)
        # Edges and ties apart (rounding decides them), everything is the same.
        agree = hit.identity == number
        assert agree.mean() > 0.997
        solid = agree & ~sky
        np.testing.assert_allclose(hit.depth[solid], depth[solid], rtol=3e-4)
        off = np.abs(normal[solid] - outward[solid]).max(-1)
        assert (off < 2e-3).mean() > 0.997
        # Seen from the far end of the ray unless something stands on it.
        sure = ((loose > 1.01) | (loose < 0.97)) & (loose > 0.03)
        assert (seen == (loose > 0.99))[sure].mean() > 0.997
        plain.append(seen.mean())
        met |= set(number[agree].tolist())
        faces |= set(hit.face.tolist())
    assert 0.02 < np.mean(plain) < 0.98
    if made.name == "cars":
        assert set(range(SLANTED + 6)) <= faces
        wanted = [*range(city.CAR_BODIES.start, city.CAR_CABINS.stop), city.GROUND, cars.SKY_ID]
        wanted += range(cars.AXLES.start, cars.AXLES.stop)
    else:
        assert (made.world.turn != 0.0).any()
        wanted = [rooms.WALLS, *range(rooms.TABLE.start, rooms.TABLE.stop)]
        wanted += [*range(rooms.SOFA.start, rooms.SOFA.stop), *range(54, 56)]
    missing = set(wanted) - met
    assert len(missing) <= 2, missing
    assert len(met) > 30


def test_visible_targets_are_the_nearest_surface(made):
    views = made.views
    assert views.visible.mean() > 0.8
    for b in range(SCENES):
        world = part(made.world, b)
        for v in range(2):
            centre, way = views.centre[b, v], views.target[b] - views.centre[b, v]
            hit, normal, _ = cast(world, centre, np.repeat(way[None], RAYS, axis=0))
            if views.visible[b, v]:
                # A surface at the target itself, and none before it.
                np.testing.assert_allclose(hit.depth[0], 1.0, atol=2e-3)
                np.testing.assert_allclose(normal[0], views.normal[b], atol=2e-3)
                assert way @ views.normal[b] < 0


def test_targets_are_near_the_centre_and_at_their_depth(made):
    views, on_plane = made.views, []
    for b, v in every_camera():
        rotation, centre, view = pose(made, b, v)
        x, y, z = project(views.target[b], rotation, centre, view)
        off = np.arctan(np.hypot(x - 0.5 * SIZE, y - 0.5 * SIZE) / focal_length(view))
        assert z > 0 and off <= 1.01 * made.config.centre_jitter * view
        turned = np.float64(rotation).T @ views.normal[b]
        np.testing.assert_allclose(views.camera_normal[b, v], turned, atol=1e-5)
        if not views.visible[b, v]:
            continue
        # The depth at the target's pixel is that of its surface's plane on the pixel's own ray.
        ray = pixel_rays(rotation, view)[int(y), int(x)]
        plane = (views.target[b] - centre) @ views.normal[b] / (ray @ views.normal[b])
        on_plane.append(abs(views.geometry.depth[b, v, int(y), int(x)] / plane - 1) < 5e-3)
    # At a pixel that an edge crosses, it may be another's.
    assert np.mean(on_plane) > 0.7


def test_normals_are_unit_face_the_camera_and_match_finite_differences(made):
    flat = []
    for b, v in every_camera():
        _, _, view = pose(made, b, v)
        depth, kind = made.views.geometry.depth[b, v], made.views.geometry.semantic[b, v]
        normal, ray = made.views.geometry.normals[b, v], pixel_rays(np.eye(3), view)
        sky = kind == scenes.Semantic.SKY
        np.testing.assert_array_equal(sky, np.isinf(depth))
        np.testing.assert_allclose(np.linalg.norm(normal, axis=-1), np.where(sky, 0, 1), atol=1e-4)
        assert ((normal * ray).sum(-1)[~sky] < 1e-3).all()
        point = np.where(sky, 1.0, depth)[..., None] * ray
        right, down = point[:-1, 1:] - point[:-1, :-1], point[1:, :-1] - point[:-1, :-1]
        across = np.cross(down, right)
        across /= np.linalg.norm(across, axis=-1, keepdims=True)
        # Where three neighbours share class and normal they lie on one plane, nearly always.
        same = ~sky & (kind != scenes.Semantic.TREE)
        same = same[:-1, :-1] & (kind[:-1, 1:] == kind[:-1, :-1]) & (depth[:-1, :-1] < 40)
        same &= kind[1:, :-1] == kind[:-1, :-1]
        for other in (normal[:-1, 1:], normal[1:, :-1]):
            same &= (normal[:-1, :-1] * other).sum(-1) > 0.9999
        flat.append((across * normal[:-1, :-1]).sum(-1)[same])
    agreement = np.concatenate(flat)
    assert agreement.size > 4000
    assert (agreement > 0.98).mean() > 0.96


def test_classes_are_those_of_the_kind_and_lie_where_they_belong(made):
    kind, depth = made.views.geometry.semantic, made.views.geometry.depth
    names = {scenes.Semantic(k).name for k in np.unique(kind)}
    assert names <= CLASSES[made.name]
    of = {name: kind == scenes.Semantic[name] for name in CLASSES[made.name]}
    cameras = [pose(made, *which) for which in every_camera()]
    rays = np.stack([pixel_rays(rotation, view) for rotation, _, view in cameras])
    rays = rays.reshape(SCENES, 2, SIZE, SIZE, 3)
    point = made.views.centre[:, :, None, None] + np.minimum(depth, 1e4)[..., None] * rays
    if made.name == "cars":
        assert {"GROUND", "BUILDING", "CAR"} <= names
        assert np.abs(point[of["GROUND"]][:, 2] / depth[of["GROUND"]]).max() < 1e-3
        assert (of["CAR"].mean((2, 3)) > 0.01).all()
        assert of["CAR"][made.views.visible].mean() > 0.08
        assert point[of["CAR"]][:, 2].max() < 2.3
        return
    assert {"FLOOR", "WALL", "CEILING", "WINDOW"} <= names and len(names) >= 8
    assert np.isfinite(depth).all()
    assert np.abs(point[of["FLOOR"]][:, 2]).max() < 0.03  # or on a rug
    half = made.world.walls.high[:, 0]
    height = np.broadcast_to(half[:, 2, None, None, None], kind.shape)
    assert np.abs(point[..., 2] - height)[of["CEILING"]].max() < 0.01
    reach = np.abs(point[..., :2]) - half[:, None, None, None, :2]
    # Curtains count as windows.
    for name, thick in (("WINDOW", 0.15), ("DOOR", 0.01), ("PICTURE", 0.01)):
        assert np.abs(reach.max(-1)[of[name]]).max(initial=0.0) < thick
    assert 0.02 < of["SEAT"].mean() + of["BED"].mean() + of["TABLE"].mean() < 0.6


def test_vanishing_points_are_limits_of_far_points(made):
    for b, v in every_camera():
        rotation, centre, view = pose(made, b, v)
        for axis in range(3):
            x, y, z = project(centre + 1e7 * np.eye(3)[axis], rotation, np.float64(centre), view)
            row = made.views.geometry.vanishing[b, v, axis].astype(np.float64)
            assert np.sign(row[2]) == np.sign(z)
            far = np.array([x, y, 1.0]) / np.hypot(x, y)
            np.testing.assert_allclose(np.cross(row / np.linalg.norm(row), far), 0, atol=1e-4)


def test_pictures_follow_their_keys_and_not_their_neighbours(made, atlas):
    other = jax.random.split(jax.random.key(77), SCENES)
    mixed = jnp.stack([made.keys[4], other[1], made.keys[1], other[3], other[4], made.keys[0]])
    image = look(scenes.sample_scenes(mixed, config=made.config), atlas, made.config).image
    np.testing.assert_array_equal(image[[0, 2, 5]], made.views.image[[4, 1, 0]])
    again = look(scenes.sample_scenes(made.keys, config=made.config), atlas, made.config)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(made.views), strict=True):
        np.testing.assert_array_equal(a, b)
    pictures = np.concatenate([made.views.image, image[[1, 3, 4]]]).reshape(2 * SCENES + 6, -1)
    for i, picture in enumerate(pictures):
        assert ((pictures[i + 1 :] != picture).mean(axis=1) > 0.6).all()


@pytest.fixture(scope="module")
def changed(made, atlas):
    """One scene as it is, then with another texture, colour, light, geometry."""
    parts = ("texture", "colour", "light", "geometry")
    # A street, for studios have no textures; and a room whose wallpaper changes in plain sight.
    seed = {"cars": 20, "indoor": 21}[made.name]
    keys, new = scenes.scene_keys(jax.random.key(seed)), jax.random.key(8)
    rows = [keys, *(keys._replace(**{name: new}) for name in parts), keys]
    keys = jax.tree.map(lambda *x: jnp.stack(x), *rows)
    view_key, photo_key = (jnp.stack([jax.random.key(i)] * SCENES) for i in (31, 32))
    scene = scenes.scenes_from_keys(keys, view_key, photo_key, config=made.config)
    views = look(scene, atlas, made.config)
    world = jax.device_get(scene.world)
    return {
        name: (part(world, i), part(views, i))
        for i, name in enumerate(("original", *parts, "again"))
    }


def parts_of(world):
    """{part: arrays} that the part's key decides alone."""
    if isinstance(world, rooms.Room):
        look, light = world.look, world.light
        drawn = (look.layer, look.floor, look.facade, look.framed)
        lit = (light.power, light.ambient, light.outside)
        shape = (world.walls, world.boxes, world.plant, world.lamps, world.turn, world.panels)
        return {
            "texture": drawn,
            "colour": (look.tint, look.door),
            "light": lit,
            "geometry": shape,
        }
    town = world.city
    shape = (world.wedges, world.axles, world.shapes, town.boxes, town.crowns, town.turn)
    return {
        "texture": (town.surface.facade, town.surface.tile, town.surface.shift),
        "colour": (town.surface.tint,),
        "light": (town.light.sun, town.light.ambient, town.light.zenith),
        "geometry": shape,
    }


def equal(one, two):
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
    return all(np.array_equal(a, b) for a, b in leaves)


@pytest.mark.parametrize("name", ["texture", "colour", "light", "geometry", "again"])
def test_an_intervention_changes_its_part_alone(name, changed):
    (before, seen), (after, now) = changed["original"], changed[name]
    if name == "again":
        assert equal(before, after) and equal(seen, now)
        return
    one, two = parts_of(before), parts_of(after)
    for what in one:
        # How strong a light a room needs depends on its windows' size.
        if (name, what) != ("geometry", "light"):
            assert equal(one[what], two[what]) == (what != name), what
    geometric = name == "geometry"
    for field in ("depth", "semantic", "normals"):
        same = np.array_equal(getattr(seen.geometry, field), getattr(now.geometry, field))
        assert same == (not geometric), field
    for field in ("rotation", "centre", "target", "visible"):
        if not geometric:
            np.testing.assert_array_equal(getattr(seen, field), getattr(now, field))
    assert (seen.image != now.image).mean() > 0.3


def test_moved_cameras_see_what_scipy_says(made, atlas):
    angles, shifts = (np.repeat(x[:, None], 2, axis=1) for x in (ANGLES, SHIFTS))
    first = jax.tree.map(lambda x: jnp.stack([x[0]] * SCENES), made.scene)
    first = first._replace(world=without_leaves(first.world))

    def one(camera, angle, shift):
        yaw, pitch, roll = angle
        return scenes.moved(camera, yaw=yaw, pitch=pitch, roll=roll, translation=shift)

    moved = jax.jit(jax.vmap(jax.vmap(one)))(first.cameras, angles, shifts)
    views = look(first._replace(cameras=moved), atlas, made.config)
    world = part(without_leaves(made.world), 0)
    for i in range(SCENES):
        for v in range(2):
            rotation, centre, view = pose(made, 0, v)
            turn = Rotation.from_euler("YXZ", np.float64(ANGLES[i])).as_matrix()
            expected = np.float64(rotation) @ turn
            place = centre + np.float64(rotation) @ SHIFTS[i]
            np.testing.assert_allclose(views.rotation[i, v], expected, atol=1e-5)
            np.testing.assert_allclose(views.centre[i, v], place, atol=1e-5)
            rays = pixel_rays(expected, view).reshape(-1, 3)
            depth, _, _, _ = oracle(world, place, rays)
            got = views.geometry.depth[i, v].ravel()
            with np.errstate(invalid="ignore"):
                close = (got == depth) | (np.abs(got - depth) < 1e-3 * depth)
            assert close.mean() > 0.985
    # The target, in the middle before, goes left as the camera turns right, down as it turns up.
    for v in range(2):
        _, _, view = pose(made, 0, v)
        x, y, _ = np.transpose(
            [
                project(made.views.target[0], views.rotation[i, v], views.centre[i, v], view)
                for i in range(SCENES)
            ]
        )
        assert x[1] < x[0] - 2 and y[2] > y[0] + 1
        right, down, _ = views.rotation[0, v].T @ views.rotation[3, v][:, 0]
        assert right > 0 and down > 0.3


def test_wheels_and_paint_are_cars():
    """The city's classes know nothing of axles: these come from the bodies' ids."""
    identity = jnp.array(
        [cars.AXLES.start, cars.AXLES.stop - 1, cars.SKY_ID, city.CAR_CABINS.start]
    )
    hit = raycast.Hit(jnp.ones(4), identity, jnp.zeros(4, jnp.int32))
    zero = (jnp.zeros(4),) * 3
    seen = shading.Seen(zero, hit, zero, zero, jnp.ones(4))
    scene: Any = type("Scene", (), {"city": None})
    found = bodywork.semantic(scene, seen)
    kind = scenes.Semantic
    np.testing.assert_array_equal(found, [kind.CAR, kind.CAR, kind.SKY, kind.CAR])


def test_a_configuration_of_no_kind_is_refused(atlas):
    with pytest.raises(ValueError, match="no kind of scene has a ViewConfig"):
        scenes.sample_scene(jax.random.key(0), scenes.ViewConfig())
