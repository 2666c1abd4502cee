// Requests with the API key in a header. No cookies: another site cannot act in a reader's name.

import { el } from "./elements.js";

const KEY = "spinney-api-key";
let announcedAt = 0;
let announced = "";

export class Problem extends Error {
  constructor(status, message, code = null) {
    super(message);
    Object.assign(this, { status, code });
  }

  /** Whether another key would help. */
  get needsKey() {
    return this.status === 401 || this.code === "scope";
  }
}

/** Return { status, etag, data }; data is null for 304. Raises Problem. body: sent as JSON by POST. */
export async function request(path, { etag = null, body = null } = {}) {
  const headers = {};
  const key = sessionStorage.getItem(KEY);
  if (key) headers.Authorization = `Bearer ${key}`;
  if (etag) headers["If-None-Match"] = etag;
  if (body) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method: body ? "POST" : "GET", headers, body: body ? JSON.stringify(body) : null, cache: "no-store" });
  } catch {
    throw new Problem(0, "the server cannot be reached");
  }
  if (answer.status === 304) return { status: 304, etag, data: null };
  const data = await answer.json().catch(() => null);
  if (!answer.ok) throw new Problem(answer.status, data?.error?.message ?? `status ${answer.status}`, data?.error?.code);
  const name = answer.headers.get("X-Fleet"); // not in the answer to an order
  if (name) document.getElementById("fleet-name").textContent = name;
  return { status: answer.status, etag: answer.headers.get("ETag"), data };
}

function keyNote({ status, message }) {
  if (status !== 401) return `${message}.`;
  return sessionStorage.getItem(KEY) ? "This key is not valid, or was revoked." : "The figures of this fleet need an API key.";
}

/** Ask for an API key, keep it until the tab is closed, and go on. problem: of the key that was sent, or of none. */
export function askForKey(problem, goOn) {
  const input = el("input", {
    id: "api-key", type: "password", autocomplete: "off", required: true, pattern: "\\s*[!-~]+\\s*", title: "A key as spinney keys add prints it: spinney_…",
  });
  const save = (event) => {
    event.preventDefault();
    sessionStorage.setItem(KEY, input.value.trim());
    goOn();
  };
  const form = el(
    "form", { submit: save }, el("h1", {}, "API key"),
    el("p", { class: "lead" }, `${keyNote(problem)} Make one with `, el("code", {}, "spinney keys add"), ". It is kept until this tab is closed."),
    el("label", { class: "hidden", for: "api-key" }, "API key"), input,
    el("p", { class: "actions" }, el("button", { class: "primary" }, "Show the fleet")),
  );
  document.getElementById("main").replaceChildren(el("section", {}, form));
  input.focus();
}

/** Tell screen readers only what is new, and at most twice a minute unless a reader has asked for it. */
export function announce(text, wasAskedFor = false) {
  if (!text || text === announced || (!wasAskedFor && Date.now() - announcedAt < 30000)) return;
  [announced, announcedAt] = [text, Date.now()];
  document.getElementById("announcement").textContent = text;
}
