// What is kept on this device, by person and task: a mirror of the draft, and submissions that are not through yet.

const DAYS = 14;
const person = document.querySelector("[data-person]").dataset.person;
const name = (kind, id) => `instructloop:${kind}:${person}:${id}`;

// A device may refuse to keep anything (private window, full disk); the server's draft is there all the same.
function guarded(action) {
  try {
    return action();
  } catch {
    return null;
  }
}

export const get = (kind, id) => guarded(() => JSON.parse(localStorage.getItem(name(kind, id))));
export const put = (kind, id, value) =>
  guarded(() => localStorage.setItem(name(kind, id), JSON.stringify({ ...value, at: Date.now() })));
export const remove = (kind, id) => guarded(() => localStorage.removeItem(name(kind, id)));

// All ids of a kind that this person has here.
export function ids(kind) {
  const prefix = name(kind, "");
  return guarded(() => Object.keys(localStorage).filter((key) => key.startsWith(prefix)).map((key) => key.slice(prefix.length))) ?? [];
}

// Forget drafts that nobody has touched for two weeks; unsent submissions are never forgotten.
export function sweep() {
  for (const id of ids("draft")) {
    if ((get("draft", id)?.at ?? 0) < Date.now() - DAYS * 86400000) remove("draft", id);
  }
}
