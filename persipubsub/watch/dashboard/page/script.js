"use strict";
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const MOST = 300; // looks that are remembered, as the server does
const queues = new Map(); // name -> what is known of a queue
let selected = null;
let changeToken = null;
let interval = 1;

// -- making and changing elements: text is always text, never markup --------------------------------

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function draw(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Keep the elements of a list that stay, so that focus and scroll positions do, too.
function sync(parent, items, key, create, update) {
  const before = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let child = before.get(name);
    if (child) before.delete(name);
    else {
      child = create(item);
      child.dataset.key = name;
    }
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
    update(child, item);
  }
  for (const child of before.values()) child.remove();
}

// -- numbers for humans -----------------------------------------------------------------------------

function count(value) {
  if (value === null || value === undefined) return "–";
  if (value < 10000) return String(Math.round(value));
  let rest = value;
  for (const unit of "kMGT") {
    rest /= 1000;
    if (rest < 1000) return (rest < 99.95 ? rest.toFixed(1) : rest.toFixed(0)) + unit;
  }
  return rest.toExponential(0);
}
function rate(value) {
  if (Number.isInteger(value) || !value || value >= 100) return count(value);
  return value < 1 ? value.toFixed(2) : value.toFixed(1);
}
function size(value) {
  if (value === null) return "–";
  if (value < 1024) return `${value} B`;
  let rest = value;
  for (const unit of ["KiB", "MiB", "GiB", "TiB"]) {
    rest /= 1024;
    if (rest < 1024 || unit === "TiB") return `${rest.toFixed(1)} ${unit}`;
  }
}
function duration(value) {
  if (value === null || value === undefined) return "–";
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (value >= length) return `${(value / length).toFixed(1)} ${unit}`;
  }
  return `${Number.isInteger(value) ? value : value.toFixed(value < 10 ? 2 : 1)} s`;
}
const sum = (values) => values.reduce((one, other) => one + other, 0);
const largest = (values) => values.reduce((one, other) => Math.max(one, other ?? 0), 0);

// -- what the server tells --------------------------------------------------------------------------

function takeState(views) {
  queues.clear();
  for (const view of views) queues.set(view.name, { view, times: view.times, rates: view.rate_history, subscribers: histories(view) });
  show();
}

function histories(view) {
  const found = new Map();
  for (const one of view.subscribers) {
    found.set(one.identifier, { lag: one.lag_history, rate: one.rate_history, late: one.late_history });
  }
  return found;
}

function takeSample(views) {
  for (const view of views) {
    const queue = queues.get(view.name);
    if (!queue) continue;
    if (view.identity !== queue.view.identity) {
      queue.times = [];
      queue.rates = [];
      queue.subscribers = new Map();
    }
    queue.view = view;
    if (view.state !== "ok" || view.at === queue.times.at(-1)) continue;
    queue.times.push(view.at);
    queue.rates.push(view.rate_in);
    const now = new Set();
    for (const one of view.subscribers) {
      now.add(one.identifier);
      let history = queue.subscribers.get(one.identifier);
      if (!history) {
        const none = queue.times.slice(1).map(() => null);
        history = { lag: [...none], rate: [...none], late: [...none] };
        queue.subscribers.set(one.identifier, history);
      }
      history.lag.push(one.lag);
      history.rate.push(one.rate_out);
      history.late.push(one.late);
    }
    for (const [name, history] of queue.subscribers) {
      if (!now.has(name)) queue.subscribers.delete(name);
      else if (queue.times.length > MOST) for (const values of Object.values(history)) values.shift();
    }
    if (queue.times.length > MOST) {
      queue.times.shift();
      queue.rates.shift();
    }
  }
  show();
}

function rateOut(queue) {
  return queue.times.map((_, index) => {
    const values = [...queue.subscribers.values()].map((history) => history.rate[index]).filter((value) => value !== null);
    return values.length ? sum(values) : null;
  });
}
function lagHistory(queue) {
  const all = [...queue.subscribers.values()];
  return queue.times.map((_, index) => largest(all.map((history) => history.lag[index])));
}

// -- the table of queues ----------------------------------------------------------------------------

