// The comparison in two steps, as in Figure 12: each completion alone (rating, flags, note), then all of them ranked.

import * as annotation from "./annotation.js";
import { Card } from "./card.js";
import { Ranking } from "./ranking.js";

export class Comparison {
  // `changed()` is called after every change that a native control did not report by an event.
  constructor(form, { changed, announce }) {
    Object.assign(this, { form, changed, announce });
    this.cards = [...form.querySelectorAll("[data-completion]")].map((section) => new Card(section));
    this.steps = [...form.querySelectorAll("[data-step]")];
    this.ranking = new Ranking(form.querySelector(".board"), this.cards, {
      changed: (card) => this.touched(card, this.ranking.say(card)),
      focus: (card) => this.focusCard(card),
    });
    this.step = 0;
    this.current = this.cards[0];
    this.wire();
    this.show(0);
  }

  wire() {
    this.steps.forEach((button, step) => button.addEventListener("click", () => this.go(step)));
    this.form.querySelector("[data-next]").addEventListener("click", () => this.move(1));
    this.form.querySelector("[data-previous]").addEventListener("click", () => this.move(-1));
    for (const card of this.cards) {
      const on = (name, run) => card.section.querySelector(`[data-do=${name}]`).addEventListener("click", () => run(card));
      on("all-no", () => this.allNo(card));
      on("none-apply", () => this.noneApply(card));
      on("clear-flags", () => this.clearFlags(card));
      on("up", () => this.ranking.up(card));
      on("down", () => this.ranking.down(card));
      on("tie", () => this.ranking.tie(card));
      on("edit", () => this.go(this.cards.indexOf(card)));
      card.section.addEventListener("focusin", () => this.isRanking && (this.current = card));
      card.section.addEventListener("change", (event) => event.target.name?.startsWith("rank-") && this.announce(`Completion ${this.ranking.say(card)}`));
    }
    this.form.addEventListener("change", () => this.update());
  }

  get isRanking() {
    return this.step === this.cards.length;
  }

  mode = () => (this.isRanking ? "rank" : "rate");

  // Steps

  show(step) {
    this.step = step;
    this.form.dataset.mode = this.mode();
    this.cards.forEach((card, place) => (card.section.hidden = !this.isRanking && place !== step));
    this.form.querySelector(".board").hidden = !this.isRanking;
    this.form.querySelector("[data-previous]").disabled = step === 0;
    this.form.querySelector("[data-next]").disabled = this.isRanking;
    if (!this.isRanking) this.current = this.cards[step];
    this.update();
  }

  go(step) {
    this.show(step);
    if (this.isRanking) {
      this.focusCard(this.cards.find((card) => card.rank === null) ?? this.cards[0], false);
      scrollTo({ top: 0 });
      const open = this.cards.filter((card) => card.rank === null).length;
      this.announce(`Ranking, completion ${this.current.letter}. ${open} of ${this.cards.length} to be ranked.`);
    } else {
      this.focusCard(this.current, false);
      scrollTo({ top: 0 });
      this.announce(`Completion ${this.current.letter}, ${step + 1} of ${this.cards.length}.`);
    }
  }

  // To the next or previous completion; past the last one comes the ranking, before its first the last completion.
  move(by) {
    if (!this.isRanking) {
      const step = this.step + by;
      if (step >= 0 && step <= this.cards.length) this.go(step);
      return;
    }
    const place = this.cards.indexOf(this.current) + by;
    if (place >= 0 && place < this.cards.length) {
      this.focusCard(this.cards[place]);
      this.announce(`Completion ${this.ranking.say(this.current)}`);
    } else if (place < 0) this.go(this.cards.length - 1);
  }

  focusCard(card, scroll = true) {
    this.current = card;
    card.section.focus({ preventScroll: true });
    if (scroll) card.section.scrollIntoView({ block: "nearest" });
    this.mark();
  }

  mark() {
    for (const card of this.cards) card.section.classList.toggle("is-current", this.isRanking && card === this.current);
  }

  // Answers

  touched(card, words) {
    this.update();
    this.changed();
    this.announce(`Completion ${words}`);
  }

