"""Incidents with a known cause, to fine-tune the ranker on: what people confirmed, or a folder of recorded cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from pathlib import Path

from opsmend.causes import ConfirmedCause, targets_of
from opsmend.evaluate.rca_cases import RecordedCase, cases_to_learn_from
from opsmend.evaluate.rca_made import calm_windows
from opsmend.store.bodies import Bodies
from opsmend.store.causes import CauseLog
from opsmend.store.engine import open_engine
from opsmend.store.tables import confirmed_causes
from rootcause.tune import Confirmed
from rootcause.types import CaseWindow

NOTHING = "nothing was wrong"
"""The name of their group."""


def recorded(data: Path) -> list[Confirmed]:
    """The cases under `data` but those marked `test`, and of each a stretch in which nothing was wrong. The layout is that
    of `opsmend eval rca`. Cases of one root are one group. Raises CaseError where there are none, or one can't be read."""
    return [one for case in cases_to_learn_from(data) for one in of_case(case)]


def of_case(case: RecordedCase) -> list[Confirmed]:
    """It, and the first calm stretch before it."""
    group = f"{case.system}: {case.root}"
    return [Confirmed(case.window, (case.window.services.index(case.root),), group),
            *(Confirmed(w, (), group) for w in list(calm_windows(case))[:1])]


def stored(store_url: str, tell: Callable[[str], None] = lambda text: None) -> list[Confirmed]:
    """What people confirmed, of one service or several that share a store. Incidents that share a cause are one group, and
    so are those in which nothing was wrong, and those that overlap in time. An instance counts as its service. What a host or
    volume alone caused is left out: the ranker has no candidate for it, and no service is to be blamed. So is what can't be
    read, or names what is not in its window: the log names each. `tell` is told how many. Raises StoreError."""
    lost: list[str] = []
    bodies, kept = Bodies(lost.append), list[tuple[ConfirmedCause, CaseWindow, tuple[int, ...]]]()
    ground = 0
    engine = open_engine(store_url)
    try:
        for cause, window in CauseLog(engine, bodies).all():
            if cause.culprits and all(c.is_ground for c in cause.culprits):
                ground += 1
                continue
            try:
                kept.append((cause, window, targets_of(cause, window)))
            except ValueError as error:
                bodies.tell(confirmed_causes.name, cause.incident_id, error)
    finally:
        engine.dispose()
    if lost:
        tell(f"{len(lost)} of {len(kept) + len(lost)} confirmed causes can't be used and are left out; each is named above")
    if ground:
        tell(f"{ground} confirmed cause{'s' if ground > 1 else ''} left out: a host or volume. The ranker scores services and "
             "calls; hosts and volumes are found by a rule that does not learn")
    groups = grouped([({c.service for c in cause.culprits if not c.is_ground} or {NOTHING}, window)
                      for cause, window, _ in kept])
    return [Confirmed(window, targets, group) for (_, window, targets), group in zip(kept, groups, strict=True)]


def grouped(windows: Sequence[tuple[Set[str], CaseWindow]]) -> list[str]:
    """The group of each: the names of its causes, joined where incidents share one, or overlap in time."""
    group = [{n} for n in range(len(windows))]
    for n, (causes, window) in enumerate(windows):
        for m, (others, earlier) in enumerate(windows[:n]):
            apart = earlier.ts_ns[-1] < window.ts_ns[0] or window.ts_ns[-1] < earlier.ts_ns[0]
            if (causes & others or not apart) and group[n] is not group[m]:
                joined = group[n] | group[m]
                for k in joined:
                    group[k] = joined
    return [" + ".join(sorted({name for k in one for name in windows[k][0]})) for one in group]
