// The order of completions: ranks 1 to K in native radio groups, shown on a board of columns as in Figure 12 (b).

const DRAG_AFTER = 6; // pixels

export class Ranking {
  // `changed(card)` is called after every change that does not come from a native control.
  constructor(root, cards, { changed, focus }) {
    Object.assign(this, { root, cards, changed, focus });
    this.slots = new Map([...root.querySelectorAll("[data-rank]")].map((slot) => [slot.dataset.rank, slot.querySelector(".chips")]));
    this.chips = new Map(cards.map((card) => [card, this.chip(card)]));
    this.update();
  }

  chip(card) {
    const chip = Object.assign(document.createElement("button"), { type: "button", className: "chip", textContent: card.letter });
    chip.addEventListener("click", () => this.wasDragged || this.focus(card));
    chip.addEventListener("pointerdown", (event) => this.drag(event, chip, card));
    return chip;
  }

  update() {
    for (const [card, chip] of this.chips) {
      chip.setAttribute("aria-label", `Go to completion ${this.say(card)}`);
      const slot = this.slots.get(String(card.rank ?? ""));
      if (chip.parentElement === slot) continue;
      const hadFocus = document.activeElement === chip; // moving a node drops its focus
      const next = [...slot.children].find((other) => other.textContent > chip.textContent);
      slot.insertBefore(chip, next ?? null);
      if (hadFocus) chip.focus({ preventScroll: true });
    }
  }

  // "C, rank 2, tied with A"
  say(card) {
    if (card.rank === null) return `${card.letter}, not ranked`;
    const tied = this.cards.filter((other) => other !== card && other.rank === card.rank).map((other) => other.letter);
    return `${card.letter}, rank ${card.rank}${tied.length ? `, tied with ${tied.join(" and ")}` : ""}`;
  }

  place(card, rank) {
    if (rank !== null && (rank < 1 || rank > this.cards.length)) return;
    card.rank = rank;
    this.changed(card);
  }

  // One rank better; an unranked one starts at the last rank.
  up(card) {
    this.place(card, card.rank === null ? this.cards.length : Math.max(1, card.rank - 1));
  }

  // One rank worse; an unranked one starts at the first rank.
  down(card) {
    this.place(card, card.rank === null ? 1 : Math.min(this.cards.length, card.rank + 1));
  }

  // The rank of the next better completion; for an unranked one, of the worst that is ranked.
  tie(card) {
    const ranks = this.cards.filter((other) => other !== card && other.rank !== null).map((other) => other.rank);
    const better = card.rank === null ? ranks : ranks.filter((rank) => rank < card.rank);
    if (better.length) this.place(card, Math.max(...better));
    else this.changed(card);
  }

  // Dragging is an extra for the mouse and the finger: it only writes into the radio group.
  drag(event, chip, card) {
    if (event.button !== 0) return;
    const start = { x: event.clientX, y: event.clientY };
    const listening = new AbortController();
    const under = (e) => document.elementFromPoint(e.clientX, e.clientY)?.closest("[data-rank]");
    const mark = (slot) => this.root.querySelectorAll("[data-rank]").forEach((each) => each.classList.toggle("is-target", each === slot));
    let isDragging = false;
    const move = (e) => {
      isDragging ||= Math.hypot(e.clientX - start.x, e.clientY - start.y) > DRAG_AFTER;
      if (!isDragging) return;
      chip.classList.add("is-dragged");
      chip.style.translate = `${e.clientX - start.x}px ${e.clientY - start.y}px`;
      mark(under(e));
    };
    const end = (e) => {
      listening.abort();
      const slot = e.type === "pointerup" && isDragging ? under(e) : null;
      chip.classList.remove("is-dragged");
      chip.style.translate = "";
      mark(null);
      this.wasDragged = isDragging; // the click that ends a drag is none
      setTimeout(() => (this.wasDragged = false));
      if (slot) this.place(card, Number(slot.dataset.rank) || null);
    };
    chip.setPointerCapture(event.pointerId);
    chip.addEventListener("pointermove", move, { signal: listening.signal });
    for (const name of ["pointerup", "pointercancel"]) chip.addEventListener(name, end, { signal: listening.signal });
  }
}
