"""One check of the forecaster against the service's recent data: roll back, or tune and promote, or leave it.

Runs in a process of its own (`python -m opsmend.forecasting.check`), with the lowest priority, one thread, and a bound
on CPU time: the service does not wait for it, and does not feel it when it is killed.
"""

from __future__ import annotations

import json
import math
import os
import resource
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from detect.forecaster.contest import MIN_SERIES, contest, has_drifted, relative_loss
from detect.forecaster.synthetic import Made
from detect.forecaster.tune import challenge, held_back
from detect.forecaster.versions import ModelVersions, RolledBack
from detect.forecaster.weights import BadWeights, Weights

_MEMORY_OF_DRIFT = 0.2
"""How fast what is usual follows what is recent, per check without drift."""


@dataclass(frozen=True)
class Report:
    """What a check found and did: `done` is nothing, promoted, kept, rolled_back or no_data."""

    done: str
    version: str
    reason: str
    relative_loss: float | None = None
    usual_loss: float | None = None
    has_drifted: bool = False
    series: int = 0
    at_ns: int = 0


def check(versions: ModelVersions, data: list[Made], *, now_ns: int, seed: int = 0, always_tune: bool = False,
          by_hand: bool = False, updates: int = 300, seconds: float = 120.0) -> Report:
    """Roll back a champion that is worse than the one before it; else tune where it has drifted (or `always_tune`), and
    promote the challenger only if it wins on what was held back. `by_hand`: a person asks for it. Else nothing is tuned
    from a champion that a person went back to: the same parent on much the same data gives much the same challenger."""
    champion, series = versions.champion(), sum(len(made.values) for made in data)
    found = Report("no_data", champion.version, f"{series} series with enough values; needs {MIN_SERIES}", series=series,
                   at_ns=now_ns)
    if series < MIN_SERIES:
        return _told(versions, found)
    last = last_report(versions.directory)
    if last is not None and last.at_ns >= now_ns and last.version == champion.version and not always_tune:
        return replace(found, done="nothing", reason="no data since the last check")
    recent = relative_loss(champion, [(made, made.values.shape[1] // 4) for made in data])
    usual = _usual(versions, champion.version)
    drifted = usual is not None and has_drifted(recent, usual)
    found = replace(found, relative_loss=round(recent, 4) if math.isfinite(recent) else None, usual_loss=usual,
                    has_drifted=drifted)
    if (before := _before(versions)) is not None:
        verdict = contest(champion, before, [_since_promotion(versions, made) for made in data])
        if verdict.wins:
            versions.rollback(reason=f"automatic: the version before {verdict.words()}", now_ns=now_ns)
            return _told(versions, replace(found, done="rolled_back", version=before.version, reason=verdict.words()))
    if usual is not None and not drifted and not always_tune:
        return _told(versions, replace(found, done="nothing", reason="no drift"))
    if not by_hand and (refused := versions.rolled_back_by_hand()):
        return _told(versions, replace(found, done="nothing", reason=(
            f"a person rolled {refused} back: nothing is tuned until one asks for it (opsmend models check)")))
    try:
        challenger, verdict = challenge(champion, data, seed=seed, now_ns=now_ns, updates=updates, seconds=seconds)
    except ValueError as error:
        return _told(versions, replace(found, reason=str(error)))
    name = versions.unused(challenger.version)
    challenger = replace(challenger, version=name, card={**challenger.card, "version": name})
    versions.add(challenger)
    if not verdict.wins:
        return _told(versions, replace(found, done="kept", reason=f"challenger {verdict.words()}"))
    try:
        versions.promote(challenger.version, reason=f"challenger {verdict.words()}", now_ns=now_ns, by_hand=by_hand)
    except RolledBack as error:
        return _told(versions, replace(found, done="kept", reason=str(error)))
    return _told(versions, replace(found, done="promoted", version=challenger.version, reason=verdict.words()))


def _before(versions: ModelVersions) -> Weights | None:
    """What the champion took over from; None where there is nothing, or nothing that can be read."""
    version = versions.previous()
    if version is None:
        return None
    try:
        return versions.load(version)
    except (OSError, BadWeights):
        return None


def _since_promotion(versions: ModelVersions, made: Made) -> tuple[Made, int]:
    """Only what came after the champion was promoted is news to it; and only series that it was not tuned on."""
    promoted = max((event["at_ns"] for event in versions.events()), default=0) / 1e9
    own, _ = held_back(made)
    return own, max(made.values.shape[1] // 8, int((promoted - made.start) / made.step))


def last_report(directory: Path) -> Report | None:
    """Of the last check; None where there was none."""
    try:
        return Report(**json.loads((directory / "check.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _usual(versions: ModelVersions, version: str) -> float | None:
    """The long-run relative loss of the champion; None for one that was not checked yet."""
    last = last_report(versions.directory)
    return last.usual_loss if last is not None and last.version == version else None


def _told(versions: ModelVersions, report: Report) -> Report:
    """Keep the report, with what is usual from now on: a new champion's record begins with its first check."""
    usual = report.usual_loss
    if report.done in ("promoted", "rolled_back"):
        usual = None
    elif report.relative_loss is not None and usual is None:
        usual = report.relative_loss
    elif report.relative_loss is not None and usual is not None and not report.has_drifted:
        usual += _MEMORY_OF_DRIFT * (report.relative_loss - usual)
    kept = replace(report, usual_loss=usual)
    versions.directory.mkdir(parents=True, exist_ok=True)
    half = versions.directory / ".check.json"
    half.write_text(json.dumps(asdict(kept), indent=2) + "\n")
    half.replace(versions.directory / "check.json")
    return kept


@dataclass(frozen=True)
class Order:
    """What a check is to do; comes as JSON on standard input, where no other user of the machine can read it."""

    store_url: str
    models: str
    bucket_seconds: float
    cpu_seconds: int = 240
    always_tune: bool = False
    by_hand: bool = False
    seed: int = 0


def run(order: Order) -> Report:
    """The check, on what the store holds."""
    from opsmend.forecasting.data import recent_series, some_of
    from opsmend.store.engine import open_engine
    from opsmend.store.queries import Queries

    engine = open_engine(order.store_url)
    queries = Queries(engine)
    newest = queries.newest_observation_ns()
    # First who there is, then the history of some: that of all would not be small.
    lately = queries.observations(newest - int(60 * order.bucket_seconds * 1e9), newest)
    chosen = some_of(lately.series)
    data = recent_series(queries.observations(0, newest, chosen.__contains__), order.bucket_seconds) if chosen else []
    engine.dispose()
    return check(ModelVersions(Path(order.models)), data, now_ns=newest, seed=order.seed,
                 always_tune=order.always_tune, by_hand=order.by_hand, seconds=0.5 * order.cpu_seconds)


def main() -> None:
    """Order in, report out; the lowest priority, and a bound on CPU seconds."""
    order = Order(**json.loads(sys.stdin.read()))
    os.nice(19)
    resource.setrlimit(resource.RLIMIT_CPU, (order.cpu_seconds, order.cpu_seconds + 5))
    sys.stdout.write(json.dumps(asdict(run(order))) + "\n")


if __name__ == "__main__":
    main()
