const filter = document.getElementById("category");
if (filter) {
  filter.closest("p").hidden = false;
  filter.addEventListener("change", () => {
    for (const sample of document.querySelectorAll(".sample"))
      sample.hidden = filter.value !== "" && sample.dataset.category !== filter.value;
  });
}
for (const button of document.querySelectorAll("button[data-unfold]")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const parts = document.querySelectorAll(`#${button.dataset.unfold} details`);
    const open = ![...parts].every((part) => part.open);
    for (const part of parts) part.open = open;
  });
}
window.addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details.print")) part.open = true;
});
