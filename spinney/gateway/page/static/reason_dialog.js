// The dialog in which a person confirms an order with a reason.

import { el, keyText } from "./elements.js";

const dialog = document.getElementById("dialog");

/**
 * Open the dialog and return its elements: status, reason, and the button confirm, which is disabled.
 *
 * title: of the dialog's heading and button. meaning: what the order does. choice: an element above the status, or null.
 * row: the row in which the reason is stored. failed: begins the message if send(reason) raises an error.
 */
export function openReasonDialog({ title, groupKey, meaning, choice = null, row, failed, send, refresh }) {
  const status = el("p", { role: "status" });
  const reason = el("textarea", { id: "reason", rows: "2", maxlength: "500", required: true });
  const confirm = el("button", { class: "primary", disabled: true }, title);
  const submit = async (event) => {
    event.preventDefault();
    confirm.disabled = true;
    try {
      await send(reason.value);
      dialog.close();
      refresh();
    } catch (error) {
      status.textContent = `${failed}: ${error.message}`;
      confirm.disabled = error.status === 409; // what was shown is not so any more
    }
  };
  dialog.replaceChildren(el(
    "form", { submit }, el("h2", { id: "dialog-title" }, `${title}: ${keyText(groupKey)}`), el("p", { class: "note" }, meaning), choice, status,
    el("label", { for: "reason" }, `Reason, recorded with the ${row} under the name of your key`), reason,
    el("div", { class: "actions" }, el("button", { type: "button", click: () => dialog.close() }, "Cancel"), confirm),
  ));
  dialog.showModal();
  reason.focus();
  return { status, reason, confirm };
}
