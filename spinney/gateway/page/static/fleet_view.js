// The whole fleet: states, age and error as quantile bands, the retrain queue, rounds, decisions, the worst groups.

import { chart, drawBands, durationTicks } from "./charts.js";
import {
  count, duration, el, empty, groupLink, number, percent, plural, roundProgress, section, stateLabel, STATES, swatch, table, time, utc,
} from "./elements.js";

const BANDS = [["outer", "5 to 95 % of the groups"], ["inner", "25 to 75 %"], ["median", "median"]];

export const fleetView = {
  nav: "fleet",
  title: () => "Fleet",
  url: () => "fleet.json",
  announcement: (data) => stateText(data.summary),
  render(data) {
    const { summary } = data;
    if (!summary.groups) return [el("h1", {}, summary.fleet), empty("No group has an event yet. Run spinney stream, or bring history with spinney load.")];
    return [
      el("h1", {}, plural(summary.groups, "group")),
      el("p", { class: "lead" }, lead(data)),
      states(summary, data.under_way),
      el("div", { class: "columns" }, ageSection(data), errorSection(data)),
      el("div", { class: "columns" }, queue(data), decisions(data)),
      worst(summary),
    ];
  },
};

const stateText = (summary) =>
  `${plural(summary.groups, "group")}: ${Object.entries(summary.states).filter(([, n]) => n).map(([state, n]) => `${count(n)} ${STATES[state][0]}`).join(", ")}`;

function lead(data) {
  const clock = data.clock ? [`The fleet's clock is ${utc(data.clock)} UTC.`] : [];
  return [...clock, ...constantText(data), ...gainText(data.summary.gain)].join(" ");
}

function constantText({ summary, error_label: label }) {
  const constant = summary.against.find((each) => each.other === "constant");
  if (!constant) return [];
  const gap = constant.other_loss - constant.fleet_loss;
  const than = constant.other_loss ? `, ${percent(Math.abs(gap), constant.other_loss)} ${gap >= 0 ? "below" : "above"} that of a constant answer` : "";
  return [`On held-out rows the ${label} is ${number(constant.fleet_loss)}${than}.`];
}

/** What refits gain, measured on stale groups drawn at random. */
function gainText(gain) {
  if (!gain) return [];
  const [verb, sign] = gain.gain < 0 ? ["raises", -1] : ["lowers", 1];
  const interval = (format, unit, ...ends) => {
    const [low, high] = ends.map((end) => sign * end).sort((a, b) => a - b);
    return `95 % interval ${format(low)} to ${format(high)}${unit}`;
  };
  const share = (value) => value.toFixed(1);
  const known = gain.percent === null ? [] : [`${share(sign * gain.percent)} %`];
  if (gain.percent_lower !== null) known.push(interval(share, " %", gain.percent_lower, gain.percent_upper));
  else if (gain.lower !== null) known.push(interval(number, "", gain.lower, gain.upper));
  const size = known.length ? ` (${known.join("; ")})` : "";
  return [`Retraining a stale group ${verb} its error by ${number(sign * gain.gain)}${size}, on ${plural(gain.groups, "group")} drawn at random.`];
}

function states(summary, underWay) {
  const parts = Object.entries(summary.states);
  const bar = el("div", { class: "stack", "aria-hidden": "true" }, parts.filter(([, n]) => n).map(([state, n]) => {
    const part = el("i", { class: `of-${state}` });
    part.style.flexGrow = n;
    return part;
  }));
  const items = parts.map(([state, n]) => {
    const share = n && n < summary.groups ? ` ${percent(n, summary.groups)}` : "";
    return el("li", {}, el("a", { href: `#/groups?state=${state}`, title: STATES[state][1] }, el("b", {}, count(n)), el("span", {}, stateLabel(state), share)));
  });
  return el("section", { "aria-label": "Groups by state" }, bar, el("ul", { class: "states" }, items), underWay.map(roundProgress));
}

