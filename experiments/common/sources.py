"""Registry of the sources of images, by the flags that choose them; see `source` to add one."""

from experiments.common.dataset_source import DATASET
from experiments.common.folder_source import FOLDER
from experiments.common.rendered_source import RENDERED
from experiments.common.source import Source

SOURCES: dict[str, Source] = {source.name: source for source in (FOLDER, DATASET, RENDERED)}
