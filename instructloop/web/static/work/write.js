// A prompt of one's own: pairs can be added, and what is typed is kept on this device until it is in the store.

import * as keep from "./keep.js";

const form = document.querySelector("form[data-keep]");
const id = form.dataset.keep;
const fields = () => [...form.querySelectorAll("textarea, input[type=text]")];
const box = form.querySelector("[data-pairs]");

function addPair() {
  const pairs = box.querySelectorAll(".pair");
  if (pairs.length >= Number(box.dataset.max)) return null;
  const pair = pairs[pairs.length - 1].cloneNode(true);
  pair.querySelector("legend").textContent = `Pair ${pairs.length + 1}`;
  for (const field of pair.querySelectorAll("textarea")) field.value = "";
  pairs[pairs.length - 1].after(pair);
  return pair;
}

const more = form.querySelector("[data-more]");
if (more) {
  more.hidden = false;
  more.addEventListener("click", () => addPair()?.querySelector("textarea").focus());
}

form.addEventListener("input", () => {
  keep.put("write", id, { values: fields().map((field) => field.value) });
  form.querySelector("[data-kept]").textContent = "Kept on this device";
});

// The page after a successful save is fresh: what was kept has arrived. One that came back with an error says so.
form.addEventListener("submit", () => sessionStorage.setItem("sent", id));
const wasSent = sessionStorage.getItem("sent") === id;
sessionStorage.removeItem("sent");
if (wasSent && !("refused" in form.dataset) && document.querySelector(".notice.good")) keep.remove("write", id);

const kept = keep.get("write", id)?.values;
if (kept?.some(Boolean) && fields().every((field) => !field.value)) {
  while (box && fields().length < kept.length && addPair());
  fields().forEach((field, place) => (field.value = kept[place] ?? ""));
  form.querySelector("[data-kept]").textContent = "Restored from this device";
}
