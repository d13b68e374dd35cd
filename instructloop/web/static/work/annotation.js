// What a labeler says of the prompt (Table 7 of the paper): native selects, "—" is unanswered and stays so.

const selects = (form) => [...form.querySelectorAll("select[data-annotation]")];
const WORD = { yes: true, no: false };

// Null where nothing was answered.
export function collect(form) {
  const fields = {};
  for (const select of selects(form)) if (select.value) fields[select.dataset.annotation] = WORD[select.value];
  const category = form.querySelector("[name=category]").value || null;
  return category || Object.keys(fields).length ? { category, fields } : null;
}

export function fill(form, annotation) {
  form.querySelector("[name=category]").value = annotation?.category ?? "";
  for (const select of selects(form)) {
    const value = annotation?.fields?.[select.dataset.annotation];
    select.value = value === true ? "yes" : value === false ? "no" : "";
  }
  if (annotation) form.querySelector("details.annotation").open = true;
}
