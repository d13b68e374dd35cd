// The labelling page: one task, its draft, its clocks, its keys, and sending it in.

import * as annotation from "./annotation.js";
import { Refused, send } from "./api.js";
import { Clock } from "./clock.js";
import { Comparison } from "./comparison.js";
import { Demonstration } from "./demonstration.js";
import { Draft, choose } from "./draft.js";
import * as keep from "./keep.js";
import { Keys } from "./keys.js";
import { deliver, deliverOthers } from "./outbox.js";

const form = document.getElementById("work");
const work = JSON.parse(form.dataset.work);
const live = document.getElementById("announce");
const problems = document.getElementById("problems");
const button = form.querySelector("[data-submit]");
const isRevision = work.submission !== null;
const clock = new Clock();
let key = crypto.randomUUID();
let isSending = false;

function announce(text) {
  live.textContent = live.textContent === text ? `${text}\u00a0` : text;
}

// What was saved

const time = (date) => date.toLocaleTimeString(undefined, { hour12: false });
const STATES = {
  saved: (at) => `Saved ${time(at)}`,
  saving: () => "Saving …",
  offline: () => "Offline – kept on this device",
  kept: () => "Kept on this device",
  conflict: () => "Not saved – open in another tab",
  refused: (error) => `Not saved – ${error.message}`,
  waiting: () => "Not sent yet – kept on this device",
  sending: () => "Sending …",
  submitted: (receipt) => receipt,
};

let lastNews = null;
function show(state, detail) {
  const line = document.getElementById("saved");
  const isNews = line.dataset.state !== state && !["saved", "saving", "kept"].includes(state);
  const wasLost = state === "saved" && line.dataset.state === "saving" && lastNews === "offline";
  line.dataset.state = state;
  line.textContent = STATES[state](detail);
  if (isNews || wasLost) announce(line.textContent); // each save would be too much to listen to
  if (state !== "saving") lastNews = state;
  if (state === "conflict") {
    notice("This task is also open in another tab or on another device, which has saved a newer version. Nothing here is lost.", [
      ["Load the newer version", () => (keep.remove("draft", work.id), location.reload())],
      ["Keep this version instead", () => (close(), draft.overwrite())],
    ]);
  } else if (state === "refused") {
    const isOut = [401, 403].includes(detail.status);
    const advice = "What you did is kept on this device: sign in again, and this page goes on where you are.";
    notice(isOut ? `${detail.message} ${advice}` : detail.message, isOut ? [["Sign in", () => location.assign(`/sign-in?next=${location.pathname}`)]] : undefined);
  }
}

const close = () => (problems.hidden = true);

function notice(text, actions = [["Close", close]]) {
  const line = Object.assign(document.createElement("p"), { textContent: text });
  const buttons = actions.map(([words, run]) => {
    const choice = Object.assign(document.createElement("button"), { type: "button", className: "button small", textContent: words });
    choice.addEventListener("click", run);
    return choice;
  });
  const row = document.createElement("p");
  row.className = "problem-choices";
  row.append(...buttons);
  problems.replaceChildren(line, row);
  problems.hidden = false;
}

let isLost = false;

// A lease that ran out is no reason to stop: whatever is submitted is kept.
function lease(until) {
  if (until === null && !isLost) {
    notice("Your time on this task ran out and somebody else has it now. What you submit is kept all the same.", [["Understood", close]]);
  }
  isLost = until === null;
  form.querySelector("[data-lease]").title = until ? `Active time; this task is held for you until ${time(new Date(until)).slice(0, 5)}` : "Active time";
}

// The task

const changed = () => {
  if (isSending) return;
  draft.changed();
  if (isRevision) button.removeAttribute("aria-disabled");
};
const task = work.kind === "compare" ? new Comparison(form, { changed, announce }) : new Demonstration(form);
const draft = new Draft({
  id: work.id,
  rev: work.draft?.rev ?? 0,
  collect: () => ({ ...task.collect(), key, opened_at: clock.openedAt, active_seconds: Math.round(clock.activeSeconds) }),
  show,
  toServer: !isRevision,
  onLease: lease,
});

function restore() {
  const { body, isLocal, other } = choose(work.id, work.draft ?? (isRevision ? { rev: 0, body: work.submission.answer } : null));
  if (work.annotation) annotation.fill(form, work.annotation); // what they said of this prompt before
  if (body) {
    task.fill({ annotation: work.annotation, ...body });
    key = body.key ?? key;
    clock.resume(body.opened_at ?? 0, body.active_seconds ?? 0);
  }
  const submitted = sessionStorage.getItem("submitted");
  sessionStorage.removeItem("submitted");
  if (submitted) show("submitted", submitted);
  if (work.draft && !isLocal) show("saved", new Date(work.draft.saved_at));
  if (isLocal) {
    draft.restored = body;
    changed();
  }
  if (other) {
    notice("This device has kept another version of this task, from before it was saved elsewhere.", [
      ["Use this device's version", () => (task.fill(other), close(), changed())],
      ["Leave it", close],
    ]);
  }
}

// Sending it in

function listMissing(missing) {
  const list = document.createElement("ul");
  for (const { text, go } of missing) {
    const link = Object.assign(document.createElement("button"), { type: "button", className: "link", textContent: text });
    link.addEventListener("click", () => (close(), go()));
    list.append(Object.assign(document.createElement("li"), {}));
    list.lastChild.append(link);
  }
  problems.replaceChildren(Object.assign(document.createElement("p"), { textContent: "Not complete yet:" }), list);
  problems.hidden = false;
  problems.focus();
}

