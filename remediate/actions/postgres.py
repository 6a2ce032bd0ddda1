"""End the session that others wait for."""

from __future__ import annotations

from typing import Any

from remediate.actions.base import ActionContext, ActionError, Effect, Probe, Target

_ROOTS = """
with waiting as (
  select pid, unnest(pg_blocking_pids(pid)) as blocker from pg_stat_activity where wait_event_type = 'Lock'
)
select a.pid, extract(epoch from now() - a.xact_start)::float as seconds
from pg_stat_activity a
where a.pid in (select blocker from waiting) and a.pid not in (select pid from waiting)
  and a.backend_type = 'client backend' and a.pid <> pg_backend_pid()
  and a.xact_start < now() - make_interval(secs => %s)
order by a.xact_start limit 5
"""


class TerminateBlocker:
    """Terminates the sessions at the root of lock chains: those that block others and wait for nobody.

    Never background workers, never itself, never a transaction younger than `min_seconds`. The work of the
    session is lost, so it can't be undone.
    """

    name, title = "postgres.terminate_blocker", "End the session that blocks others on {service}"
    applies_when = frozenset({"lock_wait"})
    needs_change = False
    is_reversible, disruption = False, 1

    def parameters(self, target: Target) -> dict[str, Any]:
        return {"service": target.service, "min_seconds": 1.0}

    def _connect(self, context: ActionContext) -> Any:
        import psycopg

        if not context.endpoints.postgres_dsn:
            raise ActionError("no database: set [actuator] postgres_dsn_env", reason="no_actuator")
        try:
            return psycopg.connect(context.endpoints.postgres_dsn, autocommit=True, connect_timeout=5,
                                   application_name="opsmend",
                                   options=f"-c statement_timeout={int(context.timeout_seconds * 1000)}")
        except psycopg.Error as error:
            raise ActionError(f"database: {type(error).__name__}", reason="unreachable", is_transient=True) from error

    def _roots(self, connection: Any, params: dict[str, Any]) -> list[tuple[int, float]]:
        return [(int(pid), float(s)) for pid, s in connection.execute(_ROOTS, (params["min_seconds"],)).fetchall()]

    def probe(self, params: dict[str, Any], context: ActionContext) -> Probe:
        # A terminated session leaves no trace of who ended it; but ending nobody twice does no harm: a second
        # run finds no blocker. So "done" is never claimed here.
        with self._connect(context) as connection:
            return Probe(False, f"{len(self._roots(connection, params))} blocking sessions")

    def snapshot(self, params: dict[str, Any], context: ActionContext) -> dict[str, Any]:
        with self._connect(context) as connection:
            return {"blockers": [pid for pid, _ in self._roots(connection, params)]}

    def run(self, params: dict[str, Any], context: ActionContext) -> Effect:
        import psycopg

        try:
            with self._connect(context) as connection:
                roots = self._roots(connection, params)
                ended = [pid for pid, _ in roots
                         if connection.execute("select pg_terminate_backend(%s)", (pid,)).fetchone()[0]]
        except psycopg.Error as error:
            raise ActionError(f"database: {type(error).__name__}", reason="refused", is_transient=True) from error
        oldest = max((s for _, s in roots), default=0.0)
        return Effect(f"terminated {len(ended)} blocking sessions (oldest {oldest:.0f} s)", bool(ended))

    def undo(self, snapshot: dict[str, Any], context: ActionContext) -> Effect:
        raise ActionError("an ended session can't be brought back", reason="irreversible")
