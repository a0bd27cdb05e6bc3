"""Renderer against independent oracles: float64 slabs, reprojection, closed forms, properties."""

import dataclasses
import functools

import code_blocks
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from posenet_jax import scenes
from posenet_jax.errors import InputError
from posenet_jax.scenes import atlas as atlases
from posenet_jax.scenes import photometry, raycast, rendering
from posenet_jax.scenes import views as pair_views
from posenet_jax.scenes.street import city as cities

# Compiling is what takes time here, not rendering: one image size, one batch of two pairs, one to a
# device if there are two, and one number of rays, so that the tests share their programs.
CONFIG = scenes.SceneConfig(height=40, width=48, rays=2, field_of_view_difference=0.5)
PAIRS = 6
BATCH = 2
RAYS = 4000
FACADES, SIDE = 4, 16


def spread(tree):
    """The leading axis over two devices, or all of it on the only one."""
    mesh = jax.sharding.Mesh(jax.devices()[:BATCH], ("batch",))
    return jax.device_put(
        tree, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
    )


def batches(tree):
    """Batches of two in the order of a pytree's leading axis."""
    count = len(jax.tree.leaves(tree)[0])
    for start in range(0, count, BATCH):
        yield spread(jax.tree.map(lambda x, start=start: x[start : start + BATCH], tree))


def join(parts):
    return jax.tree.map(lambda *x: np.concatenate(x), *jax.device_get(list(parts)))


def alone(tree, index):
    """One entry of a batch, as a batch of one on one device."""
    return jax.device_put(jax.tree.map(lambda x: x[index : index + 1], tree), jax.devices()[0])


@pytest.fixture(scope="module")
def local_atlas(small_atlas):
    assert (small_atlas.num_facades, small_atlas.size) == (FACADES, SIDE)
    return small_atlas


@pytest.fixture(scope="module")
def atlas(local_atlas):
    mesh = jax.sharding.Mesh(jax.devices()[:BATCH], ("batch",))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return jax.device_put(local_atlas, everywhere)


@pytest.fixture(scope="module")
def keys():
    return jax.random.split(jax.random.key(3), PAIRS)


@pytest.fixture(scope="module")
def sampled(keys):
    """Batches of scenes, on the devices."""
    return [scenes.sample_scenes(some, config=CONFIG) for some in batches(keys)]


@pytest.fixture(scope="module")
def views(keys, atlas):
    rendered = (scenes.render_pairs(k, atlas, CONFIG, geometry=True) for k in batches(keys))
    return join(rendered)


def test_the_guide_to_data_renders(atlas, monkeypatch):
    """Two of its pairs, with the facades and the size of the other tests."""
    render = scenes.render_pairs

    def two(keys, atlas, config, **options):
        assert len(keys) == 16 and isinstance(config, scenes.SceneConfig)
        return render(spread(keys[:BATCH]), atlas, CONFIG, **options)

    monkeypatch.setattr(scenes, "procedural_atlas", lambda key: atlas)
    monkeypatch.setattr(scenes, "render_pairs", two)
    (code,) = code_blocks.python("docs/guide/data.md")
    names = {}
    exec(code, names)
    assert names["views"].image.shape == (BATCH, 2, 40, 48, 3)


def test_scenes_of_all_image_sizes_share_a_program(keys, sampled):
    """Nor do pictures depend on how their scenes were drawn."""
    before = rendering._scenes._cache_size()
    other = dataclasses.replace(CONFIG, height=64, width=24, rays=4)
    again = scenes.sample_scenes(next(batches(keys)), config=other)
    assert before > 0 and rendering._scenes._cache_size() == before
    jax.tree.map(np.testing.assert_array_equal, *jax.device_get((again.world, sampled[0].world)))
    narrow = dataclasses.replace(CONFIG, field_of_view=(0.5, 0.6), roll=0.0)
    assert rendering._of_pictures(narrow) == rendering._of_pictures(CONFIG) != other


