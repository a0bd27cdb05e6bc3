"""Street scenes rendered on the device: random cities, two views of a target, exact geometry."""

from posenet_jax.scenes.atlas import (
    Atlas,
    FolderAtlas,
    Material,
    atlas_from_files,
    atlas_from_folder,
    procedural_atlas,
)
from posenet_jax.scenes.city import City, CityKeys, build_city, city_keys, sample_city
from posenet_jax.scenes.config import SceneConfig
from posenet_jax.scenes.pairs import (
    Geometry,
    Scene,
    Views,
    render,
    render_pairs,
    render_scenes,
    sample_scene,
    sample_scenes,
    scene_from_keys,
    scenes_from_keys,
    vanishing_points,
)
from posenet_jax.scenes.raycast import Camera
from posenet_jax.scenes.shading import Semantic
from posenet_jax.scenes.views import sample_pair

__all__ = [
    "Atlas",
    "Camera",
    "City",
    "CityKeys",
    "FolderAtlas",
    "Geometry",
    "Material",
    "Scene",
    "SceneConfig",
    "Semantic",
    "Views",
    "atlas_from_files",
    "atlas_from_folder",
    "build_city",
    "city_keys",
    "procedural_atlas",
    "render",
    "render_pairs",
    "render_scenes",
    "sample_city",
    "sample_pair",
    "sample_scene",
    "sample_scenes",
    "scene_from_keys",
    "scenes_from_keys",
    "vanishing_points",
]
