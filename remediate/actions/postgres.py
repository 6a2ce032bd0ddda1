"""End the session that others wait for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from remediate.actions.base import ActionContext, ActionError, Effect, Probe, Target

_ROOTS = """
with waiting as (
  select pid, unnest(pg_blocking_pids(pid)) as blocker from pg_stat_activity where wait_event_type = 'Lock'
)
select a.pid, extract(epoch from a.backend_start)::float as began,
       extract(epoch from clock_timestamp() - a.xact_start)::float as seconds
from pg_stat_activity a
where a.pid in (select blocker from waiting) and a.pid not in (select pid from waiting)
  and a.backend_type = 'client backend' and a.pid <> pg_backend_pid()
  and a.xact_start < clock_timestamp() - make_interval(secs => %(min_seconds)s)
  and not (a.state = 'active' and a.query ~* '^\\s*(vacuum|analyze|reindex|cluster|create\\s+(unique\\s+)?index|refresh)')
  and (%(before)s::float is null or a.xact_start < to_timestamp(%(before)s::float))
order by a.xact_start, a.pid limit 5
"""
_END = """
select pg_terminate_backend(pid) from pg_stat_activity
where pid = %s and abs(extract(epoch from backend_start)::float - %s) < 0.001
"""
_LEFT = """
select count(*) from pg_stat_activity
where (pid, extract(epoch from backend_start)::numeric(20, 3)) in
  (select p, b::numeric(20, 3) from unnest(%s::int[], %s::float[]) as t(p, b))
"""
_T = TypeVar("_T")
_Root = tuple[int, float, float]
"""(pid, start of the session in seconds of the epoch, age of its transaction in seconds)."""


class TerminateBlocker:
    """Terminates the sessions at the root of lock chains: those that block others and wait for nobody.

    Never background workers, maintenance commands, itself, or a transaction younger than `min_seconds`. The
    work of the session is lost, so it can't be undone. A pid alone names nobody for long: sessions are
    known by pid and start. After a crash midway, only transactions that were there before the first try are
    touched: whoever came later is another case.
    """

    name, title = "postgres.terminate_blocker", "End the session that blocks others on {service}"
    applies_when = frozenset({"lock_wait"})
    needs_change = False
    is_reversible, disruption = False, 1

    def parameters(self, target: Target) -> dict[str, Any]:
        return {"service": target.service, "min_seconds": 1.0}

    def _connected(self, context: ActionContext, work: Callable[[Any], _T]) -> _T:
        import psycopg

        if not context.endpoints.postgres_dsn:
            raise ActionError("no database: set [actuator] postgres_dsn_env", reason="no_actuator")
        try:
            with psycopg.connect(context.endpoints.postgres_dsn, autocommit=True, connect_timeout=5,
                                 application_name="opsmend",
                                 options=f"-c statement_timeout={int(context.timeout_seconds * 1000)}") as connection:
                return work(connection)
        except psycopg.Error as error:
            raise ActionError(f"database: {type(error).__name__}", reason="unreachable", is_transient=True) from error

    def _roots(self, connection: Any, params: dict[str, Any], before: float | None = None) -> list[_Root]:
        rows = connection.execute(_ROOTS, {"min_seconds": params["min_seconds"], "before": before}).fetchall()
        return [(int(pid), float(began), float(seconds)) for pid, began, seconds in rows]

    def probe(self, params: dict[str, Any], context: ActionContext) -> Probe:
        # An ended session leaves no trace of who ended it. Only after a try that was cut off does "those we
        # meant are gone" mean "done"; before the first try they would have gone by themselves.
        meant = context.snapshot.get("blockers", [])
        if context.is_repeat and meant:
            pids, starts = [pid for pid, _ in meant], [began for _, began in meant]
            left = self._connected(context, lambda c: int(c.execute(_LEFT, (pids, starts)).fetchone()[0]))
            return Probe(left == 0, f"{left} of {len(meant)} blocking sessions are left")
        return Probe(False, f"{len(self._connected(context, lambda c: self._roots(c, params)))} blocking sessions")

    def snapshot(self, params: dict[str, Any], context: ActionContext) -> dict[str, Any]:
        def look(connection: Any) -> dict[str, Any]:
            now = connection.execute("select extract(epoch from clock_timestamp())::float").fetchone()[0]
            return {"at": float(now), "blockers": [[pid, began] for pid, began, _ in self._roots(connection, params)]}

        return self._connected(context, look)

    def run(self, params: dict[str, Any], context: ActionContext) -> Effect:
        before = float(context.snapshot["at"]) if context.is_repeat and "at" in context.snapshot else None

        def end(connection: Any) -> Effect:
            roots = self._roots(connection, params, before)
            ended = [seconds for pid, began, seconds in roots
                     if (row := connection.execute(_END, (pid, began)).fetchone()) and row[0]]
            oldest = f" (oldest {max(ended):.0f} s)" if ended else ""
            return Effect(f"terminated {len(ended)} blocking sessions{oldest}", bool(ended))

        return self._connected(context, end)

    def undo(self, snapshot: dict[str, Any], context: ActionContext) -> Effect:
        raise ActionError("an ended session can't be brought back", reason="irreversible")
