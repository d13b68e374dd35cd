// The demonstration: one text, written as the labeler would wish the model to answer.

import * as annotation from "./annotation.js";

export class Demonstration {
  constructor(form) {
    this.form = form;
    this.text = form.querySelector("[name=text]");
    this.count = form.querySelector("[data-count]");
    this.text.addEventListener("input", () => this.update());
    this.update();
  }

  mode = () => "write";
  actions = () => [];
  warnings = () => [];

  update() {
    const words = this.text.value.trim().split(/\s+/u).filter(Boolean).length;
    this.count.textContent = `${words} ${words === 1 ? "word" : "words"}, ${[...this.text.value].length} characters`;
  }

  collect() {
    return { text: this.text.value, annotation: annotation.collect(this.form) };
  }

  fill(body) {
    this.text.value = body.text ?? "";
    annotation.fill(this.form, body.annotation);
    this.update();
  }

  answer() {
    const { text, annotation: said } = this.collect();
    return said ? { text, annotation: said } : { text };
  }

  missing() {
    if (this.text.value.trim()) return [];
    return [{ text: "Nothing is written yet.", go: () => this.text.focus() }];
  }

  start() {
    this.text.focus({ preventScroll: true });
  }
}