@jax.jit
def cast(city, centre, direction):
    """Hits of RAYS rays from one point; direction [RAYS, 3]."""
    return raycast.unpack_hit(raycast.nearest_hit(city, centre, raycast.triple(direction.T)), city)


def project(point, rotation, centre, field_of_view):
    """World points [..., 3] -> pixel x, y and depth, in float64 NumPy."""
    focal = 0.5 * CONFIG.width / np.tan(0.5 * np.float64(field_of_view))
    x, y, z = np.moveaxis((point - centre).astype(np.float64) @ rotation, -1, 0)
    return focal * x / z + 0.5 * CONFIG.width, focal * y / z + 0.5 * CONFIG.height, z


def unproject(depth, rotation, centre, field_of_view):
    """Depth [H, W] -> world points [H, W, 3], in float64 NumPy."""
    focal = 0.5 * CONFIG.width / np.tan(0.5 * np.float64(field_of_view))
    y, x = np.mgrid[: CONFIG.height, : CONFIG.width] + 0.5
    ray = np.stack([(x - 0.5 * CONFIG.width) / focal, (y - 0.5 * CONFIG.height) / focal], -1)
    ray = np.concatenate([ray, np.ones_like(ray[..., :1])], -1)
    return centre + (depth[..., None] * ray) @ rotation.T.astype(np.float64)


def cameras_of(views):
    """(pair, view, rotation, centre, field of view) of every picture."""
    for b in range(PAIRS):
        for v in range(2):
            yield b, v, views.rotation[b, v], views.centre[b, v], views.field_of_view[b, v]


def slab_depths(origin, direction, low, high):
    """Float64 entry depths [R, N] of rays [R, 3] into boxes [N, 3], inf where missed."""
    with np.errstate(divide="ignore"):
        one = (low - origin[:, None]) / direction[:, None]
        two = (high - origin[:, None]) / direction[:, None]
    entry = np.minimum(one, two).max(-1)
    leave = np.maximum(one, two).min(-1)
    return np.where((entry <= leave) & (entry > 1e-3), entry, np.inf)


@pytest.mark.parametrize("height", [2.1, 45.0])  # in the street, and above the roofs
def test_nearest_hit_agrees_with_float64_slabs(sampled, height):
    city = jax.tree.map(lambda x: x[0], jax.device_get(sampled[0].world))
    # Crowns have leaves, for which there is no closed form: they go out of sight here.
    crowns = city.crowns._replace(centre=city.crowns.centre - np.float32([0, 0, 500]))
    city = city._replace(crowns=crowns)
    rng = np.random.default_rng(0)
    direction = rng.normal(size=(RAYS, 3)) * [1.0, 1.0, 0.25]
    origin = np.array([0.3, 0.2, height])
    hit = jax.device_get(cast(city, jnp.float32(origin), jnp.float32(direction)))
    c, s = np.cos(np.float64(city.turn)), np.sin(np.float64(city.turn))
    into = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    start = np.broadcast_to(origin, direction.shape)
    low, high = city.boxes.low.astype(float), city.boxes.high.astype(float)
    depth = slab_depths(start, direction, low, high)
    turned = slab_depths(start @ into.T, direction @ into.T, low, high)
    depth[:, cities.TURNED] = turned[:, cities.TURNED]
    ground = np.where(direction[:, 2] < 0, -origin[2] / direction[:, 2], np.inf)
    ground = np.where(ground < 0.5 * raycast.FAR, ground, np.inf)
    beyond = np.full_like(ground, np.inf)
    depth = np.concatenate([depth, np.full((RAYS, 4), np.inf), ground[:, None], beyond[:, None]], 1)
    expected = np.where(np.isinf(depth.min(1)), cities.SKY, depth.argmin(1))
    # Edges and ties apart (rounding decides them), everything is the same.
    agree = hit.identity == expected
    assert agree.mean() > 0.999
    assert len(np.unique(expected)) > 15
    if height > 40.0:
        for i in range(cities.NUM_BOXES)[cities.TURNED]:
            assert agree[expected == i].mean() > 0.9
    seen = agree & (expected != cities.SKY)
    np.testing.assert_allclose(hit.depth[seen], depth.min(1)[seen], rtol=1e-4)


