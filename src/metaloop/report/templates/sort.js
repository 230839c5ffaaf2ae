"use strict";
// Each header is a button, so the keyboard reaches it. A first press sorts numbers from high to low, text from A to Z.
for (const table of document.querySelectorAll("table.sortable")) {
  const headers = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const value = (row, column) => row.cells[column].dataset.value;
  const compare = (a, b, numeric) =>
    numeric ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true, sensitivity: "base" });
  headers.forEach((header, column) => {
    header.querySelector("button").addEventListener("click", () => {
      const numeric = header.classList.contains("number");
      const before = header.getAttribute("aria-sort");
      const up = before ? before === "descending" : !numeric;
      const rows = [...body.rows].sort((one, other) => {
        const [a, b] = [value(one, column), value(other, column)];
        const missing = (v) => v === "" || (numeric && Number.isNaN(Number(v)));
        if (missing(a) || missing(b)) return missing(a) - missing(b); // what is missing stays below, either way
        return up ? compare(a, b, numeric) : compare(b, a, numeric);
      });
      for (const other of headers) other.removeAttribute("aria-sort");
      header.setAttribute("aria-sort", up ? "ascending" : "descending");
      body.append(...rows);
    });
  });
}
