// Submissions on their way: kept on this device until the server has given a receipt, sent again when it is back.

import { Unreachable, send } from "./api.js";
import * as keep from "./keep.js";

const RETRY = [2000, 4000, 8000, 15000, 30000, 60000];
const url = (id, action) => `/api/assignments/${encodeURIComponent(id)}/${action}`;

// Resolves to the server's answer, however long it takes; rejects with Refused, or with AbortError by the signal.
// `waiting(error)` is told of every failure.
export async function deliver(id, action, message, { waiting, signal }) {
  keep.put("outbox", id, { action, message });
  for (let failures = 0; ; failures += 1) {
    try {
      const answer = await send("POST", url(id, action), message);
      keep.remove("outbox", id);
      return answer;
    } catch (error) {
      if (!(error instanceof Unreachable)) {
        keep.remove("outbox", id);
        throw error;
      }
      waiting(error);
      await backAgain(RETRY[Math.min(failures, RETRY.length - 1)], signal);
      if (signal.aborted) {
        keep.remove("outbox", id);
        signal.throwIfAborted();
      }
    }
  }
}

function backAgain(wait, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(done, wait);
    addEventListener("online", done, { once: true });
    signal.addEventListener("abort", done, { once: true });
    function done() {
      clearTimeout(timer);
      removeEventListener("online", done);
      resolve();
    }
  });
}

// Send what other pages of this person left behind; tell what became of each.
export async function deliverOthers(currentId, tell) {
  for (const id of keep.ids("outbox").filter((other) => other !== currentId)) {
    const { action, message } = keep.get("outbox", id);
    try {
      await send("POST", url(id, action), message);
      keep.remove("outbox", id);
      keep.remove("draft", id);
      tell("An earlier submission that was kept on this device is now with the server.");
    } catch (error) {
      if (error instanceof Unreachable) return;
      keep.remove("outbox", id);
      tell(`An earlier submission was refused: ${error.message} Its text is still on this device; open the task from your history.`);
    }
  }
}