async function submit() {
  if (isSending || button.getAttribute("aria-disabled") === "true") return;
  const missing = task.missing();
  if (missing.length) return listMissing(missing);
  problems.hidden = true;
  const message = {
    idempotency_key: key,
    answer: task.answer(),
    active_seconds: clock.activeSeconds,
    wall_seconds: clock.wallSeconds,
    instruction_version: work.instruction?.version ?? null,
  };
  await sendIn(isRevision ? "revise" : "submit", message);
}

async function sendIn(action, message) {
  lock(true);
  show("sending");
  draft.mirror();
  draft.stop();
  try {
    const stopping = new AbortController();
    const waiting = (error) => {
      show("waiting");
      notice(`Not sent yet: ${error.message} It is kept on this device and goes off as soon as the server can be reached; leave this page open.`, [
        ["Go on editing instead", () => stopping.abort()],
      ]);
    };
    const { next } = await deliver(work.id, action, message, { waiting, signal: stopping.signal });
    draft.forget();
    sessionStorage.setItem("submitted", `Last task submitted ${time(new Date())}`);
    location.assign(isRevision ? "/history" : next);
  } catch (error) {
    lock(false);
    draft.isStopped = false;
    changed();
    if (error.name === "AbortError") return void close();
    if (!(error instanceof Refused)) throw error;
    notice(`Not submitted: ${error.message} Everything you entered is still here.`, error.status === 409 ? [["Load the page again", () => location.reload()]] : undefined);
    problems.focus();
  }
}

// While it is on its way nothing can be changed, so that what arrives is what the page shows.
function lock(isLocked) {
  isSending = isLocked;
  for (const part of form.querySelectorAll("fieldset.all")) part.disabled = isLocked;
  form.setAttribute("aria-busy", String(isLocked));
}

async function skip(event) {
  event.preventDefault();
  const dialog = document.getElementById("skip");
  const values = new FormData(event.target);
  const reason = [values.get("reason"), values.get("more")?.trim()].filter(Boolean).join(": ");
  if (!reason) return;
  try {
    await send("POST", `/api/assignments/${encodeURIComponent(work.id)}/skip`, { reason });
    draft.forget();
    location.assign("/work");
  } catch (error) {
    dialog.querySelector("[role=alert]").textContent = error instanceof Refused ? error.message : "The server cannot be reached. Try again.";
  }
}

// Wiring

function toggle(name, onWords, offWords) {
  const switcher = form.querySelector(`[data-toggle=${name}]`);
  if (!switcher) return () => {};
  const set = (isOn) => {
    form.dataset[name] = isOn ? onWords[0] : offWords[0];
    switcher.setAttribute("aria-pressed", String(isOn));
  };
  const flip = () => {
    const isOn = switcher.getAttribute("aria-pressed") !== "true";
    set(isOn);
    keep.put("view", name, { isOn });
    announce(isOn ? onWords[1] : offWords[1]);
  };
  switcher.addEventListener("click", flip);
  set(keep.get("view", name)?.isOn ?? false);
  return flip;
}

const flipText = toggle("text", ["rendered", "Rendered text"], ["raw", "Raw text"]);
const flipLayout = toggle("layout", ["stacked", "One below the other"], ["beside", "Side by side"]);
const dialog = document.getElementById("keys");
const keys = new Keys(
  [
    ...task.actions(),
    { name: "text", text: "Raw or rendered text", keys: ["w"], modes: null, run: flipText },
    { name: "layout", text: "Side by side or one below the other", keys: ["l"], modes: ["rank"], run: flipLayout },
    { name: "help", text: "This list of keys", keys: ["?"], modes: null, run: () => keys.open() },
    { name: "submit", text: "Submit", keys: ["ctrl+enter"], modes: null, run: submit },
  ],
  { dialog, mode: task.mode, announce },
);

form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", changed);
button.addEventListener("click", submit);
form.querySelector("[data-keys]").addEventListener("click", () => keys.open());
for (const opener of form.querySelectorAll("[data-open]:is(button)")) {
  opener.addEventListener("click", () => document.getElementById(opener.dataset.open).showModal());
}
const skipDialog = document.getElementById("skip");
form.querySelector("[data-skip]")?.addEventListener("click", () => skipDialog.showModal());
skipDialog.querySelector("form").addEventListener("submit", skip);
for (const closer of document.querySelectorAll("dialog [data-close]")) closer.addEventListener("click", () => closer.closest("dialog").close());
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && event.target.matches?.("textarea[name^=note]")) event.target.closest("[data-completion]").focus();
});

// The lease is held while somebody is at it; a page that is merely open lets it run out (WCAG 2.2.1: any input renews).
async function heartbeat() {
  if (isRevision || isSending || !clock.isActive) return;
  try {
    lease((await send("POST", `/api/assignments/${encodeURIComponent(work.id)}/heartbeat`)).expires_at);
  } catch (error) {
    if (!(error instanceof Refused) || error.status !== 410 || isLost) return;
    isLost = true;
    notice(error.message);
  }
}
setInterval(heartbeat, 60000);
addEventListener("visibilitychange", () => document.visibilityState === "visible" && heartbeat());

setInterval(() => {
  const seconds = Math.floor(clock.activeSeconds);
  form.querySelector("[data-time]").textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}, 1000);

keep.sweep();
restore();
if (work.expires_at) lease(work.expires_at);
form.dataset.ready = "true";
const unsent = keep.get("outbox", work.id);
if (unsent) sendIn(unsent.action, unsent.message);
else task.start();
deliverOthers(work.id, announce);
