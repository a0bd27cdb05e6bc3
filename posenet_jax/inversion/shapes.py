"""Types of one inversion's arrays, which say their shapes to readers and editors.

Nothing checks them at run time. Axes: height and width of an image, in pixels; layer, those of the
encoder's layer, [128] at fc5. `engine` batches what is typed here for one image.
"""

from jaxtyping import Array, Bool, Float, Int

Image = Float[Array, "height width 3"]  # network space: mean-subtracted, 0-255 units
Rows = Float[Array, "height width_and_channels"]
PixelMap = Float[Array, "height width"]
Descriptor = Float[Array, "*layer"]
Scalar = Float[Array, ""]
Values = Float[Array, "..."]
Count = Int[Array, ""]
Flag = Bool[Array, ""]
