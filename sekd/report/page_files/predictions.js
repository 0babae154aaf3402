// Shows the images of one rank and node, from the most confident to the least or the other way round.
const form = document.querySelector("form.filter");
const cards = [...document.querySelectorAll(".case")];
function update() {
  const { order, rank, node } = form.elements;
  for (const card of cards) {
    card.hidden =
      (rank.value && card.dataset.rank !== rank.value) ||
      (node.value && !card.dataset.nodes.split(" ").includes(node.value));
  }
  document.querySelector(".cases").append(...(order.value === "up" ? cards.toReversed() : cards));
  const shown = cards.filter((card) => !card.hidden).length;
  form.querySelector("output").value = `${shown} of ${cards.length} images`;
}
if (form) {
  form.hidden = false;
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  update();
}
