// The pipeline: batches of each query, rows of the tables, rounds, dead letters with a look inside.

import { chart, drawBars, ticks } from "./charts.js";
import { request } from "./client.js";
import { ago, count, duration, el, empty, groupLink, number, plural, roundProgress, section, table, time, utc } from "./elements.js";

export const pipelineView = {
  nav: "pipeline",
  title: () => "Pipeline",
  url: () => "pipeline.json",
  render: (data) => [
    el("h1", {}, "Pipeline"), el("div", { class: "columns" }, data.queries.map(query)), rows(data.counts), requested(data.requests), rounds(data), deadLetters(data.dead_letters),
  ],
};

function query({ query: name, batches, lag }) {
  if (!batches.length) return section(name, null, empty("It has never run. Start it with spinney stream."));
  const seconds = batches.map((batch) => (batch.ended_at ? Math.max((Date.parse(batch.ended_at) - Date.parse(batch.started_at)) / 1000, 0) : null));
  const ended = batches.findLast((batch) => batch.ended_at);
  const running = batches.at(-1).ended_at ? null : batches.at(-1);
  const state = running ? `Batch ${count(running.batch_id)} began ${ago(running.started_at)}.` : `Batch ${count(ended.batch_id)} ended ${ago(ended.ended_at)}.`;
  const known = seconds.filter((value) => value !== null).sort((a, b) => a - b);
  const summary = known.length ? `Seconds a batch, the last ${count(known.length)}: median ${duration(known[Math.floor(known.length / 2)])}, longest ${duration(known.at(-1))}` : "No batch has ended yet";
  const times = batches.map((batch) => Date.parse(batch.started_at));
  const took = (index) => (seconds[index] === null ? "has not ended" : duration(seconds[index]));
  const title = `Batches of ${name}`;
  return section(name, `${state}${lagText(lag)}`, chart({
    title, times, summary, largest: known.at(-1) ?? 1, height: 130, format: duration, valueTicks: (top) => ticks(top, 3),
    readout: (index) => `Batch ${count(batches[index].batch_id)}, ${utc(batches[index].started_at, true)} UTC: ${took(index)}`,
    table: table(title, [
      ["began (UTC)", (batch) => time(batch.started_at, true), "nowrap"],
      ["batch", (batch) => count(batch.batch_id), "number"],
      ["took", (batch) => took(batches.indexOf(batch)), "number"],
    ], batches),
    draw: (svg, x, y) => drawBars(svg, x, y, times, seconds),
  }));
}

/** What a query has not processed of each topic, and when its stream saw that. */
function lagText(lag) {
  if (!lag.length) return "";
  const parts = lag.map(({ records, topic }) => `${plural(records, "record")} of ${topic}`);
  const seen = lag[0].seen_at ? `, as seen ${ago(lag[0].seen_at)}` : "";
  return ` Behind Kafka: ${parts.join(", ")}${seen}.`;
}

function rows(counts) {
  const difference = counts.events - counts.loaded - counts.predictions;
  const verdict = difference === 0 ? "Every event of the stream has its answer." : difference > 0
    ? `${plural(difference, "event")} of the stream ${difference === 1 ? "has" : "have"} no answer yet: score is behind ingest.` : `${plural(-difference, "answer")} ahead of the events: ingest is behind score.`;
  const parts = [["events of the stream", counts.events - counts.loaded], ["answers", counts.predictions], ["events loaded", counts.loaded], ["late labels", counts.outcomes], ["dead letters", counts.dead_letters]];
  const pairs = parts.map(([name, n]) => el("div", {}, el("dt", {}, name), el("dd", {}, count(n))));
  return section("Rows of the tables", `${verdict} A difference that stays while nothing arrives is a fault.`, el("dl", { class: "figures" }, pairs));
}

