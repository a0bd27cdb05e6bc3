"""Has scripts read the flags of commands, as they do themselves, and does nothing else.

python -m flags_child < [[SCRIPT, FLAG, ...], ...] as JSON; prints a list of what each refused.
"""

import contextlib
import io
import json
import sys

from absl import flags


def refused(script: str, given: list[str]) -> str:
    """Returns the sentence that a script ends with; empty: it takes the flags."""
    # The script's and its neighbours' flags are global: imported anew, they are defined anew.
    for name in list(flags.FLAGS):
        delattr(flags.FLAGS, name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "experiments"]:
        del sys.modules[name]
    from experiments.common import commands, runtime

    parse = runtime.parse

    def parse_and_end(*arguments, **options):
        parse(*arguments, **options)
        sys.exit(0)

    runtime.parse = parse_and_end
    if script not in commands.listed():
        return f"no command {script!r}"
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            commands.run(script, given)
        except SystemExit as ended:
            return said.getvalue() if ended.code else ""
    return "it did not end when it had read its flags"


if __name__ == "__main__":
    print(json.dumps([refused(script, given) for script, *given in json.load(sys.stdin)]))
