// Single-key shortcuts: off while typing and in dialogs, each one can be moved to another key, all can be turned off.

import * as keep from "./keep.js";

const TYPING = "textarea, select, [contenteditable], input:not([type=radio]):not([type=checkbox]):not([type=button])";
const MIRRORED = { ArrowRight: "ArrowLeft", ArrowLeft: "ArrowRight" };
const SPOKEN = { ArrowRight: "→", ArrowLeft: "←", "ctrl+enter": "Ctrl + Enter", " ": "Space" };

// The key as on a Latin keyboard, also where the layout is another script or has digits above Shift.
export function pressed(event) {
  if ((event.ctrlKey || event.metaKey) && event.key === "Enter") return "ctrl+enter";
  if (event.ctrlKey || event.metaKey || event.altKey) return null;
  if (/^(Digit|Numpad)\d$/.test(event.code) && !event.shiftKey) return event.code.at(-1);
  if (/^Key[A-Z]$/.test(event.code) && event.key.length === 1 && event.key > "\x7f") return event.code.at(-1).toLowerCase();
  if (document.documentElement.dir === "rtl" && event.key in MIRRORED) return MIRRORED[event.key];
  return event.key.length === 1 ? event.key.toLowerCase() : event.key;
}

export const spoken = (key) => SPOKEN[key] ?? (key.length === 1 ? key.toUpperCase() : key);

export class Keys {
  // An action: {name, text, keys, modes, run}; `modes` null means always. `mode()` says which ones are on.
  constructor(actions, { dialog, mode, announce }) {
    Object.assign(this, { actions, dialog, mode, announce });
    const kept = keep.get("keys", "map") ?? {};
    this.isOn = kept.isOn ?? true;
    this.moved = kept.moved ?? {};
    this.label();
    document.addEventListener("keydown", (event) => this.handle(event));
    dialog.addEventListener("keydown", (event) => this.learn(event));
    dialog.addEventListener("close", () => (this.learning = null));
    dialog.querySelector("[name=keys-on]").addEventListener("change", (event) => {
      this.isOn = event.target.checked;
      this.store();
    });
    dialog.querySelector("[data-reset]").addEventListener("click", () => {
      this.moved = {};
      this.store();
      this.fillDialog();
    });
  }

  keysOf(action) {
    const moved = this.moved[action.name];
    return moved ? [moved, ...action.keys.slice(1)] : action.keys;
  }

  find(key, mode) {
    return this.actions.find((a) => (!a.modes || a.modes.includes(mode)) && this.keysOf(a).includes(key));
  }

  handle(event) {
    if (event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]")) return;
    const key = pressed(event);
    const target = event.target instanceof Element ? event.target : document.body;
    if (!key || (key !== "ctrl+enter" && (!this.isOn || target.closest(TYPING)))) return;
    if (key.startsWith("Arrow") && target.closest("input, [role=radiogroup]")) return;
    const action = this.find(key, this.mode());
    if (!action || (event.repeat && !action.repeats)) return;
    event.preventDefault();
    action.run(key);
  }

  open() {
    this.fillDialog();
    this.dialog.showModal();
  }

  fillDialog() {
    this.dialog.querySelector("[name=keys-on]").checked = this.isOn;
    const body = this.dialog.querySelector("tbody");
    body.replaceChildren(...this.actions.filter((action) => !action.hidden).map((action) => this.row(action)));
  }

  row(action) {
    const row = document.createElement("tr");
    const keys = document.createElement("td");
    for (const key of this.keysOf(action)) {
      keys.append(Object.assign(document.createElement("kbd"), { textContent: action.label ?? spoken(key) }), " ");
      if (action.label) break;
    }
    const change = document.createElement("td");
    if (!action.label && action.keys[0] !== "ctrl+enter") {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Change" });
      button.className = "button small";
      button.setAttribute("aria-label", `Change the key of: ${action.text}`);
      button.addEventListener("click", () => {
        this.learning = { action, button };
        button.textContent = "Press a key …";
      });
      change.append(button);
    }
    row.append(Object.assign(document.createElement("td"), { textContent: action.text }), keys, change);
    return row;
  }

  // The next key pressed in the dialog becomes the action's, unless another action of the same mode has it.
  learn(event) {
    if (!this.learning || ["Tab", "Shift", "Control", "Alt", "Meta", "Enter"].includes(event.key)) return;
    event.preventDefault();
    const { action, button } = this.learning;
    this.learning = null;
    const key = pressed(event);
    const other = key && this.actions.find((a) => a !== action && this.shares(a, action) && this.keysOf(a).includes(key));
    if (event.key !== "Escape" && key && !other) {
      this.moved[action.name] = key;
      this.store();
      this.announce(`${action.text}: ${spoken(key)}`);
    }
    this.fillDialog();
    this.dialog.querySelector(`[aria-label="${CSS.escape(button.getAttribute("aria-label"))}"]`)?.focus();
    this.dialog.querySelector("[role=status]").textContent = other ? `${spoken(key)} belongs to: ${other.text}` : "";
  }

  shares(a, b) {
    return !a.modes || !b.modes || a.modes.some((mode) => b.modes.includes(mode));
  }

  store() {
    keep.put("keys", "map", { isOn: this.isOn, moved: this.moved });
    this.label();
  }

  // The keys that the page itself shows beside its buttons.
  label() {
    document.body.classList.toggle("no-keys", !this.isOn);
    for (const hint of document.querySelectorAll("[data-key-of]")) {
      const action = this.actions.find((each) => each.name === hint.dataset.keyOf);
      if (action) hint.textContent = spoken(this.keysOf(action)[0]);
    }
  }
}