/** Groups that people asked for and that no round has taken yet; nothing where there are none. */
function requested(requests) {
  if (!requests.length) return null;
  const title = "Asked for by people";
  return section(title, "The stream takes these groups in its next round, the oldest request first. They wait if no stream runs.", table(title, [
    ["group", (row) => groupLink(row.group_key)],
    ["by", (row) => row.by],
    ["why", (row) => row.reason, "wide"],
    ["asked (UTC)", (row) => time(row.requested_at), "nowrap"],
  ], requests));
}

function rounds({ rounds: listed, under_way: underWay, experiment_url: url }) {
  if (!listed.length && !underWay.length) return section("Rounds", null, empty("No round yet: run spinney retrain --all, or let the stream retrain the groups."));
  const link = url ? el("p", { class: "note" }, el("a", { href: url }, "The experiment in MLflow, with a run for each batch and each day of the stream")) : null;
  const gain = (row) => (row.mean_champion_loss ? `${number(row.mean_champion_loss)} → ${number(row.mean_challenger_loss)}` : "–");
  const total = (row) => Object.values(row.seconds).reduce((sum, each) => sum + each, 0);
  const counted = [
    ["groups", (row) => row.groups_in], ["fitted", (row) => row.fitted], ["failed", (row) => row.failed],
    ["too few rows", (row) => row.too_few_rows], ["deferred", (row) => row.deferred],
    ["promoted", (row) => (row.promoted === null ? null : row.promoted + row.unproven)],
    ["refused", (row) => row.refused], ["held", (row) => row.held], ["withdrawn", (row) => row.withdrawn],
  ].filter(([, of]) => listed.some(of));
  const note = "The newest first; counts that are zero in all of them are left out. Error: mean of the champions, then of the challengers, on the same held-out rows.";
  return section("Rounds", note, link, underWay.map(roundProgress), table("Rounds", [
    ["round", (row) => row.round_id, "nowrap"],
    ["began (UTC)", (row) => time(row.started_at), "nowrap"],
    ...counted.map(([name, of]) => [name, (row) => count(of(row)), "number"]),
    ["took / budget", (row) => `${total(row) ? duration(total(row)) : "–"} / ${duration(row.budget_seconds)}`, "number"],
    ["error", gain, "number"],
    ["why", (row) => Object.entries(row.reasons).map(([policy, n]) => `${policy} ${count(n)}`).join(", ") || "–", "wide"],
  ], listed));
}

function deadLetters(kinds) {
  const title = "Dead letters of the last 7 days";
  if (!kinds.length) return section(title, null, empty("None: every record was valid."));
  return section(title, "Rejected records keep their bytes. After a fix, spinney dead-letters replay sends them again.", table(title, [
    ["source", (row) => row.source],
    ["reason", (row) => row.reason],
    ["field", (row) => row.field ?? "–"],
    ["records", (row) => count(row.count), "number"],
    ["sent again", (row) => count(row.replayed), "number"],
    ["last seen (UTC)", (row) => time(row.last_seen), "nowrap"],
    ["example", (row) => el("div", {}, row.example ?? "–", look(row)), "wide"],
  ], kinds));
}

/** The newest records of a kind, read when they are asked for. */
function look({ reason, field }) {
  const place = el("div", {});
  const open = async (event) => {
    if (!event.target.open || place.childElementCount) return;
    const params = new URLSearchParams(field ? { reason, field } : { reason });
    try {
      const { data } = await request(`dead-letters.json?${params}`);
      place.replaceChildren(...data.letters.map((letter) => el("div", {}, el("p", { class: "note" }, `${letter.topic}/${letter.kafka_partition}/${letter.kafka_offset}, ${utc(letter.ingested_at, true)} UTC: ${letter.detail ?? ""}`), el("pre", {}, letter.value ?? "no value"))));
    } catch (error) {
      place.replaceChildren(empty(error.message));
    }
  };
  return el("details", { toggle: open }, el("summary", {}, "Look inside"), place);
}
