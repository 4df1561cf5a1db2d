"use strict";

// Without this script the page shows every row and every plot.

const table = document.getElementById("zoo");
const body = table.tBodies[0];
const headers = [...table.tHead.rows[0].cells];
const rows = [...body.rows];
const filters = {
  text: document.getElementById("filter-text"),
  family: document.getElementById("filter-family"),
  datasets: document.getElementById("filter-datasets"),
  licence: document.getElementById("filter-licence"),
};

/** The figure on the chosen data set; figures on different ones are never compared. */
function figureOf(cell) {
  const dataset = filters.datasets.value || table.dataset.yardstick;
  const told = [...cell.children].find((figure) => figure.dataset.on === dataset);
  return told ? Number(told.dataset.value) : null;
}

/** What a cell is sorted by: a number, a text, or null for a cell that tells nothing. */
function keyOf(row, column) {
  const cell = row.cells[column];
  if ("figures" in headers[column].dataset) return figureOf(cell);
  const told = cell.dataset.sort;
  if (told === "") return null;
  return told === undefined ? cell.textContent : Number(told);
}

function compare(one, other) {
  if (typeof one === "number") return one - other;
  return one.localeCompare(other, "en", { numeric: true });
}

/** Sort by a column; cells that tell nothing go last in either direction. */
function sortBy(column, descending) {
  const keyed = rows.map((row) => [keyOf(row, column), row]);
  keyed.sort(([one], [other]) => {
    if (one === null || other === null) return (one === null) - (other === null);
    return descending ? compare(other, one) : compare(one, other);
  });
  body.append(...keyed.map(([, row]) => row));
  for (const header of headers) header.removeAttribute("aria-sort");
  headers[column].setAttribute("aria-sort", descending ? "descending" : "ascending");
}

headers.forEach((header, column) => {
  header.querySelector("button").addEventListener("click", () => {
    sortBy(column, header.getAttribute("aria-sort") === "ascending");
  });
});

function applyFilters() {
  const words = filters.text.value.toLowerCase().split(/\s+/).filter(Boolean);
  const { family, datasets, licence } = filters;
  let shown = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    const fits =
      words.every((word) => text.includes(word)) &&
      (!family.value || row.dataset.family === family.value) &&
      (!datasets.value || row.dataset.datasets.split("|").includes(datasets.value)) &&
      (!licence.value || row.dataset.licence === licence.value);
    row.hidden = !fits;
    shown += fits;
  }
  document.getElementById("count").textContent = `${shown} of ${rows.length} shown`;
}

for (const filter of Object.values(filters)) filter.addEventListener("input", applyFilters);
filters.datasets.addEventListener("input", () => {
  const column = headers.findIndex((header) => header.hasAttribute("aria-sort"));
  if ("figures" in headers[column].dataset) {
    sortBy(column, headers[column].getAttribute("aria-sort") === "descending");
  }
});
document.getElementById("filters").addEventListener("submit", (event) => event.preventDefault());
applyFilters();

const protocol = document.getElementById("protocol");

function showPlot() {
  for (const figure of document.querySelectorAll("figure")) {
    figure.hidden = figure.id !== protocol.value;
  }
}

protocol.addEventListener("change", showPlot);
showPlot();
