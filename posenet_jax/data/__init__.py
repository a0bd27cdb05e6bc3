"""Images and pairs of views to work on: sources, data sets, streams, training pairs."""