def test_blocked_agrees_with_nearest_hit_on_boxes(sampled):
    city = jax.tree.map(lambda x: x[1], jax.device_get(sampled[1].world))
    city = city._replace(crowns=city.crowns._replace(centre=city.crowns.centre - 500.0))
    direction = np.random.default_rng(9).normal(size=(RAYS, 3)).astype(np.float32)
    origin = np.float32([0.0, 0.5, 2.0])
    hit = cast(city, origin, direction)
    ask = jax.jit(functools.partial(raycast.blocked, length=30.0))
    blocked = np.asarray(ask(city, tuple(origin[:, None]), tuple(direction.T)))
    # A ray that meets the ground first may still meet a box below it: leave those out.
    clear = np.asarray(hit.identity != cities.GROUND)
    expected = np.asarray((hit.identity < cities.NUM_BOXES) & (hit.depth < 30.0))
    assert 0.1 < expected.mean() < 0.9
    np.testing.assert_array_equal(blocked[clear], expected[clear])


def test_sees_agrees_with_nearest_hit(sampled):
    city = jax.tree.map(lambda x: x[0], jax.device_get(sampled[0].world))
    low, high = np.array([[-60.0, -20.0, 0.5], [60.0, 20.0, 12.0]])
    centre = np.random.default_rng(4).uniform(low, high, (RAYS, 3)).astype(np.float32)
    target = np.float32([0.3, 0.2, 2.1])
    seen = np.asarray(jax.jit(pair_views.sees)(city, centre, np.broadcast_to(target, (RAYS, 3))))
    clear = np.asarray(cast(city, target, centre - target).depth >= 1.0)
    assert 0.1 < clear.mean() < 0.9
    assert (seen == clear).mean() > 0.998


def test_target_is_near_the_centre_and_at_its_depth(views):
    checked = 0
    for b, v, rotation, centre, view in cameras_of(views):
        x, y, z = project(views.target[b], rotation, centre, view)
        off = np.arctan(
            np.hypot(x - 0.5 * CONFIG.width, y - 0.5 * CONFIG.height)
            / (0.5 * CONFIG.width / np.tan(0.5 * view))
        )
        assert z > 0 and off <= 1.01 * CONFIG.centre_jitter * view
        cosine = (centre - views.target[b]) @ views.normal[b]
        assert cosine > 0.0
        np.testing.assert_allclose(
            views.camera_normal[b, v], rotation.T @ views.normal[b], atol=1e-5
        )
        if views.visible[b, v]:
            # The facade's plane at this pixel's own ray, not at the target: exact on the plane.
            depth = np.minimum(views.geometry.depth[b, v], 1e6)
            point = unproject(depth, rotation, centre, view)[int(y), int(x)]
            assert abs((point - views.target[b]) @ views.normal[b]) < 0.02
            checked += 1
    assert checked >= 2 * PAIRS - 1


def test_visible_means_that_nothing_is_nearer(sampled):
    scene = join((s.world, s.cameras, s.target, s.visible) for s in sampled)
    cities, cameras, targets, visible = scene
    assert visible.mean() > 0.9
    for b in range(PAIRS):
        city = jax.tree.map(lambda x, b=b: x[b], cities)
        for v in range(2):
            centre = cameras.centre[b, v]
            way = np.broadcast_to(targets[b] - centre, (RAYS, 3))
            assert (cast(city, centre, way).depth[0] > 0.985) == visible[b, v]