function cells(row, values) {
  values.forEach((value, index) => {
    const cell = row.children[index + 1];
    if (value instanceof Element) return;
    const [text, name] = Array.isArray(value) ? value : [value, ""];
    write(cell, text);
    const wanted = cell.dataset.base + (name ? " " + name : "");
    if (cell.className !== wanted) cell.className = wanted;
  });
}
function newRow(head, kinds) {
  const row = make("tr", {}, make("th", { scope: "row" }, head));
  for (const kind of kinds) {
    const cell = make("td", { class: kind === "spark" ? "" : kind });
    cell.dataset.base = kind === "spark" ? "" : kind;
    if (kind === "spark") cell.append(sparkline());
    row.append(cell);
  }
  return row;
}
const alarming = (value) => [count(value), value ? "alarm" : ""];
const KINDS = ["", "n", "n", "n", "spark", "n", "n", "n", "n", "n", "n", "n"];

function sparkline() {
  const svg = draw("svg", { class: "spark", viewBox: "0 0 60 20", preserveAspectRatio: "none", "aria-hidden": "true" });
  svg.append(draw("polyline", {}));
  return svg;
}
function drawSpark(cell, values) {
  const shown = values.slice(-60);
  const top = largest(shown) || 1;
  const points = shown.map((value, index) => `${60 - shown.length + index},${(18.5 - (17 * (value ?? 0)) / top).toFixed(1)}`);
  cell.querySelector("polyline").setAttribute("points", points.join(" "));
}

function show() {
  const all = [...queues.values()];
  const troubled = all.filter((queue) => queue.view.state !== "ok").length;
  write($("totals"), `${all.length} queues, ${sum(all.map((queue) => queue.view.subscribers.length))} subscribers` + (troubled ? `, ${troubled} not readable` : ""));
  const nothing = draw("svg", {});
  sync(
    $("queues"), all, (queue) => queue.view.name,
    (queue) => newRow(make("button", { type: "button", onclick: () => select(queue.view.name, true) }, queue.view.name), KINDS),
    (row, queue) => {
      const view = queue.view;
      const total = (field) => sum(view.subscribers.map((one) => one[field]));
      cells(row, [
        [view.state, view.state], rate(view.rate_in), rate(view.rate_out), count(largest(view.subscribers.map((one) => one.lag))), nothing,
        duration(view.oldest_age), count(total("leased")), count(total("delayed")), alarming(total("dead")), alarming(view.pruned),
        size(view.file_bytes), size(view.free_bytes),
      ]);
      drawSpark(row.children[5], lagHistory(queue));
      const current = view.name === selected;
      row.classList.toggle("selected", current);
      const button = row.querySelector("button");
      if (current) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    },
  );
  if (selected === null || !queues.has(selected)) {
    const asked = decodeURIComponent(location.hash.slice(1));
    const first = queues.has(asked) ? asked : queues.keys().next().value;
    if (first !== undefined) select(first, false);
    return;
  }
  showQueue();
}

// -- one queue --------------------------------------------------------------------------------------

function select(name, byUser) {
  selected = name;
  if (byUser) history.replaceState(null, "", "#" + encodeURIComponent(name));
  seen = null;
  for (const list of ["messages", "dead", "dead-all"]) $(list).replaceChildren();
  show();
  if (byUser) {
    $("queue").focus({ preventScroll: true });
    $("queue").scrollIntoView({ block: "nearest" });
  }
}

