// A dialog that asks the running stream to retrain one group, with a reason.

import { request } from "./client.js";
import { plural } from "./elements.js";
import { openReasonDialog } from "./reason_dialog.js";

const MEANING = "The stream fits this group in its next round, before the groups that policies call stale. The gate decides whether the new model answers.";

export async function openRetraining(history, refresh) {
  const order = { group_key: history.group_key };
  const { status, confirm } = openReasonDialog({
    title: "Retrain now", groupKey: history.group_key, meaning: MEANING, row: "verdict", failed: "Not requested", refresh,
    send: (reason) => request("retrain-requests", { body: { ...order, reason } }),
  });
  try {
    const { data } = await request("retrain-requests", { body: order });
    status.textContent = outlookText(data);
    confirm.disabled = false;
  } catch (error) {
    status.textContent = `Not possible: ${error.message}`;
  }
}

function outlookText({ is_stream_running: isRunning, waiting }) {
  const before = waiting ? ` ${plural(waiting, "request")} ${waiting === 1 ? "waits" : "wait"} before it.` : "";
  return isRunning ? `The stream is running.${before}` : `No stream is running: the request waits until one is started.${before}`;
}
