"""Code that scripts share: flags, images, processes, the run itself."""
