"""Modules import each other in one direction: what a layer may import is held by `lint-imports`."""

import graphlib

import grimp


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph("app")
    imports = {
        module: graph.find_modules_directly_imported_by(module) - packages_around(module)
        for module in graph.modules
    }
    # Raises CycleError, which names the circle.
    graphlib.TopologicalSorter(imports).prepare()


def packages_around(module: str) -> set[str]:
    """The packages that a module is in, which Python imports first in any case."""
    parts = module.split(".")
    return {".".join(parts[:length]) for length in range(1, len(parts))}