def test_points_of_one_view_lie_where_the_other_sees_them(views):
    matched = total = 0
    for b in range(PAIRS):
        first, second = [(views.rotation[b, v], views.centre[b, v]) for v in range(2)]
        fields, depth = views.field_of_view[b], views.geometry.depth[b]
        point = unproject(np.where(np.isinf(depth[0]), 1.0, depth[0]), *first, fields[0])
        x, y, z = project(point, *second, fields[1])
        inside = np.isfinite(depth[0]) & (z > 0.1) & (x > 0) & (x < CONFIG.width)
        inside &= (y > 0) & (y < CONFIG.height)
        seen = depth[1][y[inside].astype(int), x[inside].astype(int)]
        z = z[inside]
        # What view 1 sees cannot be far in front of what view 2 sees there, but for pixels' size.
        near = np.abs(seen - z) < 0.05 * z + 0.1
        matched, total = matched + near.sum(), total + inside.sum()
        assert (seen < 1.5 * z + 0.5).mean() > 0.95
    assert total > 5000 and matched / total > 0.85


def test_vanishing_points_are_limits_of_far_points(views):
    for b, v, rotation, centre, view in cameras_of(views):
        for axis in range(3):
            way = 1e7 * np.eye(3)[axis]
            x, y, z = project(centre + way, rotation, np.float64(centre), view)
            row = views.geometry.vanishing[b, v, axis].astype(np.float64)
            assert np.sign(row[2]) == np.sign(z)
            np.testing.assert_allclose(
                np.cross(row / np.linalg.norm(row), np.array([x, y, 1.0]) / np.hypot(x, y)),
                0.0,
                atol=1e-4,
            )


def test_facades_recede_to_the_vanishing_point():
    """A camera along the street: points of one wall's foot lie on a line through it."""
    rotation = raycast.geometry.camera_rotation(0.2, 0.1, 0.05)
    camera = scenes.Camera(rotation, jnp.array([0.0, 0.0, 2.0]), jnp.float32(1.2))
    rows = scenes.vanishing_points(camera, CONFIG.height, CONFIG.width)
    foot = np.array([[x, 6.0, 0.0] for x in (10.0, 20.0, 60.0)])
    x, y, _ = project(foot, np.asarray(rotation), np.asarray(camera.centre), 1.2)
    line = np.cross([x[0], y[0], 1.0], [x[2], y[2], 1.0])
    line /= np.linalg.norm(line[:2])
    street = np.asarray(rows[0] / rows[0, 2])
    assert abs(line @ street) < 1e-3
    assert abs(line @ np.asarray(rows[1] / rows[1, 2])) > 10.0


def test_normals_are_unit_and_match_finite_differences_of_depth(views):
    flat = 0
    for b, v, _, _, view in cameras_of(views):
        depth, kind = views.geometry.depth[b, v], views.geometry.semantic[b, v]
        normal = views.geometry.normals[b, v]
        sky = kind == scenes.Semantic.SKY
        np.testing.assert_array_equal(sky, np.isinf(depth))
        np.testing.assert_allclose(np.linalg.norm(normal, axis=-1), np.where(sky, 0, 1), atol=1e-4)
        point = unproject(np.where(sky, 1.0, depth), np.eye(3), 0.0, view)
        right, down = point[:-1, 1:] - point[:-1, :-1], point[1:, :-1] - point[:-1, :-1]
        across = np.cross(down, right)
        across /= np.linalg.norm(across, axis=-1, keepdims=True)
        # Where three neighbours share class and normal they lie on one plane, nearly always.
        same = np.isin(kind, [scenes.Semantic.GROUND, scenes.Semantic.BUILDING])[:-1, :-1]
        for other in (normal[:-1, 1:], normal[1:, :-1]):
            same &= (normal[:-1, :-1] * other).sum(-1) > 0.9999
        same &= (kind[:-1, 1:] == kind[:-1, :-1]) & (kind[1:, :-1] == kind[:-1, :-1])
        agreement = (across * normal[:-1, :-1]).sum(-1)[same & (depth[:-1, :-1] < 60)]
        assert (agreement > 0.99).mean() > 0.96
        flat += agreement.size
    assert flat > 15000