  digit(key) {
    const card = this.current;
    const number = Number(key);
    if (this.isRanking) this.ranking.place(card, number === 0 ? null : number);
    else if (number >= 1 && number <= 7) {
      card.rating = number;
      this.touched(card, `${card.letter}: rating ${number} of 7`);
    }
  }

  // Yes, then no, then (where it exists) does not apply, then yes again: each press is one explicit answer.
  flag(name) {
    const card = this.current;
    const cycle = card.canBeNone(name) ? [true, false, null] : [true, false];
    const value = cycle[(cycle.indexOf(card.flag(name)) + 1) % cycle.length];
    card.setFlag(name, value);
    const title = card.section.querySelector(`[data-flag="${name}"]`).dataset.text;
    this.touched(card, `${card.letter}: ${title}: ${value === null ? "does not apply" : value ? "yes" : "no"}`);
  }

  // What is open and always applies: an explicit no to each, by one explicit act.
  allNo(card = this.current) {
    const open = card.openFlags.filter((name) => !card.canBeNone(name));
    for (const name of open) card.setFlag(name, false);
    this.touched(card, `${card.letter}: ${open.length} answered with no`);
  }

  // What is open and may not apply (hallucination, constraint): it does not.
  noneApply(card = this.current) {
    const open = card.openFlags.filter((name) => card.canBeNone(name));
    for (const name of open) card.setFlag(name, null);
    this.touched(card, `${card.letter}: ${open.length} do not apply`);
  }

  clearFlags(card = this.current) {
    for (const name of card.flagNames) card.setFlag(name, undefined);
    this.touched(card, `${card.letter}: all flags unanswered again`);
  }

  // What the page says of itself

  update() {
    this.ranking.update();
    this.mark();
    this.steps.forEach((button, step) => {
      const card = this.cards[step];
      const isDone = card ? card.isJudged : this.cards.every((each) => each.rank !== null);
      button.classList.toggle("is-done", isDone);
      button.setAttribute("aria-label", card ? this.sayCard(card) : `Ranking${isDone ? ", complete" : ", not complete"}`);
      if (card) button.firstElementChild.textContent = card.rating ? `${card.letter} ${card.rating}` : card.letter;
      if (step === this.step) button.setAttribute("aria-current", "step");
      else button.removeAttribute("aria-current");
    });
    for (const card of this.cards) {
      const given = card.section.querySelector("[data-given]");
      given.textContent = card.rating ? `You rated it ${card.rating} of 7` : "Not rated yet";
      const open = card.openFlags.length;
      card.section.querySelector("[data-open]").textContent = open ? `${open} of ${card.flagNames.length} open` : "all answered";
    }
    const box = this.form.querySelector("[data-warnings]");
    const warnings = this.warnings();
    const lines = warnings.map((text) => Object.assign(document.createElement("p"), { textContent: text }));
    if (box.textContent !== warnings.join("")) box.replaceChildren(...lines);
    box.hidden = warnings.length === 0;
  }

  sayCard(card) {
    const open = card.openFlags.length;
    return `Completion ${card.letter}: ${card.rating ? `rated ${card.rating}` : "not rated"}, ${open ? `${open} flags open` : "flags answered"}`;
  }

  // A higher rating but a worse rank: worth a second look, not forbidden.
  warnings() {
    const lines = [];
    for (const a of this.cards) {
      for (const b of this.cards) {
        if (a.rating !== null && b.rating !== null && a.rank !== null && b.rank !== null && a.rating > b.rating && a.rank > b.rank) {
          lines.push(`You rated ${a.letter} higher (${a.rating}) than ${b.letter} (${b.rating}), but ranked it lower.`);
        }
      }
    }
    return lines.length > 3 ? [...lines.slice(0, 3), `… and ${lines.length - 3} more such pairs.`] : lines;
  }

