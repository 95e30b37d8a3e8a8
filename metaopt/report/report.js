// Sorts a table by a column when its heading is pressed; pressed again, the other way round.
document.documentElement.classList.add("js");

function compare(first, second) {
  const [a, b] = [Number(first), Number(second)];
  return Number.isNaN(a) || Number.isNaN(b) ? first.localeCompare(second, "en", { numeric: true }) : a < b ? -1 : a > b ? 1 : 0;
}

function sort(table, column, ascending) {
  const keyed = [...table.tBodies[0].rows].map((row) => ({ row, key: row.cells[column].dataset.key }));
  keyed.sort((first, second) => {
    if (first.key === "" || second.key === "") return (first.key === "") - (second.key === "");
    return ascending ? compare(first.key, second.key) : compare(second.key, first.key);
  });
  table.tBodies[0].append(...keyed.map(({ row }) => row));
}

for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const ascending = heading.getAttribute("aria-sort") !== "ascending";
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      sort(table, column, ascending);
    });
  });
}
