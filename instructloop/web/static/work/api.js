// Requests to our own JSON interface; two kinds of failure: the server said no, or could not be reached.

export class Refused extends Error {
  constructor(status, body) {
    super(body.error || `The server answered ${status}.`);
    this.status = status;
    this.body = body;
  }
}

export class Unreachable extends Error {}

export const csrf = () => document.querySelector('meta[name="csrf-token"]')?.content ?? "";

// Returns the answer's JSON (null for 204). A fault of the server or a limit on requests counts as unreachable: the
// same request may do later what it did not do now.
export async function send(method, path, body) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: { "Content-Type": "application/json", Accept: "application/json", "X-CSRF-Token": csrf() },
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
      redirect: "error",
      signal: AbortSignal.timeout(15000),
    });
  } catch (error) {
    throw new Unreachable(error.message);
  }
  if (response.status === 204) return null;
  const answer = await response.json().catch(() => ({}));
  if (response.status >= 500 || response.status === 429) throw new Unreachable(answer.error || "The server had a fault.");
  if (!response.ok) throw new Refused(response.status, answer);
  return answer;
}
