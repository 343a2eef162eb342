"""The forward pass of several graphs: order, parts and averages, in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from xenon_mx.inference.exported_graph import ExportedGraph
from xenon_mx.inference.graph_engine import GraphEngine, Outputs, Plan, averaged
from xenon_mx.models import cam_average


class Library:
    """A graph whose k-th logit is k plus the image's first pixel.

    Notes how many parts are computed at the same time, and how large they are.
    """

    runtime, precision = "none", "f32"

    def __init__(self, plan):
        self.plan, self.running, self.most, self.sizes = plan, 0, 0, []
        self.is_open = False

    def open(self):
        """Note that it was opened."""
        self.is_open = True

    def versions(self):
        """Return its version."""
        return {"none": "1"}

    def compile(self, graph):
        """Return the function that starts a part."""
        assert self.is_open
        numbers = range(int(graph.name), int(graph.name) + graph.members)
        cells = int(graph.data)

        def start(pixels):
            self.running += 1
            self.most = max(self.most, self.running)
            self.sizes.append(len(pixels))

            def wait():
                self.running -= 1
                value = pixels[:, 0, 0].astype(np.float32)
                square = np.ones((1, cells, cells), np.float32)
                maps = [(value + k)[:, None, None] * square for k in numbers]
                return Outputs(np.stack([value + k for k in numbers], axis=1), maps)

            return wait

        return start


class Source:
    """Three graphs of 2, 1 and 1 members; the last has a finer map."""

    def graphs(self, bar):
        """Yield the graphs."""
        yield ExportedGraph("0", b"2", [[0, 10], [2, 12]])
        yield ExportedGraph("2", b"2", [[0, 10]])
        yield ExportedGraph("3", b"3", [[2, 12]])


def batches(*sizes):
    """Yield batches of images whose first pixels count from 0."""
    numbers = iter(range(256))
    for size in sizes:
        values = [next(numbers) for _ in range(size)]
        yield np.array(values, np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8)


@pytest.mark.parametrize("plan", [Plan(), Plan(1, 2), Plan(2, 1), Plan(3, 3)])
def test_logits_are_in_the_order_of_images_and_members(plan):
    library = Library(plan)
    logits = GraphEngine(library, Source()).logits(batches(5, 8, 1))
    expected = np.arange(14)[:, None] + np.arange(4)
    np.testing.assert_array_equal(logits, expected)
    assert max(library.sizes) == (plan.images or 8)
    assert library.most == plan.parallel


def test_maps_are_averaged_over_members_of_all_graphs():
    engine = GraphEngine(Library(Plan(2, 2)), Source())
    extent, found = engine.cams(batches(3, 2))
    assert extent == [1, 11]
    found = list(found)
    np.testing.assert_array_equal(
        np.concatenate([each.pixels for each in found])[:, 0, 0], range(5)
    )
    maps = np.concatenate([each.maps for each in found])
    assert maps.shape == (5, 3, 3)
    np.testing.assert_allclose(maps, np.arange(5)[:, None, None] + 1.5 + 0 * maps)


def test_no_images_have_no_logits():
    engine = GraphEngine(Library(Plan(2, 1)), Source())
    assert engine.logits([]).shape == (0, 4)


def test_an_error_of_one_part_ends_the_pass():
    library = Library(Plan(2, 1))
    engine = GraphEngine(library, Source())

    def broken():
        yield from batches(4)
        raise RuntimeError("no more images")

    with pytest.raises(RuntimeError, match="no more images"):
        engine.logits(broken())
    assert library.running == 0  # nothing is computed any more


def test_it_is_loaded_once_and_tells_its_library():
    engine = GraphEngine(Library(Plan()), Source())
    engine.load()
    engine._source = None
    engine.load()
    assert (engine.runtime, engine.precision) == ("none", "f32")
    assert (engine.uses_mxnet, engine.versions()) == (False, {"none": "1"})


def test_the_average_of_maps_is_that_of_the_ensemble():
    rng = np.random.RandomState(0)
    maps = [rng.rand(2, cells, cells).astype(np.float32) for cells in (2, 3)]
    np.testing.assert_allclose(averaged(maps), cam_average.average_cams(maps))
    same = [maps[1], 2 * maps[1]]
    np.testing.assert_allclose(averaged(same), 1.5 * maps[1], rtol=1e-6)
