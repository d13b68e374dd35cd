// Autosave: a second after a change to the server with a rising rev, at once to this device, by beacon on leaving.

import { Refused, csrf, send } from "./api.js";
import * as keep from "./keep.js";

const WAIT = 1000;
const RETRY = [2000, 4000, 8000, 15000, 30000];

export class Draft {
  // `collect()` gives the body; `show(state, detail)` shows saved | saving | offline | conflict | refused | kept.
  // Without a server (`toServer` false: a correction of what is submitted) the draft lives on this device alone.
  constructor({ id, rev, collect, show, toServer = true, onLease = () => {} }) {
    Object.assign(this, { id, rev, collect, show, toServer, onLease });
    this.url = `/api/assignments/${encodeURIComponent(id)}/draft`;
    this.tab = crypto.randomUUID();
    this.isDirty = this.isBusy = this.isStopped = false;
    this.failures = 0;
    addEventListener("online", () => this.isDirty && this.save());
    addEventListener("visibilitychange", () => document.visibilityState === "hidden" && this.leave());
    addEventListener("pagehide", () => this.leave());
  }

  changed() {
    this.isDirty = true;
    this.mirror();
    if (!this.toServer) this.show("kept");
    else if (!this.isStopped) this.schedule(WAIT);
  }

  body() {
    return { ...this.collect(), tab: this.tab };
  }

  mirror() {
    keep.put("draft", this.id, { base: this.rev, isDirty: this.isDirty, body: this.body() });
  }

  schedule(wait) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.save(), wait);
  }

  async save() {
    clearTimeout(this.timer);
    if (!this.toServer || this.isStopped || this.isBusy || !this.isDirty) return;
    this.isBusy = true;
    this.isDirty = false;
    this.show("saving");
    try {
      const saved = await send("PUT", this.url, { rev: this.rev + 1, body: this.body() });
      this.rev = saved.rev;
      this.failures = 0;
      this.onLease(saved.expires_at);
      this.show("saved", new Date(saved.saved_at));
    } catch (error) {
      this.isDirty = true;
      await this.failed(error);
    } finally {
      this.isBusy = false;
    }
    this.mirror();
    if (this.isDirty && !this.isStopped) this.schedule(this.failures ? RETRY[Math.min(this.failures, RETRY.length) - 1] : WAIT);
  }

  async failed(error) {
    if (!(error instanceof Refused)) {
      this.failures += 1;
      this.show("offline");
    } else if (error.status === 409 && "rev" in error.body) {
      await this.compare(error.body.rev);
    } else {
      this.failures += 1;
      this.isStopped = ![400, 413].includes(error.status); // what cannot be kept may be edited until it can
      this.show("refused", error);
    }
  }

  // A newer rev on the server is ours when an answer got lost on the way, or when it is the beacon of this page before
  // a reload; else it is another tab's.
  async compare(rev) {
    const theirs = await send("GET", `/api/assignments/${encodeURIComponent(this.id)}`).catch(() => null);
    const body = theirs?.draft?.body;
    if (body && (body.tab === this.tab || (this.restored && saysTheSame(body, this.restored)))) {
      this.rev = rev;
      return;
    }
    this.isStopped = true;
    this.newest = rev;
    this.show("conflict");
  }

  // Go on with what this page shows, over what the other tab has saved.
  overwrite() {
    this.rev = this.newest;
    this.isStopped = false;
    this.isDirty = true;
    return this.save();
  }

  // The page may never come back: a beacon outlives it.
  leave() {
    if (!this.toServer || this.isStopped || !(this.isDirty || this.isBusy)) return;
    // A save under way may or may not arrive: a rev above its own is right either way.
    const rev = this.rev + (this.isBusy ? 2 : 1);
    const message = JSON.stringify({ rev, body: this.body(), csrf: csrf() });
    navigator.sendBeacon?.(this.url, new Blob([message], { type: "application/json" }));
  }

  stop() {
    clearTimeout(this.timer);
    this.isStopped = true;
  }

  forget() {
    this.stop();
    keep.remove("draft", this.id);
  }
}

const ABOUT_THE_PAGE = ["tab", "step", "active_seconds", "opened_at"];

// Whether two bodies hold the same answers; a database may have put their keys in another order.
function saysTheSame(one, other) {
  const sorted = (value) =>
    value && typeof value === "object" ? Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, inner]) => [key, sorted(inner)]) : value;
  const answers = (body) => JSON.stringify(sorted(Object.fromEntries(Object.entries(body).filter(([key]) => !ABOUT_THE_PAGE.includes(key)))));
  return answers(one) === answers(other);
}

// What to fill the page with: the server's draft or this device's, and the other one where both went on from the same.
export function choose(id, server) {
  const local = keep.get("draft", id);
  const body = server?.body ?? null;
  if (!local?.isDirty) return { body: body ?? null, isLocal: false, other: null };
  const goesOn = local.base >= (server?.rev ?? 0) || body?.tab === local.body?.tab;
  return goesOn ? { body: local.body, isLocal: true, other: null } : { body, isLocal: false, other: local.body };
}
