"use strict";
// Live: an event, or the clock, marks the page as old; htmx fetches it again and idiomorph changes it in place.
// At most one render is under way, and rendering takes at most about a third of the time.
(() => {
  const id = name => document.getElementById(name), stale = id("stale"), note = id("note");
  const hand = { x: -1, y: -1, at: 0 };
  let dirty = false, busy = false, timer = 0, cost = 40, heard = Date.now(), go = 0, renders = 0;
  const stats = window.opsmend = { events: 0, get renders() { return renders; } };

  const say = text => { note.textContent = text; clearTimeout(say.timer); say.timer = setTimeout(() => { note.textContent = ""; }, 6000); };
  const typing = () => { const e = document.activeElement; return e && (/^(TEXTAREA|SELECT)$/.test(e.tagName) || (e.tagName === "INPUT" && !/^(checkbox|radio)$/.test(e.type))); };

  // --- changing the page in place
  // A list that is pointed at, or focused, keeps its order and rows.
  function keepOrder(page) {
    for (const list of document.querySelectorAll("#page ul.rows")) {
      const next = list.id && page.querySelector("#" + list.id);
      if (!next || !(list.matches(":focus-within") || pointed(list))) continue;
      const rows = [...list.children].filter(row => row.id).map(row => {
        const same = page.querySelector("#" + CSS.escape(row.id));
        if (same && same.parentNode === next) return same;
        if (same) same.remove();
        const gone = row.cloneNode(true); // it left the list: it stays until the hand leaves, but does nothing
        gone.classList.add("gone"); gone.querySelectorAll("form").forEach(f => f.remove());
        return gone;
      });
      next.prepend(...rows);
    }
  }
  const pointed = list => { const b = list.getBoundingClientRect(); return hand.x >= b.left && hand.x <= b.right && hand.y >= b.top && hand.y <= b.bottom; };
  const selected = node => { const s = getSelection(); return s && !s.isCollapsed && (s.anchorNode === node || s.focusNode === node); };
  const callbacks = {
    beforeNodeMorphed: (old, next) => {
      if (old.nodeType === 3) return !selected(old); // text that is being selected stays until it is let go
      if (old.nodeType !== 1) return true;
      if (/^(SECTION|TR|LI|LABEL)$/.test(old.tagName) && old.isEqualNode(next)) return false; // the browser compares faster than we do
      if (old.hasAttribute("data-keep") && next.hasAttribute && next.hasAttribute("data-keep")) { if (next.hasAttribute("aria-label")) old.setAttribute("aria-label", next.getAttribute("aria-label")); old.className = next.className; return false; }
      if (old.tagName === "DETAILS" && old.classList.contains("tool") && old.open) return false;
      return !(old.tagName === "INPUT" && old.type !== "hidden") && old.tagName !== "SELECT";
    },
    beforeNodeRemoved: node => { const s = getSelection(); return !(s && !s.isCollapsed && node.nodeType === 1 && s.anchorNode && node.contains(s.anchorNode) && node.closest && !node.matches("li.row, form")); },
    beforeAttributeUpdated: (name, node) => !(name === "open" && node.tagName === "DETAILS"),
  };
  htmx.defineExtension("live", {
    isInlineSwap: style => style === "live",
    handleSwap: (style, target, fragment) => {
      if (style !== "live") return false;
      const next = fragment.querySelector ? fragment.querySelector("#page") || fragment.firstElementChild : fragment;
      if (!next) return false;
      const focused = document.activeElement, row = focused && focused.closest("li.row"), inPlan = focused && focused.closest("#plan");
      keepOrder(next);
      Idiomorph.morph(target, next, { morphStyle: "outerHTML", ignoreActiveValue: true, restoreFocus: true, callbacks });
      if (focused && focused !== document.body && !focused.isConnected) { // what had the focus is no more: its neighbour takes it
        const again = row && id(row.id), link = again && again.querySelector("a.title");
        (link || (inPlan && id("plan-title")) || id("main"))?.focus({ preventScroll: true });
      }
      plans(); charts();
      return [id("page")];
    },
  });

  async function render() {
    timer = 0;
    if (busy || !dirty || document.hidden) return;
    busy = true; dirty = false;
    const begun = performance.now();
    let failed = false;
    const noteFailure = () => { failed = true; };
    document.body.addEventListener("htmx:sendError", noteFailure); document.body.addEventListener("htmx:responseError", noteFailure);
    try { await htmx.ajax("GET", location.pathname + location.search, { source: id("page"), target: "#page", swap: "live", select: "#page" }); }
    catch { failed = true; }
    document.body.removeEventListener("htmx:sendError", noteFailure); document.body.removeEventListener("htmx:responseError", noteFailure);
    cost = 0.7 * cost + 0.3 * (performance.now() - begun);
    busy = false;
    if (failed) dirty = true; else { renders++; alive(); }
    if (dirty) old(failed ? 1000 : 0);
  }
  function old(least = 0) { dirty = true; if (!timer && !busy) timer = setTimeout(render, Math.max(least, Math.min(2000, Math.max(60, 2 * cost)))); }
  function now() { dirty = true; clearTimeout(timer); timer = 0; render(); }

  // --- what tells that the page is old
  const alive = () => { heard = Date.now(); if (stale.textContent) stale.textContent = ""; };
  const events = new EventSource("/events");
  events.onopen = () => { alive(); old(); };
  const types = ["incident.opened", "incident.updated", "incident.diagnosed", "incident.split", "incident.merged", "incident.closed", "breach.predicted", "plan.proposed", "plan.updated", "plan.approved", "plan.rejected", "plan.running", "plan.expired", "plan.blocked", "plan.done", "run.updated", "run.step", "run.finished", "outcome.recorded", "repairs.changed"];
  for (const type of ["heartbeat", ...types.map(t => "io.opsmend." + t)]) events.addEventListener(type, () => { stats.events++; alive(); old(); });
  setInterval(() => old(), 2000);
  setInterval(() => { if (Date.now() - heard > 12000) stale.textContent = `Nothing heard since ${new Date(heard).toISOString().slice(11, 19)} UTC: this page is out of date`; }, 1000);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) now(); });
  addEventListener("pointermove", e => { hand.x = e.clientX; hand.y = e.clientY; }, { passive: true });
  document.documentElement.addEventListener("pointerleave", () => { hand.x = hand.y = -1; });
  addEventListener("pageshow", () => old());

  // --- what a person does
  document.body.addEventListener("htmx:confirm", e => {
    if (!e.detail.question) return;
    e.preventDefault();
    const ask = id("ask"), form = e.detail.elt; if (ask.open) return;
    const chosen = [...form.querySelectorAll("input:checked")];
    if (form.dataset.none && !chosen.length) return say(form.dataset.none);
    const of = chosen.filter(c => c.name === "service").map(c => "everything of " + c.value), some = chosen.length - of.length;
    if (some) of.unshift(some === 1 ? "1 alert" : some + " alerts");
    id("ask-text").textContent = e.detail.question.replace("{n}", () => of.join(" and ")).replace("{what}", () => chosen[0]?.closest("label").querySelector("[data-what]")?.textContent ?? ""); ask.returnValue = "no"; question = e.detail;
    ask.showModal(); id("ask-yes").focus();
  });
  let question = null;
  id("ask").addEventListener("close", () => {
    const ask = id("ask"); if (ask.open) return;  // the echo of an earlier question: this one still stands
    const what = question; question = null;
    if (ask.returnValue === "yes" && what) what.issueRequest(true);
  });
  document.body.addEventListener("htmx:afterRequest", e => {
    const how = e.detail.xhr, form = e.detail.elt;
    if (e.detail.requestConfig?.verb !== "post") return;
    if (e.detail.successful) {
      form.closest("details.tool")?.removeAttribute("open");
      const there = decodeURIComponent(how.getResponseHeader("x-opsmend-done") || "");
      if (/\/(split|merge)$/.test(form.getAttribute("action")) && there) { location.assign(there); return; }
    } else {
      let why = how.status === 401 ? "This needs the token: give it under Policy." : "Not done: opsmend can't be reached.";
      try { const body = JSON.parse(how.responseText); if (how.status !== 401) why = "Not done: " + body.detail; } catch { /* no problem document */ }
      say(why);
    }
    now();
  });
  document.addEventListener("click", e => {
    const tool = id(e.target.closest?.("[data-opens]")?.dataset.opens ?? ""); if (!tool) return;
    e.preventDefault(); tool.open = true; (tool.querySelector("input:checked") || tool.querySelector("input")).focus();
  });
  // A plan that has taken the place of another one a moment ago is not what the person has read.
  const seen = new Map();
  function plans() { for (const form of document.querySelectorAll("form.decide")) { const last = seen.get(form.dataset.incident); if (!last || last.hash !== form.dataset.hash) seen.set(form.dataset.incident, { hash: form.dataset.hash, at: last ? Date.now() : 0 }); } }
  plans();
  addEventListener("submit", e => {
    const form = e.target.closest?.("form.decide"); if (!form) return;
    const known = seen.get(form.dataset.incident);
    if (known && Date.now() - known.at < 1200) { e.preventDefault(); e.stopImmediatePropagation(); say("The plan has just changed: read it, then decide again."); }
  }, true);

  const rows = () => [...document.querySelectorAll("#main li.row")].filter(r => r.querySelector("a.title"));
  addEventListener("keydown", e => {
    if (e.ctrlKey || e.metaKey || e.altKey || typing() || document.querySelector("dialog[open]")) return;
    const key = e.key, all = rows(), at = all.findIndex(r => r.contains(document.activeElement));
    const focus = r => { const a = r?.querySelector("a.title"); a?.focus(); a?.closest("li").scrollIntoView({ block: "nearest" }); };
    if (Date.now() - go < 1500) { go = 0; const to = id("go-" + key); if (to) { e.preventDefault(); to.click(); return; } }
    if (key === "g") { go = Date.now(); return; }
    if (key === "j" || key === "k") focus(all[Math.max(0, Math.min(all.length - 1, at < 0 ? 0 : at + (key === "j" ? 1 : -1)))]);
    else if (/^[1-9]$/.test(key)) focus(all[+key - 1]);
    else if (key === "!") id("stop-button").click();
    else if (key === "?") id("help").showModal();
    else if (key === "x") id("close-button")?.click();
    else if (key === "s" || key === "m") { const tool = id(key === "s" ? "split" : "merge"); if (tool) { e.preventDefault(); tool.open = !tool.open; (tool.open ? tool.querySelector("input") : tool.querySelector("summary")).focus(); } }
    else if (key === "Escape") { const tool = document.querySelector("details.tool[open]"); if (tool) { tool.open = false; tool.querySelector("summary").focus(); } }
    else if (key === "a" || key === "r") decide(key, at >= 0 ? all[at] : id("main"), at);
  });
  function decide(key, scope, at) {
    const forms = scope.querySelectorAll("form.decide");
    if (forms.length > 1) return say("More than one plan waits: choose a row with j and k first.");
    if (!forms.length) return say(at >= 0 ? "No plan of this row waits for you." : "No plan waits for you here.");
    const button = forms[0].querySelector(key === "a" ? ".go" : ".no");
    if (button) button.click(); else say("Rejecting is done on the incident's page.");
  }
  id("help-button").addEventListener("click", () => id("help").showModal());

  // --- charts: the series of an incident on one clock
  const drawn = new Map();
  let asked = 0, newest = "";
  const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  async function charts(force) {
    const place = document.querySelector("[data-series]");
    if (!place || !window.uPlot || (!force && Date.now() - asked < 900)) return;
    asked = Date.now();
    let body, text;
    try { const answer = await fetch(place.dataset.series); if (!answer.ok) return; text = await answer.text(); } catch { return; }
    if (text === newest && !force) return;
    newest = text; body = JSON.parse(text);
    const of = new Map(body.series.map(s => [s.id, s]));
    for (const [key, one] of drawn) if (!one.root.isConnected) { one.destroy(); drawn.delete(key); }
    for (const box of document.querySelectorAll("[data-plot]")) { const line = of.get(box.dataset.plot); if (line && body.t.length > 1) draw(box, line, body, force); }
  }
  const tones = { critical: "--crit-fill", warning: "--warn-fill", info: "--accent" };
  function draw(box, line, body, force) {
    const [low, middle, high] = line.forecast, data = [body.t, low, middle, high, line.values], known = drawn.get(box.dataset.plot);
    const width = box.clientWidth, height = box.clientHeight || 56;
    if (known && !force && known.root.isConnected && known.width === width && known.height === height && known.line.quiet === line.quiet) { known.line = line; known.body = body; known.setData(data); return; }
    known?.destroy();
    const bands = colour("--band"), accent = colour("--accent"), crit = colour("--crit-fill"), thin = { width: 0, points: { show: false }, spanGaps: false };
    const stroke = colour(line.quiet ? "--soft" : tones[box.closest("[data-tone]").dataset.tone]);
    const plot = new uPlot({
      width, height, padding: [3, 0, 3, 0], legend: { show: false }, cursor: { y: false, sync: { key: "clock" }, drag: { x: false, y: false }, points: { size: 6, show: (u, i) => i === 4 ? undefined : false } },
      scales: { x: { time: true, range: u => [u.body.start, u.body.end] }, y: { range: u => [u.line.lo, u.line.hi] } },
      axes: [{ show: false }, { show: false }], bands: [{ series: [3, 1], fill: bands }],
      series: [{}, thin, { stroke: accent, width: 1, dash: [3, 3], points: { show: false } }, thin, { stroke, width: 1.5, points: { show: false }, spanGaps: true }],
      hooks: { drawClear: [u => { since(u); for (const t of u.body.ticks) rule(u, t, colour("--line"), []); }], draw: [u => over(u, { accent, crit, bands })] },
    }, data, (u, init) => { u.line = line; u.body = body; box.replaceChildren(u.root); init(); });
    drawn.set(box.dataset.plot, plot);
    if (box.role !== "slider") walk(box);
  }
  function stroked(u, points, style, dash, width = 1) {
    const c = u.ctx; c.save(); c.strokeStyle = style; c.lineWidth = width * devicePixelRatio; c.setLineDash(dash.map(d => d * devicePixelRatio)); c.beginPath();
    points.forEach(([x, y], i) => i ? c.lineTo(x, y) : c.moveTo(x, y)); c.stroke(); c.restore();
  }
  const rule = (u, t, style, dash, width) => { const x = Math.round(u.valToPos(t, "x", true)); if (x >= u.bbox.left) stroked(u, [[x, u.bbox.top], [x, u.bbox.top + u.bbox.height]], style, dash, width); };
  function since(u) { const b = u.bbox, at = t => Math.max(b.left, u.valToPos(t, "x", true)), x = at(u.body.onset); u.ctx.fillStyle = colour("--crit-bg"); u.ctx.fillRect(x, b.top, at(u.body.now) - x, b.height); }
  function over(u, { accent, crit, bands }) {
    const line = u.line, x = t => Math.min(u.valToPos(t, "x", true), u.bbox.left + u.bbox.width), y = v => u.valToPos(v, "y", true), cross = line.crossing;
    for (const m of u.body.marks) rule(u, m.t, colour(m.kind === "repair" ? "--ok" : "--ink"), m.kind === "repair" ? [1, 4] : [4, 4]);
    if (line.onset && line.onset >= u.body.start) rule(u, line.onset, crit, [], 1.5);
    if (line.limit == null || line.limit < line.lo || line.limit > line.hi) return;
    const top = y(line.limit);
    stroked(u, [[u.bbox.left, top], [u.bbox.left + u.bbox.width, top]], crit, []);
    if (!cross) return;
    if (cross.high < u.body.start) return;
    const from = [x(cross.now), y(cross.from)], c = u.ctx, low = Math.max(u.bbox.left, x(cross.low));
    stroked(u, [[low, top], [Math.max(x(cross.high), low + 3), top]], crit, [], 5);
    if (!cross.ahead) return;
    c.save(); c.fillStyle = bands; c.beginPath(); c.moveTo(...from); c.lineTo(x(cross.low), top); c.lineTo(x(cross.high), top); c.fill(); c.restore();
    if (cross.middle <= u.body.end) stroked(u, [from, [x(cross.middle), top]], accent, [3, 3]);
  }
  // A chart is walked with the arrow keys; what stands there is said.
  function walk(box) {
    box.tabIndex = 0; box.role = "slider"; box.setAttribute("aria-valuemin", "0");
    const at = to => {
      const u = drawn.get(box.dataset.plot); if (!u) return;
      const [t, low, , high, values] = u.data, last = t.length - 1, n = Math.max(0, Math.min(last, to(+(box.dataset.at ?? last), last)));
      const number = v => v == null ? "no value" : Math.abs(v) >= 1000 ? Math.round(v).toLocaleString("en").replaceAll(",", " ") : +v.toPrecision(3);
      const words = `${new Date(t[n] * 1000).toISOString().slice(11, 19)}: ${number(values[n])}` + (low[n] == null ? "" : `, forecast ${number(low[n])} to ${number(high[n])}`);
      box.dataset.at = n; box.setAttribute("aria-valuemax", last); box.setAttribute("aria-valuenow", n); box.setAttribute("aria-valuetext", words);
      return [u, t[n], words];
    };
    at((n, last) => last);
    const show = to => { const [u, t, words] = at(to) ?? []; if (!u) return; u.setCursor({ left: u.valToPos(t, "x"), top: 1 }); id("chart-said").textContent = `${box.dataset.name} ${words}`; };
    box.addEventListener("keydown", e => {
      const step = { ArrowLeft: n => n - 1, ArrowRight: n => n + 1, PageUp: n => n - 10, PageDown: n => n + 10, Home: () => 0, End: (n, last) => last }[e.key];
      if (step && !e.ctrlKey && !e.metaKey && !e.altKey) { e.preventDefault(); show(step); }
    });
    box.addEventListener("pointermove", () => { const u = drawn.get(box.dataset.plot); if (u?.cursor.idx != null) { box.dataset.at = u.cursor.idx; const [, , words] = at(n => n) ?? []; id("chart-said").textContent = `${box.dataset.name} ${words}`; } });
  }
  charts(true);
  let sizing = 0;
  addEventListener("resize", () => { clearTimeout(sizing); sizing = setTimeout(() => charts(true), 150); });
  matchMedia("(prefers-color-scheme:dark)").addEventListener("change", () => charts(true));
})();
