"use strict";
// Headings of sortable tables become buttons; without scripts they stay plain headings.
const collator = new Intl.Collator("en", { numeric: true });

function value(row, column) {
  const text = row.cells[column].textContent;
  const number = parseFloat(text.replace("−", "-").replace(/^< /, ""));
  return { absent: text === "–", number, text };
}

function compare(a, b, direction) {
  if (a.absent || b.absent) return a.absent - b.absent;
  const numbers = !Number.isNaN(a.number) && !Number.isNaN(b.number);
  return direction * (numbers && a.number !== b.number ? a.number - b.number : collator.compare(a.text, b.text));
}

function sort(table, heading) {
  const direction = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  const body = table.tBodies[0];
  const keyed = Array.from(body.rows, (row) => ({ row, key: value(row, heading.cellIndex) }));
  keyed.sort((a, b) => compare(a.key, b.key, direction));
  body.append(...keyed.map((entry) => entry.row));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
}

for (const table of document.querySelectorAll("table.sortable")) {
  for (const heading of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sort(table, heading));
    heading.append(button);
  }
}

// Paper has no closed details.
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details:not(.many)")) details.open = true;
});
