"""A machine or volume that services share, as a reason."""

from __future__ import annotations

from detect.types import Incident, Signal
from rootcause.shared_ground import shared_evidence
from rootcause.types import ServiceGraph

PAIRS = [("cart", "node-1"), ("orders", "node-1"), ("mail", "node-1"), ("web", "node-2"), ("search", "node-2"),
         ("db", "node-3"), ("db", "shop/data")]
GRAPH = ServiceGraph(("cart", "db", "mail", "orders", "search", "web"), frozenset(),
                     kinds={"node-1": "host", "shop/data": "volume"}, rests_on=frozenset(PAIRS))


def said(service: str, *felt: str, graph: ServiceGraph = GRAPH) -> list[str]:
    signals = tuple(Signal(s, "t", "d", "latency", s, 1, 1, 0.5, s) for s in felt)
    incident = Incident("i", "t", "f", 1, 1, "open", "warning", "", tuple(felt), signals, (), 1)
    return [e.text for e in shared_evidence(service, incident, graph)]


def test_services_of_one_machine_have_signs_and_others_have_not() -> None:
    assert said("cart", "cart", "orders") == ["2 of 3 services on host node-1 have signs, 0 of 3 elsewhere"]


def test_it_is_no_reason_where_others_have_signs_too_or_it_has_none_itself_or_all_rest_on_it() -> None:
    assert said("cart", "cart", "orders", "web", "db") == []
    assert said("mail", "cart", "orders") == []
    assert said("cart", "cart") == []
    alone = ServiceGraph(("a", "b"), frozenset(), rests_on=frozenset({("a", "n"), ("b", "n")}))
    assert said("a", "a", "b", graph=alone) == []
