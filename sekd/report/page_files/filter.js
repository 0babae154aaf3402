// Shows the images of one dataset or kind.
const form = document.querySelector("form.filter");
const cases = [...document.querySelectorAll(".case")];
function filter() {
  const { dataset, kind } = form.elements;
  for (const element of cases) {
    element.hidden =
      (dataset.value && element.dataset.dataset !== dataset.value) ||
      (kind.value && element.dataset.kind !== kind.value);
  }
  const shown = cases.filter((element) => !element.hidden).length;
  form.querySelector("output").value = `${shown} of ${cases.length} images`;
}
if (form) {
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  filter();
}
