"""Rooms as a kind of scene. They have no clutter: furniture is their geometry."""

from posenet_jax.scenes.config import RoomConfig
from posenet_jax.scenes.kind import Kind, SceneFunctions


def _functions() -> SceneFunctions:
    from posenet_jax.scenes.room import interiors, room_views, rooms

    return SceneFunctions(
        build=rooms.build_room,
        targets=room_views.room_targets,
        places=room_views.room_places,
        texture=interiors.texture,
        lit=interiors.lit,
        colour=interiors.colour,
        semantic=interiors.semantic,
    )


ROOMS = Kind(
    name="rooms",
    written="indoor",
    title="Rendered rooms",
    config=RoomConfig,
    functions=_functions,
    figure=9,
)
