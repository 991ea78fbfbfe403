"use strict";
/* What the page does beyond being read. Without it everything is there: nothing is loaded, nothing is sent. */

const make = (name, attributes = {}, ...children) => {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
};

/* A place where screen readers hear what has changed. */
const spoken = make("p", { class: "unseen", role: "status" });
document.body.append(spoken);
const say = (text) => { spoken.textContent = text; };

/* Theme: as the system has it, or light, or dark. It is remembered where the browser lets a file remember things. */
const memory = {
  read() { try { return localStorage.getItem("tametail-theme"); } catch { return null; } },
  write(value) { try { localStorage.setItem("tametail-theme", value); } catch { /* then it is not remembered */ } },
};
const MEDIA = { system: "screen and (prefers-color-scheme: dark)", light: "not all", dark: "screen" };

const setTheme = (theme, buttons) => {
  document.getElementById("dark").media = MEDIA[theme];
  for (const button of buttons) button.setAttribute("aria-pressed", String(button.value === theme));
};

const addThemes = () => {
  const names = Object.keys(MEDIA);
  const buttons = names.map((name) => make("button", { type: "button", value: name }, name[0].toUpperCase() + name.slice(1)));
  const group = make("div", { class: "theme segments", role: "group", "aria-label": "Theme" }, ...buttons);
  for (const button of buttons) {
    button.addEventListener("click", () => { setTheme(button.value, buttons); memory.write(button.value); });
  }
  document.querySelector("#bar > div").append(group);
  const remembered = memory.read();
  setTheme(names.includes(remembered) ? remembered : "system", buttons);
};

/* Tables: a header with data-column sorts by that column. Numbers begin with the largest, what is undefined is last. */
const keyOf = (row, column) => {
  const cell = row.cells[column];
  return cell.dataset.v ?? cell.textContent.trim();
};

const compare = (a, b, numeric, sign) => {
  if (!numeric) return sign * a.localeCompare(b, undefined, { numeric: true });
  if (a === "" || b === "") return (a === "") - (b === "");
  return sign * (Number(a) - Number(b));
};

const sortBy = (table, header) => {
  const column = Number(header.dataset.column);
  const rows = [...table.tBodies[0].rows];
  const keys = new Map(rows.map((row) => [row, keyOf(row, column)]));
  const numeric = [...keys.values()].every((key) => key === "" || Number.isFinite(Number(key)));
  const before = header.getAttribute("aria-sort");
  const first = numeric ? "descending" : "ascending";
  const order = before ? (before === "ascending" ? "descending" : "ascending") : first;
  const sign = order === "ascending" ? 1 : -1;
  rows.sort((one, other) => compare(keys.get(one), keys.get(other), numeric, sign));
  table.tBodies[0].append(...rows);
  table.classList.add("resorted");
  for (const each of table.tHead.querySelectorAll("[aria-sort]")) each.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", order);
  say(`Sorted by ${header.dataset.name || header.textContent.trim()}, ${order}`);
};

const addSorting = () => {
  for (const header of document.querySelectorAll("th[data-column]")) {
    const button = make("button", { type: "button", title: "Sort by this column" });
    if (header.dataset.name) button.setAttribute("aria-label", header.dataset.name);
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => sortBy(header.closest("table"), header));
  }
};

/* Predictions: rows by the probability of one class, which each row then begins with. */
const sortByClass = (table, name, index) => {
  const bars = [...table.querySelectorAll("td.bars")];
  const values = new Map(bars.map((cell) => [cell.parentElement, cell.dataset.p?.split(" ")[index] ?? ""]));
  for (const cell of bars) {
    cell.querySelector(".asked")?.remove();
    const value = values.get(cell.parentElement);
    if (value !== "") cell.prepend(make("span", { class: "asked" }, `${name} ${(100 * value).toFixed(1)}`));
  }
  const rows = [...table.tBodies[0].rows].sort((one, other) => compare(values.get(one), values.get(other), true, -1));
  table.tBodies[0].append(...rows);
  for (const each of table.tHead.querySelectorAll("[aria-sort]")) each.removeAttribute("aria-sort");
  say(`Sorted by the probability of ${name}, descending`);
};

const addSortingByClass = () => {
  for (const table of document.querySelectorAll("table[data-classes]")) {
    const names = JSON.parse(table.dataset.classes);
    const select = make("select", {}, new Option("choose", "", true, true), ...names.map((name, index) => new Option(name, index)));
    select.options[0].disabled = true;
    table.closest("section").querySelector("fieldset").after(make("label", { class: "choice" }, "Sort by the probability of", select));
    select.addEventListener("change", () => sortByClass(table, names[select.value], select.value));
  }
};

const addFilterNews = () => {
  for (const box of document.querySelectorAll(".filtered")) {
    box.addEventListener("change", ({ target }) => {
      if (target.type !== "radio") return;
      const rows = [...box.querySelector("tbody").rows];
      say(`${rows.filter((row) => row.offsetParent !== null).length} of ${rows.length} ${box.dataset.rows || "classes"} shown`);
    });
  }
};

/* Images: a click, or Enter, shows one large; arrows go on to the next. */
const addGallery = () => {
  const figures = [...document.querySelectorAll(".gallery figure")];
  if (!figures.length || !window.HTMLDialogElement) return;
  const picture = make("img", { alt: "" });
  const caption = make("p", { id: "enlarged" });
  const button = (text) => make("button", { type: "button" }, text);
  const [previous, next, close] = ["‹ Previous", "Next ›", "Close"].map(button);
  const dialog = make("dialog", { "aria-labelledby": "enlarged" }, picture, caption, make("div", {}, previous, next, close));
  document.body.append(dialog);
  let shown = 0;
  const show = (index) => {
    shown = (index + figures.length) % figures.length;
    const small = figures[shown].querySelector("img");
    picture.src = small.src;
    picture.alt = small.alt;
    caption.textContent = `${small.alt} (${shown + 1} of ${figures.length})`;
  };
  figures.forEach((figure, index) => {
    const small = figure.querySelector("img");
    const opener = make("button", { type: "button", class: "zoom", "aria-haspopup": "dialog", title: "Enlarge" });
    small.replaceWith(opener);
    opener.append(small);
    opener.addEventListener("click", () => { show(index); dialog.showModal(); close.focus(); });
  });
  previous.addEventListener("click", () => show(shown - 1));
  next.addEventListener("click", () => show(shown + 1));
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) { event.preventDefault(); show(shown + step); }
  });
};

/* Texts to take away. */
const addCopying = () => {
  if (!navigator.clipboard) return;
  for (const text of document.querySelectorAll("pre[data-name]")) {
    const button = make("button", { type: "button", class: "copy", "aria-label": `Copy the ${text.dataset.name}` }, "Copy");
    const words = text.textContent;
    text.before(button);
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(words);
        say(`The ${text.dataset.name} is copied`);
        button.textContent = "Copied";
      } catch {
        say("The browser does not allow copying");
      }
    });
  }
};

/* On paper everything is open. */
const addPrinting = () => {
  let closed = [];
  window.addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const details of closed) details.open = true;
  });
  window.addEventListener("afterprint", () => { for (const details of closed) details.open = false; });
};

for (const add of [addThemes, addSorting, addSortingByClass, addFilterNews, addGallery, addCopying, addPrinting]) add();
