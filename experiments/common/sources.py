"""Registry of the sources of images, by the flags that choose them; see `source` to add one."""

from .dataset_source import DATASET
from .folder_source import FOLDER
from .rendered_source import RENDERED
from .source import Source

SOURCES: dict[str, Source] = {source.name: source for source in (FOLDER, DATASET, RENDERED)}
