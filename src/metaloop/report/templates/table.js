"use strict";
// Each header is a button, so that the keyboard reaches it. The first press sorts numbers from high to low, text from A to Z.
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
        if (missing(a) || missing(b)) return missing(a) - missing(b); // missing values stay last in both directions
        return up ? compare(a, b, numeric) : compare(b, a, numeric);
      });
      for (const other of headers) other.removeAttribute("aria-sort");
      header.setAttribute("aria-sort", up ? "ascending" : "descending");
      body.append(...rows);
    });
  });
}

// Above a table: a search that keeps the rows with all of its words, and a menu for each column with few distinct texts.
for (const place of document.querySelectorAll(".filter")) {
  const table = document.getElementById(place.dataset.table);
  const rows = [...table.tBodies[0].rows];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const search = Object.assign(document.createElement("input"), { type: "search", placeholder: "words that a row must have" });
  search.setAttribute("aria-label", "Filter rows");
  const count = Object.assign(document.createElement("span"), { className: "count" });
  count.setAttribute("role", "status");
  const choices = [];
  [...table.tHead.rows[0].cells].forEach((header, column) => {
    if (header.classList.contains("number")) return;
    const values = [...new Set(rows.map((row) => row.cells[column].textContent))];
    if (values.length < 2 || values.length > 20) return;
    const choice = document.createElement("select");
    const name = header.textContent.trim();
    choice.setAttribute("aria-label", name);
    choice.append(new Option(`${name}: all`, ""), ...values.map((value) => new Option(value, `=${value}`)));
    choices.push([column, choice]);
  });
  const apply = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, i) => {
      const fits = choices.every(([column, choice]) => !choice.value || `=${row.cells[column].textContent}` === choice.value);
      row.hidden = !fits || !words.every((word) => texts[i].includes(word));
      shown += !row.hidden;
    });
    count.textContent = `${shown} of ${rows.length}`;
  };
  search.addEventListener("input", apply);
  for (const [, choice] of choices) choice.addEventListener("change", apply);
  place.append(search, ...choices.map(([, choice]) => choice), count);
  apply();
}
