"""Where arrays lie on a mesh of devices."""

from jax.sharding import Mesh, NamedSharding, PartitionSpec


def over_devices(mesh: Mesh) -> NamedSharding:
    """The leading axis split over the mesh."""
    return NamedSharding(mesh, PartitionSpec(mesh.axis_names))


def on_every_device(mesh: Mesh) -> NamedSharding:
    """A whole copy on each device."""
    return NamedSharding(mesh, PartitionSpec())
