"""Scenes rendered on the device: streets, cars, rooms; two views of a target, exact geometry."""

from typing import TYPE_CHECKING

from posenet_jax.public_names import imported_later
from posenet_jax.scenes.config import (
    CarConfig,
    DevelopmentConfig,
    RoomConfig,
    SceneConfig,
    ViewConfig,
)
from posenet_jax.scenes.kind import Kind, SceneFunctions
from posenet_jax.scenes.kinds import KINDS, kind_named, kind_names, kind_of

if TYPE_CHECKING:
    from posenet_jax.scenes.atlas import (
        Atlas,
        FolderAtlas,
        Material,
        atlas_from_files,
        atlas_from_folder,
        procedural_atlas,
    )
    from posenet_jax.scenes.keys import SceneKeys, scene_keys
    from posenet_jax.scenes.raycast import Camera, World, moved
    from posenet_jax.scenes.rendering import (
        Geometry,
        Scene,
        Views,
        first_view,
        render,
        render_pairs,
        render_scenes,
        sample_scene,
        sample_scenes,
        scene_from_keys,
        scenes_from_keys,
        vanishing_points,
    )
    from posenet_jax.scenes.shading import Semantic
    from posenet_jax.scenes.street.city import City, build_city, sample_city
    from posenet_jax.scenes.views import sample_pair

__all__ = [
    "KINDS",
    "Atlas",
    "Camera",
    "CarConfig",
    "City",
    "DevelopmentConfig",
    "FolderAtlas",
    "Geometry",
    "Kind",
    "Material",
    "RoomConfig",
    "Scene",
    "SceneConfig",
    "SceneFunctions",
    "SceneKeys",
    "Semantic",
    "ViewConfig",
    "Views",
    "World",
    "atlas_from_files",
    "atlas_from_folder",
    "build_city",
    "first_view",
    "kind_named",
    "kind_names",
    "kind_of",
    "moved",
    "procedural_atlas",
    "render",
    "render_pairs",
    "render_scenes",
    "sample_city",
    "sample_pair",
    "sample_scene",
    "sample_scenes",
    "scene_from_keys",
    "scene_keys",
    "scenes_from_keys",
    "vanishing_points",
]

# Imported when first asked for: flags list the kinds of scenes before JAX is imported.
__getattr__, __dir__ = imported_later(
    __name__,
    {
        "posenet_jax.scenes.atlas": (
            *("Atlas", "FolderAtlas", "Material"),
            *("atlas_from_files", "atlas_from_folder", "procedural_atlas"),
        ),
        "posenet_jax.scenes.keys": ("SceneKeys", "scene_keys"),
        "posenet_jax.scenes.raycast": ("Camera", "World", "moved"),
        "posenet_jax.scenes.rendering": (
            *("Geometry", "Scene", "Views", "first_view", "render", "render_pairs"),
            *("render_scenes", "sample_scene", "sample_scenes", "scene_from_keys"),
            *("scenes_from_keys", "vanishing_points"),
        ),
        "posenet_jax.scenes.shading": ("Semantic",),
        "posenet_jax.scenes.street.city": ("City", "build_city", "sample_city"),
        "posenet_jax.scenes.views": ("sample_pair",),
    },
)
