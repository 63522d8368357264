// Makes tables sortable, then builds the viewer and the plots of each data set.
for (const table of document.querySelectorAll("table.sortable")) sortable(table);
for (const part of document.querySelectorAll(".part")) {
  const data = JSON.parse(part.querySelector("script.data").textContent);
  const stores = [...part.querySelectorAll("script.pictures")];
  const root = part.querySelector(".viewer");
  const open = data.cases.length ? viewer(root, data, stores) : () => {};
  const plots = part.querySelector(".plots");
  for (const panel of data.plots) plot(plots, panel, plots.nextElementSibling, open);
}
