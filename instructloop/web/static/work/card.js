// One completion on the comparison page: its native controls are the one place where its answer lives.

const VALUES = { yes: true, no: false, none: null };
const WORDS = new Map([[true, "yes"], [false, "no"], [null, "none"]]);

export class Card {
  constructor(section) {
    this.section = section;
    this.id = section.dataset.completion;
    this.letter = section.dataset.letter;
    this.noteField = section.querySelector("textarea");
    this.flagNames = [...section.querySelectorAll("[data-flag]")].map((group) => group.dataset.flag);
  }

  radios(name) {
    return [...this.section.querySelectorAll(`input[name="${name}-${this.letter}"]`)];
  }

  checked(name) {
    return this.radios(name).find((radio) => radio.checked)?.value ?? null;
  }

  choose(name, value) {
    for (const radio of this.radios(name)) radio.checked = radio.value === String(value);
  }

  get rating() {
    return Number(this.checked("rating")) || null;
  }

  set rating(value) {
    this.choose("rating", value);
  }

  // Null while unranked.
  get rank() {
    return Number(this.checked("rank")) || null;
  }

  set rank(value) {
    this.choose("rank", value ?? "");
  }

  // true, false, null (does not apply), or undefined while unanswered.
  flag(name) {
    return VALUES[this.checked(`flag-${name}`)];
  }

  setFlag(name, value) {
    this.choose(`flag-${name}`, WORDS.get(value) ?? "");
  }

  canBeNone(name) {
    return this.radios(`flag-${name}`).some((radio) => radio.value === "none");
  }

  // Answered flags alone: what is not in it has not been answered.
  get flags() {
    const answered = this.flagNames.map((name) => [name, this.flag(name)]).filter(([, value]) => value !== undefined);
    return Object.fromEntries(answered);
  }

  get openFlags() {
    return this.flagNames.filter((name) => this.flag(name) === undefined);
  }

  get isJudged() {
    return this.rating !== null && this.openFlags.length === 0;
  }

  get note() {
    return this.noteField.value;
  }
}
