"""Run one contender: `python -m benchmarks CONTENDER FOLDER RESULT.json`, in tools/.

RESULT.json will hold the number of images, the seconds, and the peak memory in MB.
(tools/bench times packing as a whole process.) FOLDER is what tools/bench prepared.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import benchmarks


def main() -> None:
    """Run the contender and write its measurements."""
    name, folder, out = sys.argv[1:]
    name, _, source = name.partition(":")
    function = benchmarks.find(name)
    result = function(Path(folder), source) if source else function(Path(folder))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    result["peak_mb"] = usage.ru_maxrss / 1000
    Path(out).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