def test_the_same_key_gives_the_same_bytes_and_another_does_not(keys, atlas, views):
    again = scenes.render_pairs(spread(keys[:BATCH]), atlas, CONFIG)
    np.testing.assert_array_equal(again.image, views.image[:BATCH])
    pictures = views.image.reshape(2 * PAIRS, -1)
    for i, picture in enumerate(pictures):
        differs = (pictures[i + 1 :] != picture).mean(axis=1)
        assert (differs > 0.8).all()


def test_a_picture_does_not_depend_on_its_neighbours(keys, atlas, views):
    mixed = jnp.stack([jax.random.key(99), keys[2]])
    image = np.asarray(scenes.render_pairs(spread(mixed), atlas, CONFIG).image)
    np.testing.assert_array_equal(image[1], views.image[2])
    assert (image[0] != views.image[3]).any(axis=(1, 2, 3)).all()


def test_scenes_of_a_batch_are_those_of_their_keys(keys, sampled):
    city_key, view_key, photo_key = jax.vmap(lambda key: jax.random.split(key, 3))(keys[2:4]).T
    parts = jax.vmap(scenes.scene_keys)(city_key)
    swapped = spread(jax.tree.map(lambda x: x[::-1], (parts, view_key, photo_key)))
    scene = scenes.scenes_from_keys(*swapped, config=CONFIG)
    for a, b in zip(jax.tree.leaves(scene), jax.tree.leaves(sampled[1]), strict=True):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a[::-1], b)


def test_batching_and_sharding_change_nothing(sampled, local_atlas, views):
    if jax.device_count() >= 2:
        assert len(sampled[0].target.sharding.device_set) == 2
    one = scenes.render_scenes(alone(sampled[1], 1), local_atlas, CONFIG)
    np.testing.assert_array_equal(one.image[0], views.image[3])


@pytest.mark.parametrize("part", ["light", "colour", "texture", "geometry"])
def test_an_intervention_changes_its_part_alone(part, atlas):
    keys = scenes.scene_keys(jax.random.key(21))
    view_key, photo_key, new_key = jax.random.split(jax.random.key(22), 3)
    changed = keys._replace(**{part: new_key})
    both = [(some, view_key, photo_key) for some in (keys, changed)]
    both = spread(jax.tree.map(lambda *x: jnp.stack(x), *both))
    scene = scenes.scenes_from_keys(*both, config=CONFIG)
    seen = jax.device_get(scenes.render_scenes(scene, atlas, CONFIG, geometry=True))
    before, after = (jax.tree.map(lambda x, i=i: x[i], seen) for i in range(2))
    assert (before.image != after.image).mean() > 0.7
    same = [np.array_equal(a, b) for a, b in zip(before.geometry, after.geometry, strict=True)]
    assert all(same) == (part != "geometry")
    assert np.array_equal(before.centre, after.centre) == (part != "geometry")


def test_mip_levels_are_box_averages_and_facades_keep_their_place():
    rng = np.random.default_rng(1)
    pictures = rng.integers(0, 256, (FACADES, SIDE, SIDE, 3), dtype=np.uint8)
    texels = np.asarray(atlases._atlas(jnp.asarray(pictures)).texels)[len(scenes.Material) :]
    for picture, layer in zip(pictures, texels, strict=True):
        start = 0
        for side in (16, 8, 4, 2, 1):
            assert int(atlases.level_offset(SIDE, side)) == start
            level = layer[start : start + side * side].reshape(side, side)
            level = np.stack([(level >> s) & 255 for s in (0, 8, 16)], -1)
            box = SIDE // side
            mean = picture.astype(float).reshape(side, box, side, box, 3).mean((1, 3))
            np.testing.assert_allclose(level, mean, atol=0.51)
            start += side * side
        assert start == layer.size


