"""Fills the table of speed and memory of this machine, with every peer that is installed, and where the time goes.

It is `quantlab bench speed --profile` and takes its options; half an hour on two quiet cores. It needs 16 GB of memory
and, for a while, 6 GB of the temporary folder. One that was stopped goes on where it was. A GPU has a table of its
own, without where the time goes.

    python benchmarks/speed.py [--quick] [--levels block,forward] [--device cuda] [--out FOLDER]
"""

from __future__ import annotations

import sys

from quantlab.cli import main

if __name__ == "__main__":
    on_gpu = any(word.endswith("cuda") for word in sys.argv[1:])
    sys.argv[1:1] = ["bench", "speed", *([] if on_gpu else ["--profile"])]
    main()
