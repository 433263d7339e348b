"""Compile every Warp kernel of the package into Warp's cache, so that actors load them instead of compiling.

    python cluster/compile_kernels.py 80 90

takes compute capabilities (80 is an A100's 8.0), needs no GPU, and is run while the image is built. Kernels for the
CPU are compiled too, for this machine's instruction set; another kind of CPU compiles its own at an actor's start.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil

import warp as wp

import refine_batch

# The packages whose modules launch kernels on a device.
PACKAGES = ("devices", "figures", "mesh", "networks", "render")


def kernel_modules() -> list:
    """The modules of the package that define kernels."""
    modules = [
        importlib.import_module(f"{package}.{module.name}")
        for package in (f"{refine_batch.__name__}.{name}" for name in PACKAGES)
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__)
        if module.name != "pytorch3d_silhouette"
    ]
    return [module for module in modules if any(isinstance(value, wp.Kernel) for value in vars(module).values())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("architectures", nargs="*", type=int, metavar="ARCHITECTURE", help="CUDA, such as 80")
    architectures = parser.parse_args().architectures
    wp.init()
    for module in kernel_modules():
        if architectures:
            # cubin, not PTX: what a device of this architecture looks for in the cache.
            wp.compile_aot_module(module, arch=architectures, use_ptx=False)
        # On a CPU kernels run in blocks of one, which is another module to Warp: load it as a launch would.
        wp.load_module(module, device="cpu", block_dim=1)
        print(module.__name__, *(f"sm_{number}" for number in architectures), "cpu")


if __name__ == "__main__":
    main()
