// Sorts a table by the column whose heading is pressed; without this script tables stay as they are.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const isRising = heading.ariaSort === "descending";
      for (const other of headings) other.ariaSort = null;
      heading.ariaSort = isRising ? "ascending" : "descending";
      const rows = [...table.tBodies].flatMap((body) => [...body.rows]);
      const valueOf = (row) => row.cells[index].dataset.value ?? row.cells[index].textContent.trim();
      rows.sort((first, second) => {
        const [a, b] = [valueOf(first), valueOf(second)];
        if (a === "" || b === "") return (a === "") - (b === "");
        const order = isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
        return isRising ? order : -order;
      });
      for (const cell of table.querySelectorAll(".again")) cell.classList.remove("again");
      const body = document.createElement("tbody");
      body.append(...rows);
      for (const old of [...table.tBodies]) old.remove();
      table.append(body);
    });
  });
}
