"""The driver's package, and still the standard library's ``platform`` for whoever imports it.

The command is ``python -m platform.sweep``, so this folder hides the standard module of that name. Its code is
therefore executed here, in this namespace: ``import platform; platform.system()`` works for every library.
"""

import sys
import sysconfig
from importlib.machinery import PathFinder, SourceFileLoader
from itertools import pairwise

_standard = PathFinder.find_spec("platform", [sysconfig.get_path("stdlib")])
if _standard is None or not isinstance(_standard.loader, SourceFileLoader):
    raise ImportError("the standard library's platform.py was not found")
exec(_standard.loader.get_code("platform") or "", globals())

if any(flag == "-m" and name.startswith("platform.") for flag, name in pairwise(sys.orig_argv)):
    from . import console

    sys.excepthook = console.while_loading
