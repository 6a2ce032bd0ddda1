"""New versions beside old ones: what is usual of them."""

from __future__ import annotations

import numpy as np
import pytest

from rootcause.newcomers import with_stand_ins, without_version
from rootcause.robust import edge_changes, node_changes
from rootcause.types import CaseWindow

BASE, ROWS = 40, 46


def window(services: tuple[str, ...], *, new: str, slow: float = 1.0, busy: float = 1.0, part: float = 0.1) -> CaseWindow:
    """web calls all others; `new` begins with the fault, with `part` of the requests, `slow` and `busy` times the usual."""
    rng = np.random.default_rng(1)
    i = services.index(new)
    edges = np.array([[services.index("web"), k] for k, name in enumerate(services) if name != "web"], dtype=np.int32)
    node = {name: level * rng.lognormal(0, 0.05, (ROWS, len(services))) for name, level in
            (("latency", 0.1), ("traffic", 50.0), ("cpu", 0.5), ("errors", 0.01))}
    edge = {"latency": 0.1 * rng.lognormal(0, 0.05, (ROWS, len(edges)))}
    for name, times in (("latency", slow), ("traffic", part), ("cpu", busy * part)):
        node[name][:, i] *= times
    k = int(np.flatnonzero(edges[:, 1] == i)[0])
    edge["latency"][:, k] *= slow
    for table, column in (*((t, i) for t in node.values()), (edge["latency"], k)):
        table[:BASE, column] = np.nan
    return CaseWindow(np.arange(ROWS, dtype=np.int64) * 10**9, services, node, edges, edge, BASE)


def test_without_a_past_nothing_is_known_of_it_and_with_the_others_all_is() -> None:
    given = window(("cart", "cart-canary", "pay", "web"), new="cart-canary", slow=5)
    assert not node_changes(given)["latency"].has[1]
    after = with_stand_ins(given)
    nodes = node_changes(after)
    assert int(np.argmax(nodes["latency"].z)) == 1
    assert nodes["latency"].z[1] > 10
    assert edge_changes(after)["latency"].z[np.flatnonzero(given.edges[:, 1] == 1)[0]] > 10
    assert np.isnan(given.node_metrics["latency"][:BASE, 1]).all()  # the given one is left as it was


def test_a_sound_new_version_is_not_unusual_however_little_it_is_asked() -> None:
    nodes = node_changes(with_stand_ins(window(("cart", "cart-v2", "pay", "web"), new="cart-v2")))
    for name in ("latency", "traffic", "cpu", "errors"):
        assert abs(nodes[name].z[1]) < 3, name


def test_more_work_than_the_old_one_ever_had_is_news() -> None:
    nodes = node_changes(with_stand_ins(window(("cart", "cart-v2", "pay", "web"), new="cart-v2", busy=40)))
    assert nodes["cpu"].z[1] > 10


def test_nobody_stands_in_for_a_stranger() -> None:
    given = window(("cart", "basket-canary", "pay", "web"), new="basket-canary")
    assert with_stand_ins(given) is given


def test_who_has_a_past_keeps_it() -> None:
    given = window(("cart", "cart-canary", "web"), new="cart-canary")
    given.node_metrics["cpu"][3, 1] = 0.4
    assert with_stand_ins(given) is given


def test_the_plain_name_goes_before_other_versions() -> None:
    services = ("cart", "cart-v1", "cart-v2", "web")
    given = window(services, new="cart-v2")
    given.node_metrics["latency"][:BASE, 1] = 7.0
    given.node_metrics["traffic"][:BASE, 1] = 900.0
    usual = with_stand_ins(given).node_metrics["latency"][:BASE, 2]
    np.testing.assert_array_equal(usual, given.node_metrics["latency"][:BASE, 0])


@pytest.mark.parametrize(("name", "stem"), [("cart-canary", "cart"), ("cart_v2.1", "cart"), ("cart-7", "cart"),
                                            ("cart", "cart"), ("cart-service", "cart-service"), ("v2", "v2"),
                                            ("Cart-Stable", "Cart")])
def test_names_of_versions(name: str, stem: str) -> None:
    assert without_version(name) == stem
