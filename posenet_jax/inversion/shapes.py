"""Types of one inversion's arrays, which say their shapes to readers and editors.

Nothing checks them at run time. Axes: height and width of an image, in pixels; layer, those of the
encoder's layer, [512] at fc5. A descriptor is any pytree of layers, most often one alone. `engine`
batches what is typed here for one image.
"""

from jaxtyping import Array, Bool, Float, Int, PyTree

Image = Float[Array, "height width channels"]  # grey levels about the mean colour: see `descent`
Rows = Float[Array, "height width_and_channels"]
PixelMap = Float[Array, "height width"]
Layer = Float[Array, "*layer"]
Descriptor = PyTree[Float[Array, "..."]]
Target = PyTree[Float[Array, "..."]]  # the descriptor wanted, or what else a data term compares
Scalar = Float[Array, ""]
Values = Float[Array, "..."]
Count = Int[Array, ""]
Flag = Bool[Array, ""]