def test_a_folder_of_photographs_skips_and_reports_what_is_broken(tmp_path):
    Image.new("RGB", (50, 70), (200, 10, 30)).save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(b"not a picture")
    (tmp_path / "notes.txt").write_text("ignored")
    read = scenes.atlas_from_folder(tmp_path, size=SIDE)
    assert read.atlas.num_facades == 1 and read.atlas.size == SIDE
    (failure,) = read.failures
    assert str(failure).startswith(f"{tmp_path / 'b.jpg'}: ")
    assert set(np.asarray(read.atlas.texels[-1]).tolist()) == {200 | 10 << 8 | 30 << 16}
    with pytest.raises(InputError, match="none of the 1 facades") as error:
        scenes.atlas_from_files([tmp_path / "b.jpg"])
    assert f"in {tmp_path} " in str(error.value) and "\n" not in str(error.value)


def test_a_red_atlas_makes_red_facades(sampled, atlas, views):
    """Texture colours reach the picture: no stage mixes up the channels."""
    red = np.broadcast_to(np.uint8([180, 60, 60]), (FACADES, SIDE, SIDE, 3))
    red_atlas = jax.device_put(atlases._atlas(jnp.asarray(red)), atlas.texels.sharding)
    image = join(scenes.render_scenes(scene, red_atlas, CONFIG).image for scene in sampled)
    wall = image[views.geometry.semantic == scenes.Semantic.BUILDING].mean(axis=0)
    assert wall[0] > 2.5 * wall[1]
    assert wall[0] > 2.5 * wall[2]


def test_antialiasing_schemes_agree_with_their_weights():
    rng = np.random.default_rng(2)
    height, width = CONFIG.height, CONFIG.width
    centre = rng.random((height, width)).astype(np.float32)
    corner = rng.random((height + 1, width + 1)).astype(np.float32)
    plane = jnp.concatenate([centre.ravel(), corner.ravel()])
    resolved = np.asarray(photometry.resolve((plane,) * 3, CONFIG))
    for i, j in [(0, 0), (7, 11), (height - 1, width - 1)]:
        expected = centre[i, j] / 2 + corner[i : i + 2, j : j + 2].sum() / 8
        np.testing.assert_allclose(resolved[:, i, j], expected, rtol=1e-5)
    for rays in (1, 2, 4):
        config = dataclasses.replace(CONFIG, rays=rays)
        x, y, z = raycast.image_rays(config, jnp.float32(1.0))
        assert x.size == {1: 1, 2: 2, 4: 4}[rays] * height * width + (rays == 2) * (
            height + width + 1
        )
        np.testing.assert_allclose([x.mean(), y.mean()], 0.0, atol=1e-5)
        np.testing.assert_array_equal(z, 1.0)


def test_more_rays_change_edges_and_not_the_picture(sampled, atlas):
    developments = sampled[0].developments
    quiet = developments._replace(noise=0.0 * developments.noise)
    scene = sampled[0]._replace(developments=quiet)
    images = {}
    for rays in (1, 2, 4):
        config = dataclasses.replace(CONFIG, rays=rays)
        images[rays] = np.asarray(scenes.render_scenes(scene, atlas, config).image, float)
    one, two = (np.abs(images[rays] - images[4]).mean() for rays in (1, 2))
    assert 0.0 < two < 0.85 * one and one < 2.0