  missing() {
    const found = [];
    this.cards.forEach((card, step) => {
      const first = (name) => () => (this.go(step), card.radios(name)[0].focus());
      if (card.rating === null) found.push({ text: `Completion ${card.letter} has no rating.`, go: first("rating") });
      const open = card.openFlags;
      if (open.length) {
        const words = open.length === 1 ? "1 flag is" : `${open.length} flags are`;
        found.push({ text: `Completion ${card.letter}: ${words} not answered.`, go: first(`flag-${open[0]}`) });
      }
    });
    for (const card of this.cards.filter((each) => each.rank === null)) {
      const go = () => (this.go(this.cards.length), this.focusCard(card));
      found.push({ text: `Completion ${card.letter} is not ranked.`, go });
    }
    return found;
  }

  // What is saved, sent and filled in again; absent means unanswered.

  collect() {
    const of = (read) => Object.fromEntries(this.cards.map((card) => [card.id, read(card)]).filter(([, value]) => value !== null && value !== ""));
    return {
      step: this.step,
      ratings: of((card) => card.rating),
      flags: of((card) => card.flags),
      notes: of((card) => card.note),
      ranks: of((card) => card.rank),
      annotation: annotation.collect(this.form),
    };
  }

  fill(body) {
    for (const card of this.cards) {
      card.rating = body.ratings?.[card.id] ?? null;
      card.rank = body.ranks?.[card.id] ?? null;
      card.noteField.value = body.notes?.[card.id] ?? "";
      for (const name of card.flagNames) card.setFlag(name, body.flags?.[card.id]?.[name]);
    }
    annotation.fill(this.form, body.annotation);
    this.show(Math.min(body.step ?? 0, this.cards.length));
  }

  answer() {
    const { ratings, flags, notes, ranks, annotation: said } = this.collect();
    return said ? { ratings, flags, notes, ranks, annotation: said } : { ratings, flags, notes, ranks };
  }

  start() {
    this.focusCard(this.current, false);
  }

  actions() {
    const both = null;
    const rate = ["rate"];
    const rank = ["rank"];
    const flags = this.cards[0].flagNames.map((name) => {
      const { text, key } = this.cards[0].section.querySelector(`[data-flag="${name}"]`).dataset;
      return { name: `flag-${name}`, text: `${text}: yes, again: no`, keys: [key], modes: rate, run: () => this.flag(name) };
    });
    const digits = (from, to) => Array.from({ length: to - from + 1 }, (_, place) => String(from + place));
    const last = Math.min(9, this.cards.length);
    return [
      { name: "next", text: "Next completion, then the ranking", keys: ["j", "ArrowRight"], modes: both, run: () => this.move(1) },
      { name: "previous", text: "Previous completion", keys: ["k", "ArrowLeft"], modes: both, run: () => this.move(-1) },
      { name: "rating", label: "1 – 7", text: "Rating", keys: digits(1, 7), modes: rate, run: (key) => this.digit(key) },
      { name: "all_no", text: "No to every flag that is open and always applies", keys: ["a"], modes: rate, run: () => this.allNo() },
      { name: "none_apply", text: "Hallucination and constraint, where open, do not apply", keys: ["x"], modes: rate, run: () => this.noneApply() },
      ...flags,
      { name: "notes", text: "Write a note", keys: ["n"], modes: rate, run: () => this.openNote() },
      { name: "ranking", text: "Go to the ranking", keys: ["r"], modes: rate, run: () => this.go(this.cards.length) },
      { name: "rank", label: `1 – ${last}, 0`, text: "Rank; the same number is a tie, 0 takes it back", keys: digits(0, last), modes: rank, run: (key) => this.digit(key) },
      { name: "up", text: "One rank better", keys: ["u"], modes: rank, run: () => this.ranking.up(this.current) },
      { name: "down", text: "One rank worse", keys: ["d"], modes: rank, run: () => this.ranking.down(this.current) },
      { name: "tie", text: "Tie with the next better one", keys: ["t"], modes: rank, run: () => this.ranking.tie(this.current) },
      { name: "back", text: "Back to rating and flags of this completion", keys: ["b"], modes: rank, run: () => this.go(this.cards.indexOf(this.current)) },
    ];
  }

  openNote() {
    this.current.noteField.closest("details").open = true;
    this.current.noteField.focus();
  }
}
