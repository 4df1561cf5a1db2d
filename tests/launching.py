"""Starts a program on several processes, as torchrun does, on this machine alone."""

import os
import subprocess
import sys

from fresh_python import ROOT


def launch(processes, *arguments, timeout=600):
    """Run `python ARGUMENTS` on several processes that find each other on the loopback address.

    Args:
        processes: How many.
        arguments: Command line of each, such as `"-m", "zoo.cli"` or a script.
        timeout: Seconds after which it is given up.

    Returns:
        The finished launcher, its output as text.
    """
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.run(
        [sys.executable, *launcher, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
