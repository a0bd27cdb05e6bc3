"""A notebook of docs/, run in a folder.

python -m notebook_child FILE FOLDER STEPS
"""

import os
import runpy
import sys


def main(file: str, folder: str, steps: str) -> None:
    os.environ["POSENET_TOUR_STEPS"] = steps
    os.chdir(folder)
    runpy.run_path(file, run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])
