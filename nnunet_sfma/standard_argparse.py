"""The standard library's argparse: ``from nnunet_sfma.standard_argparse import argparse``.

batchgenerators brings unittest2 along, and that PyPI's argparse 1.4.0, a module of the year 2015 in site-packages. It
comes first wherever site-packages is named in PYTHONPATH, and knows neither optional subcommands nor ``extend``.
"""

import argparse
import sysconfig
from importlib.machinery import PathFinder
from importlib.util import module_from_spec

if not hasattr(argparse, "BooleanOptionalAction"):  # of Python 3.9
    _spec = PathFinder.find_spec("argparse", [sysconfig.get_path("stdlib")])
    argparse = module_from_spec(_spec)
    _spec.loader.exec_module(argparse)

__all__ = ["argparse"]
