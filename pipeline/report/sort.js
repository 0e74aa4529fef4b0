// Sorts the rows of a table by a click on the head of a column: numbers from the highest down, words from A, then the
// other way. A dash is not known and stays last; the summary below is a body of its own and stays where it is.
function valueOf(row, column, isNumber) {
  const cell = row.cells[column], data = cell.querySelector("data");
  if (data) return Number(data.value);
  if (isNumber) return null; // words among numbers say why there is none
  const text = cell.textContent.trim();
  return text === "–" || text === "" ? null : text;
}
function compare(one, other, direction) {
  if (one === null || other === null) return (one === null) - (other === null);
  const step = typeof one === "number" ? one - other : one.localeCompare(other, "en", { numeric: true });
  return direction * step;
}
for (const button of document.querySelectorAll("table.sorted thead button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th"), body = head.closest("table").tBodies[0], rows = [...body.rows];
    const isNumber = rows.some((row) => row.cells[head.cellIndex].querySelector("data"));
    const before = head.getAttribute("aria-sort") ?? (isNumber ? "ascending" : "descending");
    const direction = before === "ascending" ? -1 : 1;
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
    const values = new Map(rows.map((row) => [row, valueOf(row, head.cellIndex, isNumber)]));
    rows.sort((one, other) => compare(values.get(one), values.get(other), direction));
    body.append(...rows);
  });
}
