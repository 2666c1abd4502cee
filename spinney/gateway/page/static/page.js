// The page: routes in the hash, one view at a time, polled by its ETag and redrawn when its figures change.

import { announce, askForKey, request } from "./client.js";
import { ago, el, empty } from "./elements.js";
import { fleetView } from "./fleet_view.js";
import { groupView } from "./group_view.js";
import { groupsView } from "./groups_view.js";
import { pipelineView } from "./pipeline_view.js";

const POLL_MS = 3000;
const VIEWS = { "": fleetView, groups: groupsView, group: groupView, pipeline: pipelineView };
const main = document.getElementById("main");
const status = document.getElementById("status");
const query = document.getElementById("query");

const NOTHING = { view: null, etag: null, at: null, problem: null, needsKey: false };
let shown = { ...NOTHING };
let timer = 0;
let turn = 0;

/** A part of the hash as text; unchanged where it is not encoded as it should be. */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The view that the hash names, with the rest of its path and its parameters. */
function route() {
  const [path, search] = location.hash.replace(/^#\//, "").split("?");
  const [name, ...rest] = path.split("/");
  const view = VIEWS[name] ?? fleetView;
  return { view, rest: decoded(rest.join("/")), params: new URLSearchParams(search ?? "") };
}

/** Show the view that the hash names. hasNavigated: the focus goes to it, where a reader has followed a link. */
async function open(hasNavigated = true) {
  const where = route();
  shown = { ...NOTHING, view: where.view };
  document.querySelectorAll("nav a").forEach((link) => {
    if (link.dataset.route === where.view.nav) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  });
  if (document.activeElement !== query) query.value = where.view === groupsView ? where.params.get("q") ?? "" : "";
  document.title = `${where.view.title(where)} – Spinney`;
  await poll(true);
  if (!hasNavigated) return;
  if (document.activeElement === document.body || document.activeElement?.matches("nav a, main a")) main.focus({ preventScroll: true });
  scrollTo(0, 0);
}

async function poll(isNew = false) {
  clearTimeout(timer);
  const mine = ++turn;
  const where = route();
  try {
    const answer = await request(where.view.url(where), { etag: shown.etag });
    if (mine !== turn) return;
    Object.assign(shown, { problem: null, needsKey: false });
    if (answer.status === 200) draw(where, answer, isNew);
  } catch (error) {
    if (mine !== turn) return;
    if (error.needsKey) { // until there is one, nothing is asked for: the form would be drawn again under a reader's hands
      shown = { ...NOTHING, view: where.view, needsKey: true };
      askForKey(error, () => poll(true));
      tell();
      return;
    }
    if (error.status === 404) main.replaceChildren(empty(error.message), el("p", {}, el("a", { href: "#/groups" }, "Search the groups")));
    else shown.problem = error.status === 503 ? "Reading the tables …" : `No answer: ${error.message}. Trying again.`;
    announce(shown.problem);
  }
  tell();
  timer = setTimeout(() => (document.hidden ? null : poll()), shown.problem ? 1000 : where.view.pollMs ?? POLL_MS);
}

function draw(where, answer, isNew) {
  const place = isNew ? null : remember();
  const context = { ...where, refresh: () => poll() };
  main.replaceChildren(...where.view.render(answer.data, context).filter(Boolean));
  if (place) restore(place);
  Object.assign(shown, { etag: answer.etag, at: answer.data.at ?? new Date().toISOString() });
  announce(where.view.announcement?.(answer.data) ?? "", isNew);
}

/** What a reader has opened, scrolled to or focused, by its place in the document. */
function remember() {
  const details = [...main.querySelectorAll("details")].map((each) => each.open);
  const scrolled = [...main.querySelectorAll(".scroll")].map((each) => each.scrollLeft);
  const focusable = [...main.querySelectorAll("a, button, summary, input, select, [tabindex]")];
  return { details, scrolled, focused: focusable.indexOf(document.activeElement), at: scrollY };
}

function restore({ details, scrolled, focused, at }) {
  main.querySelectorAll("details").forEach((each, index) => { each.open = details[index] ?? false; });
  main.querySelectorAll(".scroll").forEach((each, index) => { each.scrollLeft = scrolled[index] ?? 0; });
  if (focused >= 0) main.querySelectorAll("a, button, summary, input, select, [tabindex]")[focused]?.focus({ preventScroll: true });
  scrollTo(0, at);
}

function tell() {
  status.textContent = shown.problem ?? (shown.at ? `Up to date; last change ${ago(shown.at)}` : "");
  status.classList.toggle("problem", Boolean(shown.problem) && Boolean(shown.at));
}

function search() {
  const { view, params } = route();
  const kept = view === groupsView && params.get("state") ? { state: params.get("state") } : {};
  const hash = `#/groups?${new URLSearchParams({ q: query.value, ...kept })}`;
  if (view === groupsView) history.replaceState(null, "", hash);
  else history.pushState(null, "", hash);
  open();
}

let typing = 0;
query.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(search, 120);
});
document.getElementById("search").addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typing);
  search();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.matches("input, textarea, select")) return;
  event.preventDefault();
  query.focus();
  query.select();
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // "#main" would be another view
  main.focus();
});
document.addEventListener("visibilitychange", () => (document.hidden || shown.needsKey ? null : poll()));
addEventListener("hashchange", () => open());
setInterval(tell, 1000);
open(false);
