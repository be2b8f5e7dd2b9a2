"use strict";
(() => {
  const root = document.documentElement;
  const remember = (value) => { try { localStorage.setItem("meristem-theme", value); } catch { /* a file opened from disk may have no storage */ } };
  const recall = () => { try { return localStorage.getItem("meristem-theme"); } catch { return null; } };
  const asked = new URLSearchParams(location.search).get("theme") || recall();
  if (asked === "dark" || asked === "light") root.dataset.theme = asked;
  document.getElementById("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    remember(root.dataset.theme);
  });

  const key = (row, column) => {
    const cell = row.cells[column];
    if (!cell) return null;
    const text = cell.dataset.sort ?? cell.textContent.trim();
    if (text === "" || text === "–") return null;
    const value = Number(text);
    return Number.isNaN(value) ? text : value;
  };
  const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));

  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      if (!head.textContent.trim()) return;
      head.tabIndex = 0;
      head.setAttribute("role", "button");
      const sort = () => {
        const descending = head.getAttribute("aria-sort") !== "descending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", descending ? "descending" : "ascending");
        for (const body of table.tBodies) {
          if (body.className === "divider") continue;
          const rows = [...body.rows].map((row) => [key(row, column), row]);
          rows.sort(([a], [b]) => a === null ? 1 : b === null ? -1 : descending ? compare(b, a) : compare(a, b));
          body.append(...rows.map(([, row]) => row));
        }
      };
      head.addEventListener("click", sort);
      head.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(); } });
    });
  }
})();
