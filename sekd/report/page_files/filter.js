const form = document.querySelector("form.filter");
const cases = [...document.querySelectorAll(".case")];
function filter() {
  const { dataset, kind } = form.elements;
  for (const each of cases) {
    each.hidden =
      (dataset.value && each.dataset.dataset !== dataset.value) ||
      (kind.value && each.dataset.kind !== kind.value);
  }
  const shown = cases.filter((each) => !each.hidden).length;
  form.querySelector("output").value = `${shown} of ${cases.length} images`;
}
form.hidden = false;
form.addEventListener("input", filter);
form.addEventListener("submit", (event) => event.preventDefault());
filter();
