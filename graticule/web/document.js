"use strict";

/** Text as people sort it; what is missing comes last in both directions. */
const collator = new Intl.Collator("en", { numeric: true });

function compare(a, b, number, sign) {
  if (a.hasAttribute("data-missing") || b.hasAttribute("data-missing")) {
    return a.hasAttribute("data-missing") - b.hasAttribute("data-missing");
  }
  return sign * (number ? a.dataset.value - b.dataset.value : collator.compare(a.textContent, b.textContent));
}

function makeSortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const original = [...body.rows];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    const first = head.dataset.first;
    const second = first === "ascending" ? "descending" : "ascending";
    button.addEventListener("click", () => {
      const order = { [first]: second, [second]: null }[head.getAttribute("aria-sort")];
      const chosen = order === undefined ? first : order;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (chosen) head.setAttribute("aria-sort", chosen);
      const sign = chosen === "descending" ? -1 : 1;
      const number = head.classList.contains("number");
      const rows = chosen
        ? [...original].sort((a, b) => compare(a.cells[column], b.cells[column], number, sign))
        : original;
      body.append(...rows);
    });
  });
}

/** Marks the chapter that is read in the contents. */
function followReading() {
  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [decodeURIComponent(link.hash.slice(1)), link]));
  const mark = () => {
    const chapters = [...document.querySelectorAll(".chapter")];
    const passed = chapters.filter((chapter) => chapter.getBoundingClientRect().top < 120);
    const current = passed.at(-1) ?? chapters[0];
    links.forEach((link, id) => {
      if (id === current?.id) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    });
  };
  addEventListener("scroll", mark, { passive: true });
  mark();
}

document.querySelectorAll("table").forEach(makeSortable);
followReading();
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => { part.open = true; }));
document.documentElement.dataset.ready = "true";
