"use strict";
// Sorts a table by a column on a press on its head: ascending, descending, then the order of the paper.
function sortable(table) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const value = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
    const number = Number(cell.textContent);
    return cell.textContent.trim() !== "" && !Number.isNaN(number) ? number : null;
  };
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const next = { none: "ascending", ascending: "descending", descending: "none" }[head.getAttribute("aria-sort") || "none"];
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      if (next === "none") return body.append(...original);
      head.setAttribute("aria-sort", next);
      const sign = next === "ascending" ? 1 : -1;
      const asText = original.every((row) => value(row, column) === null);
      const sorted = [...original].sort((a, b) => {
        if (asText) return sign * a.cells[column].textContent.localeCompare(b.cells[column].textContent);
        const [x, y] = [value(a, column), value(b, column)];
        // Cells without a value come last in both directions.
        if (x === null || y === null) return (x === null) - (y === null);
        return sign * (x - y);
      });
      body.append(...sorted);
    });
  });
}