function showQueue() {
  const queue = queues.get(selected);
  const view = queue.view;
  $("queue").hidden = false;
  write($("queue-title"), view.name);
  const facts = [view.location];
  if (view.identity) {
    facts.push(`${view.messages} messages, ${size(view.payload_bytes)} of payload`, `${size(view.file_bytes)} on disk` + (view.free_bytes === null ? "" : `, ${size(view.free_bytes)} free`), `${view.published} published`);
    for (const what of ["pruned", "unrouted", "deduplicated"]) if (view[what]) facts.push(`${view[what]} ${what}`);
  }
  write($("facts"), facts.join(" · "));
  $("problem").hidden = view.state === "ok";
  write($("problem"), view.state === "ok" ? "" : `${view.state}: ${view.problem}`);
  const each = (field) => [...queue.subscribers].map(([name, history]) => ({ name, values: history[field] }));
  plots.rate.show(queue.times, [{ name: "in", values: queue.rates }, { name: "out, all subscribers", values: rateOut(queue) }], rate);
  plots.lag.show(queue.times, each("lag"), count);
  plots.late.show(queue.times, each("late"), duration);
  const nothing = draw("svg", {});
  sync(
    $("subscribers"), view.subscribers, (one) => one.identifier,
    (one) => newRow(one.identifier, ["n", "n", "spark", "n", "n", "n", "n", "n", "n", "n", ""]),
    (row, one) => {
      const head = row.children[0];
      write(head, one.identifier + (one.paused ? " (paused)" : ""));
      head.className = one.paused ? "paused" : "";
      cells(row, [
        rate(one.rate_out), count(one.lag), nothing, duration(one.late), count(one.waiting), count(one.leased), count(one.delayed),
        alarming(one.dead), alarming(one.lost), count(one.redelivered),
        (one.owners ?? []).map((owner) => `${owner.command.slice(0, 60)} (${owner.pid}${owner.elsewhere ? " elsewhere" : ""}) for ${duration(Date.now() / 1000 - owner.since_ns / 1e9)}: ${owner.leased}`).join("; ") || "–",
      ]);
      drawSpark(row.children[3], queue.subscribers.get(one.identifier)?.lag ?? []);
    },
  );
  refreshLetters();
}

// -- plots ------------------------------------------------------------------------------------------

