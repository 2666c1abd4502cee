// One group: its champion, error over time, answers beside labels, history with the numbers of every decision.

import { chart, drawLine, drawMarks, drawMoments, drawPointers, drawReference, drawWhiskers, ticks, within } from "./charts.js";
import {
  count, duration, el, empty, keyText, modelId, number, percent, plural, section, stateLabel, swatch, table, time, utc,
} from "./elements.js";
import { openOverride } from "./override_dialog.js";
import { openRetraining } from "./retrain_dialog.js";

const ACTIONS = [["rollback", "Roll back"], ["promote", "Promote a model"], ["pin", "Pin"], ["unpin", "Unpin"]];

export const groupView = {
  nav: "groups",
  title: ({ rest }) => keyText(rest),
  pollMs: 10000, // the tables are read for it
  url: ({ rest }) => `group.json?${new URLSearchParams({ key: rest })}`,
  render({ history, figures }, { refresh }) {
    return [
      el("h1", {}, keyText(history.group_key)),
      el("p", { class: "lead" }, el("code", {}, history.group_key)),
      status(history),
      actions(history, refresh),
      el("div", { class: "columns" }, errors(history, figures), answers(figures)),
      why(history),
      events(figures),
    ];
  },
};

function status({ standing, happened, is_pinned: isPinned }) {
  const parts = [
    ["state", stateLabel(standing.state, isPinned ? "pinned" : null)], ["model", modelId(standing.model_id)], ["recipe", standing.recipe ?? "–"],
    ["trained through (UTC)", utc(standing.trained_through)], ["training rows", count(standing.rows)],
    ["held-out error", number(standing.loss)],
  ];
  const pairs = parts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)));
  const last = happened.findLast((entry) => entry.what.startsWith("judged"));
  const said = last ? el("p", { class: "note" }, `Last verdict, ${utc(last.at)} UTC: ${last.said}`) : null;
  return el("section", { "aria-label": "Status" }, el("dl", { class: "figures" }, pairs), said);
}

function actions(history, refresh) {
  const { request, is_pinned: isPinned } = history;
  const possible = ACTIONS.filter(([verb]) => (isPinned ? verb === "unpin" : verb !== "unpin"));
  const buttons = possible.map(([verb, text]) => el("button", { type: "button", click: () => openOverride(verb, text, history, refresh) }, text));
  if (!isPinned && !request) buttons.unshift(el("button", { type: "button", click: () => openRetraining(history, refresh) }, "Retrain now"));
  const waiting = request ? el("p", { class: "note" }, `${request.by} asked for retraining at ${utc(request.requested_at)} UTC: ${request.reason}. Not carried out yet.`) : null;
  return el("div", {}, el("div", { class: "actions" }, buttons), waiting);
}

/** When entries of the history were, by the fleet's clock, as far as the times of a chart reach. */
const moments = (happened, times, isWanted) => within(times, happened.filter(isWanted).map((entry) => Date.parse(entry.clock ?? entry.at)));

function errors({ standing, happened }, figures) {
  const title = `Error: ${figures.error_label}`;
  if (!figures.errors.length) return section(title, null, empty("No answer of this group has a label yet."));
  const times = figures.errors.map((point) => Date.parse(point.at));
  const means = figures.errors.map((point) => point.mean);
  const risen = moments(happened, times, (entry) => ["judged fit", "judged deferred"].includes(entry.what) && entry.policy === "error_rise");
  const replaced = moments(happened, times, (entry) => ["promoted", "unproven"].includes(entry.what));
  const text = (index) => `${utc(figures.errors[index].at)}: ${number(means[index])} (${plural(figures.errors[index].labelled, "label")})${standing.loss === null ? "" : `, on held-out rows ${number(standing.loss)}`}`;
  return section(title, "Mean by event time, beside the error of the current champion on its held-out rows.", chart({
    title, times, format: number, summary: text(means.length - 1), readout: text, largest: Math.max(...means, standing.loss ?? 0),
    legend: [
      swatch("median", "mean error"), standing.loss === null ? null : swatch("reference", "held-out error of the champion"),
      risen.length ? swatch("risen", "error_rise reached its limit") : null, replaced.length ? swatch("replaced", "new champion") : null,
    ],
    table: table(title, [["from (UTC)", (row) => utc(row.at)], ["labels", (row) => count(row.labelled), "number"], ["mean error", (row) => number(row.mean), "number"]], figures.errors),
    draw: (svg, x, y) => {
      drawMoments(svg, x, replaced, "replaced");
      drawPointers(svg, x, risen, "risen");
      drawLine(svg, x, y, times, means);
      if (standing.loss !== null) drawReference(svg, x, y, times, standing.loss);
    },
  }));
}

