// Elements and numbers. Text from data only ever becomes text nodes, so that it cannot become markup.

/** Return an element. attributes: a function is a listener of that event, false and null are left out. */
export function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(key, value);
    else if (value !== null && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

export function section(title, note, ...children) {
  return el("section", {}, el("h2", {}, title), note ? el("p", { class: "note" }, note) : null, ...children);
}

export const empty = (text) => el("p", { class: "empty" }, text);

/**
 * Return a table. columns: [heading, cell(row), class]; a cell is text or an element. caption: for screen readers.
 */
export function table(caption, columns, rows) {
  const head = el("tr", {}, columns.map(([title, , kind]) => el("th", { scope: "col", class: kind || null }, title)));
  const body = rows.map((row) => el("tr", {}, columns.map(([, cell, kind]) => el("td", { class: kind || null }, cell(row)))));
  const whole = el("table", {}, el("caption", { class: "hidden" }, caption), el("thead", {}, head), el("tbody", {}, body));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, whole);
}

const WHOLE = new Intl.NumberFormat("en");
export const count = (value) => (value === null || value === undefined ? "–" : WHOLE.format(value));
export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

/** A number with four significant digits. */
export function number(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (value !== 0 && (Math.abs(value) < 1e-4 || Math.abs(value) >= 1e9)) return value.toExponential(2);
  if (Math.abs(value) >= 1000) return WHOLE.format(Math.round(value));
  return String(Number(value.toPrecision(4)));
}

/** A part of a whole in per cent, with one decimal below ten. */
export function percent(part, whole) {
  const value = (part / whole) * 100;
  return value && value < 0.1 ? "< 0.1 %" : `${value.toFixed(value < 10 || (value > 99 && value < 100) ? 1 : 0)} %`;
}

const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

/** A duration in its two largest units: 3 d 4 h; below a minute 4.2 s, below a second 120 ms. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds === 0) return "0 s";
  if (seconds < 1) return seconds < 0.001 ? "< 1 ms" : `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${Number(seconds.toPrecision(2))} s`;
  const first = UNITS.findIndex(([, size]) => seconds >= size);
  const [unit, size] = UNITS[first];
  const [lesser, small] = UNITS[first + 1];
  let whole = Math.floor(seconds / size);
  let rest = Math.round((seconds - whole * size) / small);
  if (rest * small >= size) [whole, rest] = [whole + 1, 0];
  return rest && whole < 100 ? `${whole} ${unit} ${rest} ${lesser}` : `${whole} ${unit}`;
}

/** A time in UTC to the minute, or to the second. */
export function utc(text, seconds = false) {
  return text ? new Date(text).toISOString().slice(0, seconds ? 19 : 16).replace("T", " ") : "–";
}

export function time(text, seconds = false) {
  return text ? el("time", { datetime: text, title: `${utc(text, true)} UTC` }, utc(text, seconds)) : "–";
}

export function ago(text) {
  const seconds = (Date.now() - new Date(text)) / 1000;
  return seconds < 2 ? "just now" : `${duration(Math.round(seconds))} ago`;
}

/** The values of a group's key as people read them: AA · JFK · LAX; of a parent dest = LAX. */
export function keyText(key) {
  try {
    const values = JSON.parse(key);
    if (Array.isArray(values)) return values.map((value) => value ?? "null").join(" · ");
    const parts = Object.entries(values).map(([name, value]) => `${name} = ${value ?? "null"}`);
    return parts.length ? `parent ${parts.join(", ")}` : "global parent";
  } catch {
    return key;
  }
}

export const groupLink = (key) => el("a", { class: "key", href: `#/group/${encodeURIComponent(key)}` }, keyText(key));
export const modelId = (id) => (id ? el("span", { class: "mono", title: id }, id.slice(0, 8)) : "–");

export const STATES = {
  fresh: ["fresh", "its own model answers, and no policy calls it stale"],
  stale: ["stale", "waits for a round"],
  refused: ["refused", "its last challenger was refused; it waits for new rows"],
  held: ["held", "pinned by a person, or the gate held its last challenger until a person decides"],
  failed: ["failed", "its last fit failed; an older model answers, if there is one"],
  parent: ["by a parent", "no model of its own: a parent answers"],
  none: ["no model", "no model answers"],
};

/** name: a better one than that of the state, if there is one. */
export const stateLabel = (state, name = null) =>
  el("span", { class: "nowrap", title: STATES[state]?.[1] ?? null }, el("i", { class: `dot of-${state}` }), name ?? STATES[state]?.[0] ?? state);

/** A round that is retraining groups, with its progress. */
export function roundProgress(figures) {
  const left = figures.seconds_left === null ? "" : `, about ${duration(figures.seconds_left)} left at this pace`;
  const name = `Round ${figures.round_id}, retraining ${plural(figures.planned, "group")}`;
  return el("div", {}, el("p", { class: "note" }, `${name}: began ${ago(figures.began_at)}, ${count(figures.attempted)} attempted${left}.`),
    el("progress", { max: figures.planned, value: figures.attempted, "aria-label": name }));
}

export const swatch = (kind, text) => el("li", {}, el("i", { class: `swatch ${kind}` }), text);
