// A dialog that shows what an override would change, asks for a reason, and sends it as it was shown.

import { request } from "./client.js";
import { el, empty, utc } from "./elements.js";
import { openReasonDialog } from "./reason_dialog.js";

const MEANING = {
  rollback: "The model before this champion answers again. The champion is withdrawn: machines do not promote it again.",
  promote: "Another model of this group answers from the stream's next batch on. A newer model may replace it later.",
  pin: "The champion goes on answering. No model fitted meanwhile replaces it until it is unpinned.",
  unpin: "The pinned model stays champion until a newer one is promoted.",
};
const short = (id) => (id ? id.slice(0, 8) : "none of its own");

export function openOverride(verb, title, history, refresh) {
  const order = { verb, group_key: history.group_key };
  const models = history.happened.filter((entry) => entry.what === "fitted" && entry.model_id !== history.standing.model_id).reverse();
  const unique = [...new Map(models.map((entry) => [entry.model_id, entry])).values()];
  let version = null;
  let becomes = null;
  let turn = 0;

  const preview = async () => {
    const mine = ++turn; // an earlier answer that comes later is of a model that is not chosen any more
    confirm.disabled = true;
    version = null;
    try {
      const { data } = await request("overrides", { body: order });
      if (mine !== turn) return;
      const [step] = data.steps;
      change.textContent = step ? `${short(step.before)} → ${short(step.after)}${step.withdrawn ? `; ${short(step.withdrawn)} is withdrawn` : ""}` : `Nothing to change: ${data.left[0]?.why ?? "it is so already"}.`;
      if (!step) return;
      version = data.version;
      becomes = step.after;
      confirm.disabled = false;
    } catch (error) {
      if (mine !== turn) return;
      change.textContent = `Not possible: ${error.message}`;
    }
  };
  const choice = verb === "promote" ? modelChoice(unique, order, preview) : null;
  const { status: change, confirm } = openReasonDialog({
    title, groupKey: history.group_key, meaning: MEANING[verb], choice, row: "decision", failed: "Not written", refresh,
    send: (reason) => request("overrides", { body: { ...order, reason, seen: version, becomes } }),
  });
  if (verb !== "promote" || unique.length) preview();
  choice?.querySelector("select")?.focus();
}

function modelChoice(models, order, preview) {
  if (!models.length) return empty("It has no other model.");
  order.model = models[0].model_id;
  const options = models.map((entry) => el("option", { value: entry.model_id }, `${short(entry.model_id)}, fitted ${utc(entry.at)} UTC`));
  const choose = (event) => {
    order.model = event.target.value;
    preview();
  };
  return el("label", {}, "Model", el("select", { change: choose }, options));
}
