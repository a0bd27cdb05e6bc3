"""The kinds of scenes: one record of functions each, found by the configuration's type.

The functions are unbatched; `world` is what the kind's `build` makes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from posenet_jax.scenes import config
from posenet_jax.scenes.car import bodywork, car_views, cars
from posenet_jax.scenes.room import interiors, room_views, rooms
from posenet_jax.scenes.street import city, street_views, streets


class Kind(NamedTuple):
    """What a kind of scene must know; everything else is shared."""

    build: Callable[..., Any]  # (SceneKeys, config) -> world
    targets: Callable[..., Any]  # (key, world) -> points [T, 3], unit normals [T, 3]
    places: Callable[..., Any]  # (key, world, target [3], config) -> camera centres [K, 3]
    texture: Callable[..., Any]  # (world, direction, hit, point, number of facades) -> Texture
    lit: Callable[..., Any]  # (world, point) -> bool [R]: does the main light reach it?
    colour: Callable[..., Any]  # (world, seen, texel, lit) -> display-referred Colour
    semantic: Callable[..., Any]  # (world, seen) -> uint8 [R]


_KINDS: dict[type[config.ViewConfig], Kind] = {
    config.SceneConfig: Kind(
        city.build_city,
        street_views.street_targets,
        street_views.street_places,
        streets.texture,
        streets.lit,
        streets.colour,
        streets.semantic,
    ),
    config.CarConfig: Kind(
        cars.build_cars,
        car_views.car_targets,
        car_views.car_places,
        bodywork.texture,
        bodywork.lit,
        bodywork.colour,
        bodywork.semantic,
    ),
    config.RoomConfig: Kind(
        rooms.build_room,
        room_views.room_targets,
        room_views.room_places,
        interiors.texture,
        interiors.lit,
        interiors.colour,
        interiors.semantic,
    ),
}


def kind_of(scene_config: config.ViewConfig) -> Kind:
    """The kind of scene that a configuration describes."""
    try:
        return _KINDS[type(scene_config)]
    except KeyError:
        raise ValueError(f"no kind of scene has a {type(scene_config).__name__}") from None