def test_photometry_stays_in_range_at_its_extremes():
    develop = jax.jit(photometry.develop)
    image = jnp.broadcast_to(jnp.array([0.0, 1.5, 0.5])[:, None, None], (3, 64, 64))
    plain = photometry.plain_development()
    out = np.asarray(develop(image, plain))
    np.testing.assert_array_equal(out, np.broadcast_to(out[:, :1, :1], out.shape))
    np.testing.assert_array_equal(out[:, 0, 0], [0, 255, 128])
    harsh = plain._replace(
        automatic=jnp.float32(1.0),
        gain=jnp.full(3, 3.0),
        contrast=jnp.float32(2.0),
        noise=jnp.float32(0.5),
    )
    out = np.asarray(develop(image, harsh))
    assert out.dtype == np.uint8 and out.min() == 0 and out.max() == 255
    noisy = plain._replace(noise=jnp.float32(0.05))
    grey = develop(jnp.full((3, 64, 64), 0.5), noisy)
    np.testing.assert_allclose(np.asarray(grey, float).std(), 0.05 * 255, rtol=0.01)


def test_blur_keeps_the_mean_and_flat_images():
    image = jnp.zeros((3, 9, 9)).at[:, 4, 4].set(1.0)
    blurred = np.asarray(photometry.blur(image, 0.2))
    kernel = np.outer([0.2, 0.6, 0.2], [0.2, 0.6, 0.2])
    np.testing.assert_allclose(blurred[1, 3:6, 3:6], kernel, atol=1e-6)
    np.testing.assert_allclose(blurred[1].sum(), 1.0, rtol=1e-5)
    np.testing.assert_allclose(photometry.blur(jnp.ones((3, 4, 4)), 0.3), 1.0, rtol=1e-6)


def test_everything_is_finite_and_plausible(views):
    for name in ("rotation", "centre", "field_of_view", "target", "normal", "camera_normal"):
        assert np.isfinite(getattr(views, name)).all(), name
    low, high = CONFIG.eye_height
    assert (views.centre[..., 2] >= low).all() and (views.centre[..., 2] <= high).all()
    low, high = CONFIG.field_of_view
    assert (views.field_of_view >= low).all() and (views.field_of_view <= high).all()
    kinds = set(np.unique(views.geometry.semantic).tolist())
    assert {scenes.Semantic.SKY, scenes.Semantic.GROUND, scenes.Semantic.BUILDING} <= kinds
    assert (views.image.std(axis=(2, 3, 4)) > 15).all()
    determinant = np.linalg.det(views.rotation)
    np.testing.assert_allclose(determinant, 1.0, atol=1e-4)


def test_angles_between_views_cover_the_asked_range():
    keys = jax.random.split(jax.random.key(4), 144)
    drawn = [scenes.sample_scenes(some, config=CONFIG) for some in batches(keys)]
    way, visible = join((s.cameras.centre - s.target[:, None], s.visible) for s in drawn)
    way = way / np.linalg.norm(way, axis=-1, keepdims=True)
    angle = np.degrees(np.arccos(np.clip((way[:, 0] * way[:, 1]).sum(-1), -1, 1)))
    angle = angle[visible.all(1)]
    assert angle.size > 0.95 * 144
    assert np.percentile(angle, 10) < 15 and np.percentile(angle, 90) > 75


def test_render_is_one_plain_view(sampled, local_atlas):
    scene = alone(sampled[0], 0)
    plain = jax.tree.map(lambda x: jnp.stack([x, x])[None], photometry.plain_development())
    expected = scenes.render_scenes(scene._replace(developments=plain), local_atlas, CONFIG).image
    city, cameras = jax.tree.map(lambda x: x[0], (scene.world, scene.cameras))
    for v in range(2):
        camera = jax.tree.map(lambda x, v=v: x[v], cameras)
        image = np.asarray(scenes.render(city, camera, local_atlas, CONFIG))
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, expected[0, v])


@pytest.mark.parametrize(
    "wrong", [{"rays": 3}, {"height": 1}, {"field_of_view": (1.0, 4.0)}, {"candidates": 1}]
)
def test_wrong_configurations_are_refused(wrong):
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))[:3].strip("(")):
        scenes.SceneConfig(**wrong)
