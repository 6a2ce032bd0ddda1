"""Which instance: named when one of several changed, not when all did, and seldom by chance."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from detect.types import Observations
from ingest.types import SeriesKey
from rootcause.instances import instance_evidence, unusual_instances

S = 10**9
STEP, ONSET, ROWS = 10, 30, 42
Columns = dict[tuple[str, str], NDArray[np.float64]]


def shown(columns: Columns) -> Observations:
    keys = tuple(SeriesKey("cart", name, instance) for name, instance in columns)
    return Observations(np.arange(ROWS, dtype=np.int64) * STEP * S, keys, np.array(list(columns.values())).T)


def healthy(rng: np.random.Generator, instances: int) -> Columns:
    out: Columns = {}
    level = float(rng.lognormal(-3, 1))
    for n in range(instances):
        name = f"cart-{n}"
        asked = rng.poisson(rng.uniform(5, 300), ROWS)
        out["instance.requests_per_second", name] = asked / STEP
        out["instance.error_ratio", name] = rng.binomial(asked, 0.005) / np.maximum(asked, 1)
        out["instance.latency_seconds", name] = level * rng.lognormal(0, 0.15, ROWS) * rng.uniform(0.7, 1.4)
        out["process.cpu.cores", name] = np.clip(rng.normal(0.3, 0.05, ROWS), 0, None)
        out["process.memory.rss", name] = 2e8 + np.cumsum(rng.normal(0, 2e5, ROWS))
    return out


def strike(columns: Columns, rng: np.random.Generator, who: list[str]) -> str:
    kind = str(rng.choice(["errors", "latency", "cpu", "memory"]))
    for name in who:
        if kind == "errors":
            columns["instance.error_ratio", name][ONSET:] = rng.uniform(0.2, 1.0)
        elif kind == "latency":
            columns["instance.latency_seconds", name][ONSET:] *= rng.uniform(3, 10)
        elif kind == "cpu":
            columns["process.cpu.cores", name][ONSET:] += 0.6
        else:
            columns["process.memory.rss", name][ONSET:] += np.linspace(0, 2e8, ROWS - ONSET)
    return kind


def named(columns: Columns) -> tuple[str, ...]:
    return tuple(u.instance for u in unusual_instances("cart", shown(columns), ONSET * STEP * S))


@pytest.mark.parametrize("struck", ["one", "all", "none"])
def test_over_many_services_the_right_one_is_named(struck: str) -> None:
    right = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        columns = healthy(rng, int(rng.integers(2, 9)))
        everyone = sorted({name for _, name in columns})
        who = [str(rng.choice(everyone))] if struck == "one" else everyone if struck == "all" else []
        strike(columns, rng, who)
        right += named(columns) == tuple(who if struck == "one" else ())
    assert right >= {"one": 180, "all": 190, "none": 195}[struck], right


def test_an_instance_that_is_gone_is_named_unless_another_took_over() -> None:
    rng = np.random.default_rng(1)
    columns = healthy(rng, 3)
    for name in ("requests_per_second", "error_ratio", "latency_seconds"):
        columns[f"instance.{name}", "cart-1"][ONSET:] = np.nan
    assert named(columns) == ("cart-1",)
    columns["instance.requests_per_second", "cart-9"] = np.where(np.arange(ROWS) < ONSET, np.nan, 20.0)
    assert named(columns) == ()


def test_one_instance_is_no_choice_and_one_bucket_no_past() -> None:
    rng = np.random.default_rng(2)
    columns = healthy(rng, 1)
    strike(columns, rng, ["cart-0"])
    assert named(columns) == ()
    assert unusual_instances("cart", shown(healthy(rng, 3)), 0) == ()
    assert unusual_instances("orders", shown(healthy(rng, 3)), ONSET * STEP * S) == ()


def test_the_reason_says_how_and_on_which_machine() -> None:
    rng = np.random.default_rng(3)
    columns = healthy(rng, 3)
    columns["instance.error_ratio", "cart-2"][ONSET:] = 0.5
    unusual = unusual_instances("cart", shown(columns), ONSET * STEP * S)
    said = [e.text for e in instance_evidence("cart", unusual, {"cart-0": "n1", "cart-1": "n1", "cart-2": "n2"})]
    assert said[0].startswith("of its instances only cart-2: error_ratio 0.5, the others 0")
    assert said[1] == "these run on n2, and no other instance of it does"
    assert len(instance_evidence("cart", unusual, {"cart-0": "n2", "cart-1": "n1", "cart-2": "n2"})) == 1


@pytest.mark.parametrize("kubelet", [True, False], ids=["told by the kubelet", "scraped from the pod"])
def test_pods_are_instances_as_prometheus_labels_them(kubelet: bool) -> None:
    """Their labels differ in more than the pod, and `instance` is the kubelet's address or the pod's own."""
    rng = np.random.default_rng(3)
    keys, columns = [], []
    for n in range(4):
        pod = f"cart-7d4-{n}"
        place = {"pod": pod, "node": f"node-{n % 2}", "namespace": "shop"} | (
            {"id": f"/kubepods/pod{n}", "name": f"k8s_cart_{n}", "image": f"cart@{n % 2}"} if kubelet else {})
        for name, usual in (("container_memory_working_set_bytes", 2e8), ("http_requests_in_flight", 3.0)):
            for route in ("/a", "/b") if name.startswith("http") else ("",):
                values = usual * rng.lognormal(0, 0.02, ROWS)
                if n == 2 and name.startswith("container"):
                    values[ONSET:] *= 3.0
                labels = place | ({"route": route} if route else {})
                keys.append(SeriesKey("cart", name, f"10.0.0.{n % 2}:10250" if kubelet else f"10.1.0.{n}:8080",
                                      labels=tuple(sorted(labels.items()))))
                columns.append(values)
    seen = Observations(np.arange(ROWS, dtype=np.int64) * STEP * S, tuple(keys), np.array(columns).T)
    (one,) = unusual_instances("cart", seen, ONSET * STEP * S)
    assert (one.instance, one.series) == ("cart-7d4-2", "container_memory_working_set_bytes")
    assert one.now == pytest.approx(6e8, rel=0.1) and one.others == pytest.approx(2e8, rel=0.1)
