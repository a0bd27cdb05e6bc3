"""Where arrays lie on a mesh of devices."""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def device_mesh(axis: str) -> Mesh:
    """Returns the mesh of all devices, along one axis of this name."""
    return Mesh(np.asarray(jax.devices()), (axis,))


def over_devices(mesh: Mesh) -> NamedSharding:
    """The leading axis split over the mesh."""
    return NamedSharding(mesh, PartitionSpec(mesh.axis_names))


def on_every_device(mesh: Mesh) -> NamedSharding:
    """A whole copy on each device."""
    return NamedSharding(mesh, PartitionSpec())