function bands(title, note, figures, format, valueTicks, label) {
  const known = figures.quantiles.filter(Boolean);
  if (!known.length) return section(title, note, empty(label.empty));
  const times = figures.times.map((at) => Date.parse(at));
  const last = figures.quantiles.findLastIndex(Boolean);
  const text = (index) => {
    const row = figures.quantiles[index];
    const when = `${utc(figures.times[index])}: `;
    return row ? `${when}median ${format(row[2])}, 5 to 95 %: ${format(row[0])} to ${format(row[4])} (${plural(figures.groups[index], "group")})` : `${when}no group`;
  };
  const rows = figures.times.map((at, index) => ({ at, row: figures.quantiles[index], groups: figures.groups[index] })).filter(({ row }) => row);
  const columns = [["time (UTC)", ({ at }) => utc(at), "nowrap"], ...["5 %", "25 %", "median", "75 %", "95 %"].map((name, of) => [name, ({ row }) => format(row[of]), "number"]), ["groups", ({ groups }) => count(groups), "number"]];
  return section(title, note, chart({
    title, times, format, valueTicks, summary: text(last), readout: text, legend: BANDS.map(([kind, words]) => swatch(kind, words)),
    largest: Math.max(...known.map((row) => row[4])), table: table(title, columns, rows),
    draw: (svg, x, y) => drawBands(svg, x, y, times, figures.quantiles),
  }));
}

const ageSection = (data) => bands(
  "Age of the champions", "Time since the newest training row, by the fleet's clock.", data.age, duration, durationTicks,
  { empty: "No model was promoted yet: run spinney retrain --all, or let the stream retrain the groups." },
);

const errorSection = (data) => bands(
  `Error: ${data.error_label}`, "Mean of each group's answers that have a label, by event time.", data.error, number, null,
  { empty: "No answer has a label yet. The error appears once the stream has scored events and their labels have come." },
);

function queue({ queue: figures, budget_seconds: budget, under_way: underWay }) {
  if (!figures.groups) return section("Waiting for a round", null, empty("No group is stale."));
  const note = `${plural(figures.groups, "group")}, ${duration(figures.predicted_seconds)} of predicted fits; the budget of a round is ${duration(budget)}${underWay.length ? ". Those of the running round are among them" : ""}`;
  const reasons = Object.entries(figures.by_policy).map(([policy, n]) => `${policy} ${count(n)}`).join(", ");
  return section("Waiting for a round", `${note}. By policy: ${reasons}. The longest waiting first.`, table("Groups that wait for a round", [
    ["group", (row) => groupLink(row.group_key)],
    ["why", (row) => row.reason ?? row.policy ?? "–", "wide"],
    ["stale since (UTC)", (row) => time(row.stale_since), "nowrap"],
    ["predicted", (row) => (row.predicted_ms === null ? "–" : duration(row.predicted_ms / 1000)), "number"],
  ], figures.longest_waiting.slice(0, 10)));
}

function decisions(data) {
  const counts = Object.entries(data.decisions).map(([name, n]) => `${count(n)} ${name}`).join(", ");
  if (!data.latest_decisions.length) return section("Decisions", null, empty("Nothing was decided yet."));
  return section("Decisions", `Last 24 hours: ${counts || "none"}. The newest first.`, table("The newest decisions", [
    ["group", (row) => groupLink(row.group_key)],
    ["decision", (row) => row.decision],
    ["error, new / old", (row) => (row.challenger_loss === null ? "–" : `${number(row.challenger_loss)} / ${number(row.champion_loss)}`), "number"],
    ["by", (row) => row.by ?? "–"],
    ["at (UTC)", (row) => time(row.decided_at), "nowrap"],
  ], data.latest_decisions.slice(0, 10)));
}

function worst(summary) {
  const title = "Worse than a constant answer";
  if (!summary.worst.length) return section(title, null, empty("No group: on held-out rows every measured model is better than a constant."));
  return section(title, "Mean error on the same held-out rows, the worst first. These groups may need other features, more rows, or a parent.", table(title, [
    ["group", (row) => groupLink(row.group_key)],
    ["state", (row) => stateLabel(row.state)],
    ["recipe", (row) => row.recipe ?? "–"],
    ["error", (row) => number(row.loss), "number"],
    ["of a constant", (row) => number(row.constant_loss), "number"],
    ["ratio", (row) => (row.constant_loss ? number(row.loss / row.constant_loss) : "–"), "number"],
    ["rows", (row) => count(row.rows), "number"],
  ], summary.worst));
}
