"""The table of faults of the lab, and what may never be proposed."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detect.types import LOG_KINDS, SIGNAL_KINDS, Incident, Signal
from ingest.types import Change
from llm.types import Choice, ChoiceRequest, NoChoice
from opsmend.store.ledger import SqlLedger
from remediate.catalogue import Catalogue
from remediate.memory import IncidentMemory
from remediate.planner import NoPlan, Planner, PlannerConfig
from remediate.planner.rules import RULES
from remediate.runbook import load_runbooks
from remediate.types import Outcome, Plan, Verdict
from rootcause.types import Diagnosis, ServiceGraph, Suspect

S = 10**9
T0 = 1_000_000 * S
CATALOGUE = Catalogue()
RUNBOOKS = load_runbooks(CATALOGUE)
GRAPH = ServiceGraph(
    ("bank", "cart", "catalog", "frontend", "gateway", "inventory", "orders", "payments", "postgres", "redis"),
    frozenset({("gateway", "frontend"), ("frontend", "catalog"), ("frontend", "cart"), ("frontend", "orders"),
               ("catalog", "postgres"), ("catalog", "redis"), ("cart", "redis"), ("orders", "cart"),
               ("orders", "inventory"), ("inventory", "postgres"), ("orders", "payments"), ("payments", "bank"),
               ("orders", "postgres")}),
    frozenset({"bank"}))


def signal(service: str, kind: Any, **more: Any) -> Signal:
    return Signal(f"{service}-{kind}-{more.get('peer', '')}", "t", "d", kind, service, T0, T0 + 5 * S, 0.9, kind, **more)


def incident(*signals: Signal, state: Any = "open") -> Incident:
    return Incident("incident-1", "t", "f", T0, T0 + 5 * S, state, "critical", "title",
                    tuple(sorted({s.service for s in signals})), signals, (), T0)


def change(service: str, before_seconds: float = 20, **more: Any) -> Change:
    return Change(T0 - int(before_seconds * S), service, **({"kind": "rollout", "ref": "v42", "old": "v41"} | more))


def diagnosis(*suspects: Suspect, cannot_tell: bool = False) -> Diagnosis:
    return Diagnosis("incident-1", T0 + 5 * S, suspects, 0.1, cannot_tell, "m", "g")


def outcome(action: str, service: str, verdict: Verdict, n: int = 1, signature: str = "s") -> Outcome:
    return Outcome(f"run-{n}", "p", "incident-1", service, action, signature, verdict, T0 + n)


def plan(ledger: SqlLedger, i: Incident, d: Diagnosis, *tried: Outcome, now_ns: int = T0 + 6 * S,
         **more: Any) -> Plan | NoPlan:
    return asyncio.run(Planner(PlannerConfig(), CATALOGUE, RUNBOOKS, ledger, **more).plan(i, d, GRAPH, tried, now_ns))


def suspect(service: str, p: float = 0.8, c: Change | None = None, peer: str = "") -> Suspect:
    return Suspect(service, p, peer=peer, change=c)


ORDERS_FAIL = signal("orders", "error_ratio")
FAULTS: list[tuple[str, Incident, Diagnosis, str, str]] = [
    ("proc_kill", incident(signal("inventory", "process.down"), ORDERS_FAIL), diagnosis(suspect("inventory")),
     "process.restart", "inventory"),
    ("proc_hang", incident(signal("payments", "hang"), ORDERS_FAIL), diagnosis(suspect("payments")),
     "process.kill", "payments"),
    ("crash_loop", incident(signal("cart", "crash_loop"), signal("cart", "process.down"), ORDERS_FAIL),
     diagnosis(suspect("cart", c=change("cart"))), "release.rollback", "cart"),
    ("bad_config", incident(signal("payments", "error_ratio"), ORDERS_FAIL),
     diagnosis(suspect("payments", c=change("payments", kind="config"))), "release.rollback", "payments"),
    ("bad_config, felt by callers alone", incident(ORDERS_FAIL),
     diagnosis(suspect("payments", c=change("payments", kind="config"))), "release.rollback", "payments"),
    ("bad_config, the calls to the bank suspected", incident(signal("payments", "error_ratio", peer="bank"), ORDERS_FAIL),
     diagnosis(suspect("payments", c=change("payments", kind="config"), peer="bank")), "release.rollback", "payments"),
    ("cpu_release", incident(signal("catalog", "cpu"), signal("catalog", "latency")),
     diagnosis(suspect("catalog", c=change("catalog"))), "release.rollback", "catalog"),
    ("mem_leak", incident(signal("catalog", "memory")), diagnosis(suspect("catalog", c=change("catalog", 240))),
     "release.rollback", "catalog"),
    ("pool_leak", incident(signal("orders", "saturation"), signal("orders", "latency")),
     diagnosis(suspect("orders", c=change("orders", 60))), "release.rollback", "orders"),
    ("pool_leak forecast", incident(signal("orders", "breach")), diagnosis(suspect("orders", c=change("orders", 300))),
     "release.rollback", "orders"),
    ("db_lock", incident(signal("postgres", "lock_wait"), signal("inventory", "error_ratio"), ORDERS_FAIL),
     diagnosis(suspect("postgres")), "postgres.terminate_blocker", "postgres"),
    ("db_lock, caller suspected", incident(signal("postgres", "lock_wait"), signal("inventory", "error_ratio")),
     diagnosis(suspect("inventory", 0.6), suspect("postgres", 0.3)), "postgres.terminate_blocker", "postgres"),
    ("redis_full", incident(signal("redis", "cache_full"), signal("cart", "error_ratio")), diagnosis(suspect("redis")),
     "cache.purge_prefix", "redis"),
    ("dep_slow", incident(signal("payments", "latency"), ORDERS_FAIL), diagnosis(suspect("bank")), "notify", "bank"),
    ("net_partition", incident(signal("catalog", "latency", peer="redis")), diagnosis(suspect("catalog", peer="redis")),
     "notify", "catalog"),
    ("log_storm", incident(signal("cart", "log_rate")), diagnosis(suspect("cart", c=change("cart", kind="config"))),
     "release.rollback", "cart"),
    ("traffic_surge", incident(signal("frontend", "traffic", value=90.0, usual=30.0), signal("frontend", "latency")),
     diagnosis(suspect("frontend")), "process.scale", "frontend"),
    ("saturated, nothing changed", incident(signal("orders", "saturation")), diagnosis(suspect("orders")),
     "process.restart", "orders"),
    ("killed five minutes after an innocent roll-out", incident(signal("cart", "process.down")),
     diagnosis(suspect("cart", c=change("cart", 300))), "process.restart", "cart"),
]
NOTHING: list[tuple[str, Incident, Diagnosis]] = [
    ("the loudest merely fails", incident(ORDERS_FAIL), diagnosis(suspect("orders"))),
    ("slow without cause", incident(signal("catalog", "latency")), diagnosis(suspect("catalog"))),
    ("cpu of somebody else", incident(signal("catalog", "cpu")), diagnosis(suspect("catalog"))),
    ("a harmless wave of load", incident(signal("frontend", "traffic", value=90.0, usual=30.0)),
     diagnosis(suspect("frontend"))),
    ("less load than usual", incident(signal("frontend", "traffic", value=3.0, usual=30.0), signal("frontend", "latency")),
     diagnosis(suspect("frontend"))),
    ("log lines alone", incident(signal("cart", "log_rate"), signal("cart", "log_template")), diagnosis(suspect("cart"))),
    ("an innocent roll-out with a new log line", incident(signal("cart", "log_template")),
     diagnosis(suspect("cart", c=change("cart")))),
    ("a crash loop without a change", incident(signal("cart", "crash_loop"), signal("cart", "process.down")),
     diagnosis(suspect("cart"))),
    ("our own roll-back is no cause", incident(ORDERS_FAIL),
     diagnosis(suspect("orders", c=change("orders", actor="opsmend")))),
    ("a change after the fact", incident(ORDERS_FAIL), diagnosis(suspect("orders", c=change("orders", -60)))),
    ("a change of an hour ago", incident(ORDERS_FAIL), diagnosis(suspect("orders", c=change("orders", 3600)))),
    ("somebody scaled it", incident(ORDERS_FAIL), diagnosis(suspect("orders", c=change("orders", kind="scale")))),
    ("cannot tell", incident(ORDERS_FAIL), diagnosis(suspect("orders", c=change("orders")), cannot_tell=True)),
    ("cannot tell, two are gone", incident(signal("cart", "process.down"), signal("orders", "process.down")),
     diagnosis(suspect("cart", 0.4), suspect("orders", 0.4), cannot_tell=True)),
    ("nobody suspected", incident(ORDERS_FAIL), diagnosis()),
    ("over already", incident(signal("cart", "process.down"), state="closed"), diagnosis(suspect("cart"))),
    ("not open any more", incident(signal("cart", "process.down", is_open=False)), diagnosis(suspect("cart"))),
]


@pytest.mark.parametrize(("name", "i", "d", "action", "target"), FAULTS, ids=[f[0] for f in FAULTS])
def test_the_right_repair(ledger: SqlLedger, name: str, i: Incident, d: Diagnosis, action: str, target: str) -> None:
    result = plan(ledger, i, d)
    assert isinstance(result, Plan), result
    assert (result.action, result.target) == (action, target)
    assert result.source == ("policy" if action == "notify" else "rule")
    assert {c.action for c in result.considered} >= {a.name for a in CATALOGUE} - {action, "notify"}
    assert all(c.why_not for c in result.considered)


@pytest.mark.parametrize(("name", "i", "d"), NOTHING, ids=[n[0] for n in NOTHING])
def test_nothing_is_proposed(ledger: SqlLedger, name: str, i: Incident, d: Diagnosis) -> None:
    result = plan(ledger, i, d)
    assert isinstance(result, NoPlan), (result.action, result.target)


def test_one_dead_process_is_enough_when_the_diagnosis_cannot_tell(ledger: SqlLedger) -> None:
    result = plan(ledger, incident(signal("inventory", "process.down"), ORDERS_FAIL),
                  diagnosis(suspect("orders", 0.4), suspect("frontend", 0.4), cannot_tell=True))
    assert isinstance(result, Plan) and (result.action, result.target) == ("process.restart", "inventory")


def test_planning_again_gives_the_same_plan(ledger: SqlLedger) -> None:
    _, i, d, _, _ = FAULTS[0]
    first, again = plan(ledger, i, d), plan(ledger, i, d, now_ns=T0 + 60 * S)
    assert isinstance(first, Plan) and isinstance(again, Plan)
    assert (first.id, first.hash) == (again.id, again.hash)
    assert ledger.put_plan(first) and not ledger.put_plan(again)


def test_what_did_not_help_is_never_tried_again_and_then_people_are_told(ledger: SqlLedger) -> None:
    _, i, d, _, _ = FAULTS[0]
    tried: list[Outcome] = []
    chosen = []
    while isinstance(result := plan(ledger, i, d, *tried), Plan):
        chosen.append(result.action)
        tried.append(outcome(result.action, result.target, "not_fixed", len(tried)))
    assert chosen == ["process.restart", "process.kill", "notify"]
    assert result.reason == "escalated"


def test_a_verdict_that_cannot_tell_is_repeated_once(ledger: SqlLedger) -> None:
    _, i, d, _, _ = FAULTS[0]
    once = plan(ledger, i, d, outcome("process.restart", "inventory", "cannot_tell"))
    assert isinstance(once, Plan) and once.action == "process.restart"
    twice = plan(ledger, i, d, outcome("process.restart", "inventory", "cannot_tell"),
                 outcome("process.restart", "inventory", "cannot_tell", 2))
    assert isinstance(twice, Plan) and twice.action == "process.kill"


def test_the_next_suspect_comes_when_the_first_is_exhausted(ledger: SqlLedger) -> None:
    i = incident(signal("cart", "process.down"), signal("inventory", "process.down"))
    result = plan(ledger, i, diagnosis(suspect("cart", 0.5), suspect("inventory", 0.4)),
                  outcome("process.restart", "cart", "not_fixed"), outcome("process.kill", "cart", "not_fixed", 2))
    assert isinstance(result, Plan) and result.target == "inventory"


def test_what_a_person_rejected_stays_rejected(ledger: SqlLedger) -> None:
    _, i, d, _, _ = FAULTS[0]
    first = plan(ledger, i, d)
    assert isinstance(first, Plan)
    ledger.put_plan(msgspec.structs.replace(first, state="rejected"))
    second = plan(ledger, i, d)
    assert isinstance(second, Plan) and second.action == "process.kill"


def test_a_blocked_plan_keeps_its_id_for_a_while_and_an_expired_one_does_not(ledger: SqlLedger) -> None:
    _, i, d, _, _ = FAULTS[0]
    first = plan(ledger, i, d)
    assert isinstance(first, Plan)
    ledger.put_plan(msgspec.structs.replace(first, state="blocked"))
    soon, later = plan(ledger, i, d, now_ns=first.created_ns + S), plan(ledger, i, d, now_ns=first.created_ns + 6 * S)
    assert isinstance(soon, Plan) and isinstance(later, Plan)
    assert soon.id == first.id and later.id != first.id
    ledger.put_plan(msgspec.structs.replace(later, state="blocked"))
    pause = plan(ledger, i, d, now_ns=later.created_ns + 9 * S)
    assert isinstance(pause, Plan) and pause.id == later.id  # twice the pause: a closed gate does not fill the ledger
    ledger.move_plan(msgspec.structs.replace(later, state="expired"), expected="blocked")
    assert isinstance(anew := plan(ledger, i, d, now_ns=later.created_ns + 600 * S), Plan) and anew.id != later.id


def test_an_action_that_keeps_failing_here_is_demoted(ledger: SqlLedger) -> None:
    _, i, d, _, _ = FAULTS[0]
    first = plan(ledger, i, d)
    assert isinstance(first, Plan)
    for n in range(5):
        ledger.put_outcome(msgspec.structs.replace(
            outcome("process.restart", "inventory", "not_fixed", n, first.fault_signature), incident_id=f"other-{n}"))
    result = plan(ledger, i, d)
    assert isinstance(result, Plan) and result.action == "process.kill"
    assert any(c.action == "process.restart" and "seldom" in c.why_not for c in result.considered)


def test_a_change_that_was_taken_back_is_no_cause_any_more(ledger: SqlLedger) -> None:
    ledger.put_outcome(msgspec.structs.replace(outcome("release.rollback", "orders", "fixed"), incident_id="before",
                                               ts_ns=T0 - 10 * S))
    result = plan(ledger, incident(ORDERS_FAIL), diagnosis(suspect("orders", c=change("orders", 60))))
    assert isinstance(result, NoPlan)


def test_memory_decides_where_no_rule_does(ledger: SqlLedger) -> None:
    case = incident(signal("catalog", "latency"))
    ledger.put_outcome(msgspec.structs.replace(
        outcome("process.restart", "orders", "fixed", signature="service|none|latency"), incident_id="before"))
    result = plan(ledger, case, diagnosis(suspect("catalog")), memory=IncidentMemory())
    assert isinstance(result, Plan) and (result.action, result.source) == ("process.restart", "memory")


@dataclass
class Oracle:
    """A model that answers what the test says: the wire has its own tests."""

    answer: str = "process.restart"
    asked: list[ChoiceRequest] = field(default_factory=list)

    async def choose(self, request: ChoiceRequest) -> Choice | NoChoice:
        self.asked.append(request)
        return Choice(self.answer, request.options[0].targets[0], "m") if self.answer else NoChoice("timeout")


def test_the_model_is_not_asked_where_a_rule_is_clear(ledger: SqlLedger) -> None:
    _, i, d, _, _ = FAULTS[0]
    oracle = Oracle("process.kill")
    result = plan(ledger, i, d, llm=oracle)
    assert isinstance(result, Plan) and result.source == "rule" and oracle.asked == []


def test_the_model_chooses_where_nothing_else_does_and_a_person_must_agree(ledger: SqlLedger) -> None:
    oracle = Oracle()
    result = plan(ledger, incident(signal("catalog", "latency")), diagnosis(suspect("catalog")), llm=oracle)
    assert isinstance(result, Plan) and result.source == "llm" and result.needs_approval
    [request] = oracle.asked
    assert 1 <= len(request.options) <= 4
    assert all(o.targets == ("catalog",) for o in request.options)


@pytest.mark.parametrize("answer", ["", "release.rollback", "cache.purge_prefix", "rm -rf"])
def test_a_useless_answer_leaves_things_as_they_were(ledger: SqlLedger, answer: str) -> None:
    result = plan(ledger, incident(signal("catalog", "latency")), diagnosis(suspect("catalog")), llm=Oracle(answer))
    assert isinstance(result, NoPlan) and result.reason == "no_rule"


def test_when_rule_and_memory_disagree_the_model_decides_and_else_the_rule(ledger: SqlLedger) -> None:
    _, i, d, _, _ = FAULTS[0]
    first = plan(ledger, i, d)
    assert isinstance(first, Plan)
    ledger.put_outcome(msgspec.structs.replace(
        outcome("process.kill", "x", "fixed", signature=first.fault_signature), incident_id="before"))
    for answer, action, source in (("process.kill", "process.kill", "memory"), ("", "process.restart", "rule"),
                                   ("process.restart", "process.restart", "rule")):
        result = plan(ledger, i, d, llm=Oracle(answer), memory=IncidentMemory())
        assert isinstance(result, Plan) and (result.action, result.source) == (action, source)


def test_the_allow_list_orders_but_never_hides(ledger: SqlLedger) -> None:
    _, i, d, _, _ = FAULTS[0]
    result = plan(ledger, i, d, is_allowed=lambda service, action: action == "process.kill")
    assert isinstance(result, Plan) and result.action == "process.kill"
    result = plan(ledger, i, d, is_allowed=lambda service, action: False)
    assert isinstance(result, Plan) and result.action == "process.restart"


def test_every_rule_names_an_action_of_the_catalogue_that_can_be_eligible() -> None:
    for rule in RULES:
        action = CATALOGUE.get(rule.action)
        assert action is not None and action.applies_when & rule.any_of


SERVICES = st.sampled_from(GRAPH.services)
SIGNALS = st.lists(st.tuples(SERVICES, st.sampled_from(SIGNAL_KINDS), st.just("") | SERVICES, st.booleans()), max_size=8)
CHANGES = st.none() | st.tuples(SERVICES, st.sampled_from(["rollout", "config", "scale", "start", "action"]),
                                st.integers(-100, 2000), st.sampled_from(["deployer", "opsmend"]))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(SIGNALS, st.lists(st.tuples(SERVICES, CHANGES), max_size=3), st.booleans(), st.sampled_from([None, "process.restart"]))
def test_no_plan_without_typed_evidence(ledger: SqlLedger, signals: Any, suspects: Any, cannot_tell: bool,
                                        model: str | None) -> None:
    """Whatever the input and whatever a model says: evidence or no action."""
    unique = {(s, k, p): o for s, k, p, o in signals}
    i = incident(*(signal(s, k, peer=p, is_open=o) for (s, k, p), o in sorted(unique.items())))
    d = diagnosis(*(suspect(s, 0.5, None if c is None else change(c[0], c[2], kind=c[1], actor=c[3]))
                    for s, c in suspects), cannot_tell=cannot_tell)
    result = plan(ledger, i, d, llm=Oracle(model) if model else None)
    if isinstance(result, NoPlan) or result.action == "notify":
        return
    action = CATALOGUE.get(result.action)
    assert action is not None and result.target not in GRAPH.external
    kinds = {s.kind for s in i.signals if s.is_open}
    if action.needs_change:
        assert any(s == result.target and c is not None and c[0] == s and c[1] in ("rollout", "config")
                   and c[3] != "opsmend" and -10 <= c[2] <= 600 for s, c in suspects)
        assert action.applies_when & kinds
    else:
        on_it = {s.kind for s in i.signals if s.is_open and result.target in (s.service, s.peer)}
        assert action.applies_when & (on_it - LOG_KINDS)
    assert result.params.get("service") == result.target
