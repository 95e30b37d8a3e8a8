// Looks at the page from inside, as a browser shows it, and tells the page around it.
function channels(colour) {
  const [r, g, b, a = 1] = colour.match(/[\d.]+/g).map(Number);
  return { rgb: [r, g, b], alpha: a };
}

function luminance(rgb) {
  const [r, g, b] = rgb.map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function ground(element) {
  for (let at = element; at; at = at.parentElement) {
    const { rgb, alpha } = channels(getComputedStyle(at).backgroundColor);
    if (alpha === 1) return rgb;
  }
  return [255, 255, 255];
}

function contrast(element) {
  const style = getComputedStyle(element);
  const ink = channels(element instanceof SVGElement ? style.fill : style.color).rgb;
  const [low, high] = [luminance(ink), luminance(ground(element))].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}

function texts() {
  const own = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  return [...document.body.querySelectorAll("*")].filter((e) => own(e) && e.tagName !== "SCRIPT" && e.getClientRects().length);
}

function column(table, index) {
  return [...table.tBodies[0].rows].map((row) => row.cells[index].dataset.key);
}

function sorted(id, index) {
  const table = document.getElementById(id);
  const heading = table.tHead.rows[0].cells[index];
  const found = [];
  for (let press = 0; press < 2; press++) {
    heading.querySelector("button").click();
    found.push({ order: heading.getAttribute("aria-sort"), keys: column(table, index) });
  }
  return { found, others: [...table.tHead.rows[0].cells].filter((cell) => cell.hasAttribute("aria-sort")).length };
}

function look() {
  const worst = texts().map((e) => [contrast(e), e.textContent.slice(0, 40)]).sort((a, b) => a[0] - b[0]);
  const wide = [...document.querySelectorAll("p, li, figure, svg, dl, h1, h2, nav, figcaption")];
  return {
    width: innerWidth,
    overflow: document.documentElement.scrollWidth - innerWidth,
    outside: wide.filter((e) => e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 80)),
    background: getComputedStyle(document.body).backgroundColor,
    contrast: worst[0],
    tables: [...document.querySelectorAll(".scroll")].filter((e) => getComputedStyle(e).overflowX !== "auto").length,
    numbers: sorted("tasks", 1),
    matches: sorted("tasks", document.getElementById("tasks").tHead.rows[0].cells.length - 1),
    words: sorted("methods", 0),
  };
}

parent.postMessage(look(), "*");
