"use strict";
// Live: any event marks the page dirty; at most one render is under way, at most four a second.
const main = document.getElementById("main"), stale = document.getElementById("stale");
let dirty = false, busy = false, heard = Date.now(), go = 0;
const held = () => { const s = getSelection(); return s && !s.isCollapsed && main.contains(s.anchorNode); };
const typing = () => /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName);
async function render() {
  if (busy || !dirty || document.hidden || held() || typing()) return;
  busy = true; dirty = false;
  try {
    const answer = await fetch(location.href);
    if (answer.ok) {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const list of main.querySelectorAll("ul.rows:hover, ul.rows:focus-within")) { // no row moves under a hand
        const next = list.id && page.getElementById(list.id); if (!next) continue;
        for (const row of [...list.children].reverse()) { const same = row.id && page.getElementById(row.id); if (same && same.parentNode === next) next.prepend(same); }
      }
      for (const id of ["main", "stats", "mode", "stop"]) Idiomorph.morph(document.getElementById(id), page.getElementById(id), { morphStyle: "outerHTML", ignoreActiveValue: true });
    } else dirty = true;
  } catch { dirty = true; }
  busy = false;
}
setInterval(() => requestAnimationFrame(render), 250);
const events = new EventSource("/events");
const alive = () => { heard = Date.now(); stale.hidden = true; };
events.onopen = () => { alive(); dirty = true; };
events.addEventListener("heartbeat", () => { alive(); dirty = true; });
for (const what of ["incident.opened", "incident.updated", "incident.split", "incident.merged", "incident.closed", "breach.predicted", "plan.proposed", "plan.approved", "plan.rejected", "plan.running", "plan.expired", "plan.blocked", "plan.done", "run.updated", "run.finished", "repairs.changed"]) events.addEventListener("io.opsmend." + what, () => { alive(); dirty = true; });
setInterval(() => { if (Date.now() - heard > 25000 || events.readyState === 2) { stale.textContent = "No update since " + new Date(heard).toISOString().slice(11, 19) + " UTC"; stale.hidden = false; } }, 1000);
document.getElementById("stop").addEventListener("submit", e => { if (!confirm("Stop or resume all repairs?")) e.preventDefault(); });
const rows = () => [...main.querySelectorAll("[data-row]")];
addEventListener("keydown", e => {
  if (e.ctrlKey || e.metaKey || e.altKey || typing()) return;
  const k = e.key, now = Date.now(), at = rows().findIndex(r => r.contains(document.activeElement));
  if (k === "g") { go = now; return; }
  if (now - go < 1500) { go = 0; const to = document.querySelector(`[data-go="${CSS.escape(k)}"]`); if (to) { to.click(); return; } }
  if (k === "j" || k === "k") { const r = rows(), to = r[Math.max(0, Math.min(r.length - 1, at + (k === "j" ? 1 : -1)))]; to?.querySelector("a.title")?.focus(); }
  if (k === "!") { document.querySelector("#stop button").click(); return; }
  const scope = at >= 0 ? rows()[at] : main; // without a row in focus, only where there is no doubt which plan is meant
  if (scope.querySelectorAll("form.decide").length !== 1) return;
  if (k === "a") scope.querySelector("form.decide .go")?.click();
  if (k === "r") scope.querySelector("form.decide .no")?.click();
});