function answers(figures) {
  const title = "Predicted and actual";
  const rows = figures.answers.filter((row) => typeof row.prediction === "number").reverse();
  if (!rows.length) return section(title, null, empty(figures.answers.length ? "The answers are classes; they are listed below." : "No event of this group was scored yet."));
  const pick = (name) => rows.map((row) => (typeof row[name] === "number" ? row[name] : null));
  const [predicted, actual, lower, upper] = ["prediction", "label", "lower", "upper"].map(pick);
  const times = rows.map((row) => Date.parse(row.event_time));
  const all = [...predicted, ...actual, ...lower, ...upper].filter((value) => value !== null);
  const [least, most] = valueRange(all);
  const cover = figures.coverage ? ` ${percent(figures.coverage.covered, figures.coverage.rows)} of ${plural(figures.coverage.rows, "label")} within the interval.` : "";
  const text = (index) => `${utc(rows[index].event_time)}: predicted ${number(predicted[index])}, actual ${number(actual[index])}`;
  return section(title, `The newest ${plural(rows.length, "answer")}.${cover}`, chart({
    title, times, format: number, summary: text(rows.length - 1), readout: text, largest: most, smallest: least,
    valueTicks: (top) => signedTicks(least, top),
    table: table(title, [
      ["event time (UTC)", (row) => utc(row.event_time), "nowrap"],
      ["predicted", (row) => number(row.prediction), "number"],
      ["actual", (row) => number(row.label), "number"],
      ["interval", interval, "number"],
    ], rows),
    legend: [swatch("answer", "predicted"), swatch("label", "actual"), lower.some((value) => value !== null) ? swatch("whisker", "interval") : null],
    draw: (svg, x, y) => {
      drawWhiskers(svg, x, y, times, lower, upper);
      drawMarks(svg, x, y, times, actual, "label-mark", 3.5);
      drawMarks(svg, x, y, times, predicted, "mark", 2.5);
    },
  }));
}

const interval = (row) => (row.lower === null ? "–" : `${number(row.lower)} to ${number(row.upper)}`);

/** The range of an axis: from 0 unless all values are far from it, where their differences would be lost. */
function valueRange(values) {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const margin = (most - least) * 0.1 || 1;
  if (least > 2 * (most - least)) return [least - margin, most];
  if (most < 2 * (least - most)) return [least, most + margin];
  return [Math.min(least, 0), Math.max(most, 0)];
}

function signedTicks(least, top) {
  const step = ticks(top - least)[1] ?? 1;
  const first = Math.ceil(least / step);
  return Array.from({ length: Math.floor(top / step) - first + 1 }, (_, place) => (first + place) * step);
}

function why({ happened }) {
  if (!happened.length) return section("History", null, empty("Nothing was decided about this group yet. It has events; a policy judges it in the next round."));
  const items = [...happened].reverse().slice(0, 100).map((entry) => el("li", {}, time(entry.at), el("strong", {}, entry.what.replaceAll("_", " ")), el("p", {}, entry.said, origin(entry))));
  const more = happened.length > 100 ? ` The newest 100 of ${count(happened.length)}; spinney why shows all.` : "";
  return section("History: why it was retrained, and what was decided", `The newest first, times in UTC.${more}`, el("ol", { class: "timeline" }, items));
}

/** The round and the policy, which the sentence of an entry does not have. */
function origin(entry) {
  const parts = [
    entry.round_id ? `round ${entry.round_id}` : null,
    entry.policy ? `policy ${entry.policy}` : null,
  ].filter(Boolean);
  return parts.length ? el("span", { class: "note" }, ` (${parts.join(", ")})`) : null;
}

function events(figures) {
  const title = "Newest answers";
  if (!figures.answers.length) return section(title, null, empty("None. Answers appear once the stream has scored an event of this group."));
  return section(title, null, table(title, [
    ["event", (row) => row.event_id, "key"],
    ["event time (UTC)", (row) => time(row.event_time, true), "nowrap"],
    ["predicted", (row) => number(row.prediction), "number"],
    ["actual", (row) => number(row.label), "number"],
    ["interval", interval, "number"],
    ["answered by", (row) => row.answered_by],
    ["model", (row) => modelId(row.model_id)],
    ["answered after", (row) => duration(Math.max((Date.parse(row.scored_at) - Date.parse(row.event_time)) / 1000, 0)), "number"],
  ], figures.answers.slice(0, 20)));
}
