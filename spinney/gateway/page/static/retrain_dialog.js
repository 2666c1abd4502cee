// A dialog that asks the running stream to retrain one group, with a reason.

import { request } from "./client.js";
import { el, keyText, plural } from "./elements.js";

const MEANING = "The stream fits this group in its next round, before the groups that policies call stale. The gate decides whether the new model answers.";
const dialog = document.getElementById("dialog");

export function openRetraining(history, refresh) {
  const order = { group_key: history.group_key };
  const outlook = el("p", { role: "status" });
  const reason = el("textarea", { id: "reason", rows: "2", maxlength: "500", required: true });
  const confirm = el("button", { class: "primary", disabled: true }, "Retrain now");

  const preview = async () => {
    try {
      const { data } = await request("retrain-requests", { body: order });
      outlook.textContent = outlookText(data);
      confirm.disabled = false;
    } catch (error) {
      outlook.textContent = `Not possible: ${error.message}`;
    }
  };
  const send = async (event) => {
    event.preventDefault();
    confirm.disabled = true;
    try {
      await request("retrain-requests", { body: { ...order, reason: reason.value } });
      dialog.close();
      refresh();
    } catch (error) {
      outlook.textContent = `Not requested: ${error.message}`;
    }
  };
  dialog.replaceChildren(el(
    "form", { submit: send }, el("h2", { id: "dialog-title" }, `Retrain now: ${keyText(history.group_key)}`), el("p", { class: "note" }, MEANING), outlook,
    el("label", { for: "reason" }, "Reason, recorded with the verdict under the name of your key"), reason,
    el("div", { class: "actions" }, el("button", { type: "button", click: () => dialog.close() }, "Cancel"), confirm),
  ));
  preview();
  dialog.showModal();
  reason.focus();
}

function outlookText({ is_stream_running: isRunning, waiting }) {
  const before = waiting ? ` ${plural(waiting, "request")} ${waiting === 1 ? "waits" : "wait"} before it.` : "";
  return isRunning ? `The stream is running.${before}` : `No stream is running: the request waits until one is started.${before}`;
}