class Plot {
  constructor(figure) {
    this.figure = figure;
    this.at = null; // the look that the reader points at
    // A slider through time: what it stands on is read out when the reader moves it, not with every look.
    const label = `${figure.querySelector("figcaption").textContent}, over time`;
    this.svg = draw("svg", { role: "slider", tabindex: "0", "aria-label": label, "aria-valuenow": "0", "aria-valuetext": "now" });
    this.legend = make("ul", { "aria-label": "Values" });
    figure.append(this.svg, this.legend);
    new ResizeObserver(() => this.redraw()).observe(figure);
    this.svg.addEventListener("pointermove", (event) => {
      const box = this.svg.getBoundingClientRect();
      this.point(this.nearest(event.clientX - box.left), false);
    });
    this.svg.addEventListener("pointerleave", () => this.point(null, false));
    this.svg.addEventListener("blur", () => this.point(null, false));
    this.svg.addEventListener("keydown", (event) => {
      const last = this.times.length - 1;
      const now = this.at === null ? last : this.times.indexOf(this.at);
      const wanted = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: last }[event.key];
      if (event.key === "Escape") this.point(null, true);
      else if (wanted !== undefined) this.point(Math.min(Math.max(wanted, 0), last), true);
      else return;
      event.preventDefault();
    });
    this.times = [];
    this.series = [];
  }
  show(times, series, format) {
    this.times = times;
    this.series = series;
    this.format = format;
    this.redraw();
  }
  nearest(x) {
    let best = null;
    this.times.forEach((time, index) => {
      if (best === null || Math.abs(this.x(time) - x) < Math.abs(this.x(this.times[best]) - x)) best = index;
    });
    return best;
  }
  point(index, aloud) {
    this.at = index === null || index < 0 ? null : this.times[index];
    this.redraw();
    if (!aloud) return;
    this.svg.setAttribute("aria-valuemax", String(this.times.length - 1));
    this.svg.setAttribute("aria-valuenow", String(index ?? this.times.length - 1));
    this.svg.setAttribute("aria-valuetext", this.at === null ? "now" : this.describe(index));
  }
  describe(index) {
    const values = this.series.map((one) => `${one.name} ${this.format(one.values[index])}`).join(", ");
    const ago = this.times.at(-1) - this.times[index];
    return `${ago < 0.05 ? "now" : duration(ago) + " ago"}: ${values || "no subscribers"}`;
  }
  x(time) {
    return this.left + ((time - this.from) / (this.until - this.from)) * (this.width - this.left - 6);
  }
  redraw() {
    this.width = this.svg.clientWidth;
    if (!this.width || !this.format) return;
    const [height, bottom, above] = [170, 22, 10];
    const now = this.times.at(-1) ?? 0;
    this.left = 48;
    this.until = now;
    this.from = Math.min(this.times[0] ?? now, now - 30 * interval);
    const top = ceiling(Math.max(0, ...this.series.map((one) => largest(one.values))));
    const y = (value) => height - bottom - (value / top) * (height - bottom - above);
    const parts = [];
    for (const share of [0, 0.5, 1]) {
      const value = share * top;
      parts.push(draw("line", { class: "grid", x1: this.left, x2: this.width - 6, y1: y(value), y2: y(value) }));
      parts.push(draw("text", { x: this.left - 6, y: y(value) + 4, "text-anchor": "end" }, this.format(value)));
    }
    parts.push(draw("text", { x: this.left, y: height - 6 }, `−${duration(now - this.from)}`));
    parts.push(draw("text", { x: this.width - 6, y: height - 6, "text-anchor": "end" }, "now"));
    this.series.forEach((one, number) => {
      for (const points of runs(this.times, one.values)) {
        const list = points.map(([time, value]) => `${this.x(time).toFixed(1)},${y(value).toFixed(1)}`);
        if (list.length === 1) list.push(list[0]);
        parts.push(draw("polyline", { class: `line s${number % 8}`, points: list.join(" ") }));
      }
    });
    let index = this.times.length - 1;
    if (this.at !== null && this.times.includes(this.at)) {
      index = this.times.indexOf(this.at);
      const x = this.x(this.at);
      parts.push(draw("line", { class: "cursor", x1: x, x2: x, y1: above, y2: height - bottom }));
    } else this.at = null;
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${height}`);
    this.svg.replaceChildren(...parts);
    const rows = this.series.map((one, number) => ({ ...one, number }));
    const ago = this.at === null ? null : { name: `${duration(now - this.at)} ago`, number: null };
    sync(
      this.legend, ago ? [...rows, ago] : rows, (one) => (one.number === null ? "\n" : one.name),
      () => make("li", {}, make("span", { class: "swatch" }), make("span")),
      (item, one) => {
        item.firstChild.className = one.number === null ? "" : `swatch s${one.number % 8}`;
        write(item.lastChild, one.number === null ? one.name : `${one.name} ${this.format(one.values[index])}`);
      },
    );
  }
}

function ceiling(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 4, 5, 10].find((step) => step * power >= value * 0.9999);
}

// A line is broken where nothing is known.
function runs(times, values) {
  const found = [];
  let run = [];
  values.forEach((value, index) => {
    if (value === null || value === undefined) {
      if (run.length) found.push(run);
      run = [];
    } else run.push([times[index], value]);
  });
  if (run.length) found.push(run);
  return found;
}

const plots = { rate: new Plot($("plot-rate")), lag: new Plot($("plot-lag")), late: new Plot($("plot-late")) };

// -- messages and dead letters ----------------------------------------------------------------------

let seen = null; // of which state of the queue the lists tell
let reading = false;

async function ask(what) {
  const answer = await fetch(`/api/queues/${encodeURIComponent(selected)}/${what}?view=${$("view").value}`);
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error);
  return body;
}

async function refreshLetters() {
  const view = queues.get(selected).view;
  const state = JSON.stringify([selected, $("view").value, view.state, view.identity, view.first_id, view.last_id, view.subscribers.map((one) => [one.identifier, one.dead])]);
  if (state === seen || reading) return;
  reading = true;
  const name = selected;
  try {
    const [messages, dead] = view.state === "gone" ? [[], []] : await Promise.all([ask("messages"), ask("dead-letters")]);
    if (name !== selected) return;
    seen = state;
    showLetters("messages", messages, (one) => one.id);
    showLetters("dead", dead, (one) => `${one.subscriber}\n${one.id}`);
    const subscribers = changeToken ? [...new Set(dead.map((one) => one.subscriber))] : [];
    sync($("dead-all"), subscribers, (one) => one, (one) => make("span", {}, button("requeue", one, null), button("discard", one, null)), () => {});
  } catch (error) {
    announce(error.message);
  } finally {
    reading = false;
  }
}

function showLetters(list, letters, key) {
  $(list + "-none").hidden = letters.length > 0;
  sync($(list), letters, key, newLetter, (item, letter) => write(item.querySelector("pre"), letter.preview));
}

function newLetter(letter) {
  const facts = [`sent ${letter.sent.replace("T", " ")}`];
  if (letter.topic) facts.push(`topic ${letter.topic}`);
  if (letter.died) facts.push(`died ${letter.died.replace("T", " ")}`, `deliveries ${letter.delivery_count}`);
  for (const [name, value] of Object.entries(letter.headers)) facts.push(`${name}: ${value}`);
  const inside = make("div", { class: "inside" }, make("p", { class: "quiet" }, facts.join(" · ")));
  if (letter.reason !== null) inside.append(make("p", { class: "alarm" }, letter.reason));
  inside.append(make("pre", { tabindex: "0", "aria-label": `Payload of message ${letter.id}` }));
  if (letter.subscriber !== null && changeToken) inside.append(button("requeue", letter.subscriber, [letter.id]), button("discard", letter.subscriber, [letter.id]));
  const head = letter.subscriber === null ? size(letter.size) : letter.subscriber;
  return make("li", {}, make("details", {}, make("summary", {}, letter.id, make("span", { class: "quiet" }, head), letter.reason ?? letter.summary), inside));
}

function button(action, subscriber, ids) {
  const label = action === "requeue" ? "Requeue" : "Discard";
  const which = ids === null ? `all of ${subscriber}` : "";
  return make(
    "button",
    { type: "button", class: action === "discard" ? "danger" : "", "aria-label": ids === null ? null : `${label} dead letter ${ids[0]} of ${subscriber}`, onclick: () => settle(action, subscriber, ids) },
    `${label} ${which}`.trim(),
  );
}

async function settle(action, subscriber, ids) {
  const which = ids === null ? "all dead letters" : `the dead letter ${ids[0]}`;
  const name = selected;
  const verb = action === "requeue" ? "Requeue" : "Discard";
  if (action === "discard" || ids === null) {
    const warning = action === "discard" ? "\nWhat is discarded is gone for good." : "";
    if (!(await confirmed(`${verb} ${which} of “${subscriber}” in the queue “${name}”?${warning}`, verb))) return;
  }
  try {
    const answer = await fetch(`/api/queues/${encodeURIComponent(name)}/dead-letters`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-persipubsub-token": changeToken },
      body: JSON.stringify({ action, subscriber, ids }),
    });
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.error);
    announce(`${verb}ed ${body.number} of ${subscriber}`.replace("eed", "ed"));
    seen = null;
    refreshLetters();
  } catch (error) {
    announce(error.message);
  }
}

function confirmed(question, yes) {
  write($("question"), question);
  write($("yes"), yes);
  const dialog = $("confirm");
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

let fading = null;
function announce(text) {
  write($("announcement"), text);
  clearTimeout(fading);
  fading = setTimeout(() => write($("announcement"), ""), 8000);
}

$("view").addEventListener("change", () => refreshLetters());
addEventListener("hashchange", () => {
  const asked = decodeURIComponent(location.hash.slice(1));
  if (queues.has(asked) && asked !== selected) select(asked, false);
});

// -- the connection ---------------------------------------------------------------------------------

let source = null;
let watchdog = null;

function state(name, text) {
  $("connection").className = name;
  write($("connection"), text);
}

function alive() {
  state("live", "live");
  again(Math.max(40, 4 * interval));
}

// Connect again on our own account: what a browser does by itself differs, and may wait for ever.
function again(seconds) {
  clearTimeout(watchdog);
  watchdog = setTimeout(() => connect(), 1000 * seconds);
}

function lost() {
  source?.close();
  state("lost", "connection lost, trying again");
  again(2);
}

async function connect() {
  source?.close();
  again(15); // unless something is heard before
  try {
    const answer = await fetch("/api/session", { signal: AbortSignal.timeout(5000) });
    if (answer.status === 401) return location.reload();
    const session = await answer.json();
    interval = session.interval;
    changeToken = session.change_token;
  } catch {
    return lost();
  }
  source?.close();
  source = new EventSource("/events");
  source.addEventListener("state", (event) => (alive(), takeState(JSON.parse(event.data))));
  source.addEventListener("sample", (event) => (alive(), takeSample(JSON.parse(event.data))));
  source.addEventListener("heartbeat", alive);
  source.addEventListener("error", lost);
}

connect();
