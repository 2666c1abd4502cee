// Search among the groups, by parts of their keys and by state, a page at a time.

import { count, el, empty, groupLink, modelId, number, plural, stateLabel, STATES, table, time } from "./elements.js";

const LIMIT = 50;

const hash = (params, changes) => {
  const next = new URLSearchParams(params);
  for (const [name, value] of Object.entries(changes)) value ? next.set(name, value) : next.delete(name);
  return `#/groups?${next}`;
};

export const groupsView = {
  nav: "groups",
  title: () => "Groups",
  url: ({ params }) => `groups.json?${new URLSearchParams({ ...Object.fromEntries(params), limit: LIMIT })}`,
  announcement: (data) => `${plural(data.found, "group")} found`,
  render(data, { params }) {
    return [el("h1", {}, plural(data.found, "group")), el("section", {}, filters(params), list(data), pages(data, params))];
  },
};

function filters(params) {
  const go = (event) => { location.hash = hash(params, { state: event.target.value, offset: null }); };
  const options = Object.entries(STATES).map(([state, [name]]) => el("option", { value: state, selected: params.get("state") === state }, name));
  const select = el("select", { change: go }, el("option", { value: "" }, "any state"), options);
  const words = params.get("q");
  const note = words ? `with “${words}” in the key` : "Type above to search: every word must be a part of the key.";
  return el("div", { class: "filters" }, el("label", {}, "State", select), el("span", { class: "note" }, note));
}

function list(data) {
  if (!data.groups.length) return empty("No group is like this. Search for fewer words, or in any state.");
  return table("Groups", [
    ["group", (row) => groupLink(row.group_key)],
    ["state", (row) => stateLabel(row.state)],
    ["model", (row) => modelId(row.model_id)],
    ["recipe", (row) => row.recipe ?? "–"],
    ["trained through (UTC)", (row) => time(row.trained_through), "nowrap"],
    ["rows", (row) => count(row.rows), "number"],
    ["held-out error", (row) => number(row.loss), "number"],
    ["last verdict", (row) => row.error ?? row.reason ?? "–", "wide"],
  ], data.groups);
}

function pages(data, params) {
  const offset = Number(params.get("offset") ?? 0);
  if (data.found <= LIMIT) return null;
  const link = (text, to, isThere) => (isThere ? el("a", { href: hash(params, { offset: to }) }, text) : el("span", {}, text));
  return el("nav", { class: "pages", "aria-label": "Pages of groups" },
    link("Previous", Math.max(offset - LIMIT, 0), offset > 0),
    el("span", {}, `${count(offset + 1)} to ${count(offset + data.groups.length)} of ${count(data.found)}`),
    link("Next", offset + LIMIT, offset + LIMIT < data.found));
}
