// The board: filters the table, draws the learning curves of the chosen runs, and keeps the choice when it is loaded anew.
// A browser may forbid a page from a file to keep anything; then nothing is kept.
const kept = {
  read(key) { try { return JSON.parse(sessionStorage.getItem("board " + key)); } catch { return null; } },
  write(key, value) { try { sessionStorage.setItem("board " + key, JSON.stringify(value)); } catch { /* see above */ } },
};
const SVG = "http://www.w3.org/2000/svg", COLORS = 7, DASHES = ["", "7 3", "2 3", "8 3 2 3"];
const HEIGHT = 250, LEFT = 46, RIGHT = 10, TOP = 8, BOTTOM = 26;
const CUT_SHARE = 0.9, CUT_MARGIN = 0.15; // the worst tenth is cut off where it would flatten what runs differ by
const allCurves = JSON.parse(document.getElementById("curves-data").textContent);

function element(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}
function ticksBetween(low, high, most) {
  const power = 10 ** Math.floor(Math.log10((high - low) / most));
  const step = [1, 2, 5, 10].map((scale) => scale * power).find((one) => (high - low) / one <= most + 1);
  const found = [];
  for (let number = Math.ceil(low / step - 1e-9); number * step <= high + 1e-9 * step; number++) found.push(number * step);
  return found;
}
function quantile(values, share) {
  const sorted = [...values].sort((one, other) => one - other);
  return sorted[Math.floor(share * (sorted.length - 1))];
}
function rangeOf(lines, isLoss) {
  const values = (first) => lines.flatMap((line) => line.points.filter((one) => one[0] >= first).map((one) => one[1]));
  const known = values(1).length > 1 ? values(1) : values(0); // epoch 0 is before training
  let low = Math.min(...known), high = Math.max(...known);
  const cut = quantile(known, isLoss ? CUT_SHARE : 1 - CUT_SHARE);
  if (isLoss) high = Math.min(high, cut + CUT_MARGIN * (cut - low) || high);
  else low = Math.max(low, cut - CUT_MARGIN * (high - cut) || low);
  const margin = Math.max(0.04 * (high - low), 1e-6 * Math.max(1, Math.abs(high)));
  return [low - margin, high + margin];
}
function drawChart(box, lines, isLoss) {
  const width = Math.max(box.clientWidth, 220);
  const drawing = element("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img" });
  drawing.setAttribute("aria-label", `${box.previousElementSibling.textContent} of ${lines.length} runs by epoch`);
  if (lines.length) {
    const [low, high] = rangeOf(lines, isLoss);
    const last = Math.max(1, ...lines.map((line) => line.points.at(-1)[0]));
    const xOf = (epoch) => LEFT + (epoch / last) * (width - LEFT - RIGHT);
    const within = (value) => Math.max(2 * low - high, Math.min(value, 2 * high - low)); // what is further out is cut off
    const yOf = (value) => HEIGHT - BOTTOM - ((within(value) - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
    for (const value of ticksBetween(low, high, 5)) {
      drawing.append(element("line", { x1: LEFT, x2: width - RIGHT, y1: yOf(value), y2: yOf(value), class: "grid-line" }));
      const text = Number(value.toPrecision(6)).toString();
      drawing.append(element("text", { x: LEFT - 6, y: yOf(value) + 4, "text-anchor": "end" }, text));
    }
    for (const value of ticksBetween(0, last, Math.max(2, Math.floor(width / 90))).filter(Number.isInteger)) {
      drawing.append(element("text", { x: xOf(value), y: HEIGHT - 8, "text-anchor": "middle" }, String(value)));
    }
    const name = `inside-${box.dataset.part}-${box.closest(".curves").dataset.number}`;
    const inside = element("rect", { x: LEFT, y: TOP, width: width - LEFT - RIGHT, height: HEIGHT - TOP - BOTTOM });
    drawing.append(element("clipPath", { id: name }, inside));
    const group = element("g", { "clip-path": `url(#${name})` });
    for (const line of lines) {
      const points = line.points.map(([epoch, value]) => `${xOf(epoch).toFixed(1)},${yOf(value).toFixed(1)}`);
      const style = { class: `run-line run-${line.slot % COLORS}`, "stroke-dasharray": dashOf(line.slot) };
      const drawn = points.length > 1
        ? element("polyline", { points: points.join(" "), ...style })
        : element("circle", { cx: points[0].split(",")[0], cy: points[0].split(",")[1], r: 3, ...style });
      drawn.append(element("title", {}, line.name));
      group.append(drawn);
    }
    drawing.append(group, element("text", { x: LEFT - 8, y: HEIGHT - 8, "text-anchor": "end" }, "epoch"));
  }
  box.replaceChildren(drawing);
}
function dashOf(slot) {
  return DASHES[Math.floor(slot / COLORS) % DASHES.length];
}
function legendOf(lines) {
  return lines.map((line) => {
    const item = document.createElement("li"), sample = element("svg", { width: 24, height: 8, "aria-hidden": "true" });
    sample.append(element("line", { x1: 0, x2: 24, y1: 4, y2: 4, class: `run-line run-${line.slot % COLORS}`, "stroke-dasharray": dashOf(line.slot) }));
    item.append(sample, line.name);
    return item;
  });
}
for (const table of document.querySelectorAll("table[data-number]")) {
  const number = table.dataset.number, curves = allCurves[number], boxes = [...table.querySelectorAll("input[data-run]")];
  const panel = document.querySelector(`.curves[data-number="${number}"]`);
  const slots = new Map(); // the number of a run's colour stays while the run is chosen
  const isChosen = (box) => box.checked && curves[box.dataset.run];
  const draw = () => {
    const chosen = boxes.filter(isChosen).map((box) => box.dataset.run);
    for (const name of [...slots.keys()]) if (!chosen.includes(name)) slots.delete(name);
    for (const name of chosen) {
      if (slots.has(name)) continue;
      const taken = new Set(slots.values());
      let slot = 0;
      while (taken.has(slot)) slot++;
      slots.set(name, slot);
    }
    kept.write(`chosen ${number}`, chosen);
    if (!panel) return;
    const linesOf = (index) => [...slots].sort((one, other) => one[1] - other[1]).map(([name, slot]) => {
      const own = curves[name], values = own[index];
      const points = values.map((value, row) => [own[0] ? own[0][row] : row, value]).filter((point) => point[1] !== null);
      return { name, slot, points };
    });
    panel.querySelector(".legend").replaceChildren(...legendOf(linesOf(1)));
    for (const box of panel.querySelectorAll(".chart")) {
      const isLoss = box.dataset.part === "loss";
      drawChart(box, linesOf(isLoss ? 1 : 2).filter((line) => line.points.length), isLoss);
    }
  };
  const before = kept.read(`chosen ${number}`);
  if (before) for (const box of boxes) box.checked = before.includes(box.dataset.run);
  table.addEventListener("change", draw);
  if (panel) {
    panel.querySelector(".clear").addEventListener("click", () => {
      for (const box of boxes) box.checked = false;
      draw();
    });
    let width = 0;
    new ResizeObserver(() => {
      if (panel.clientWidth === width) return;
      width = panel.clientWidth;
      draw();
    }).observe(panel);
  }
  draw();

  const filter = document.querySelector(`input.filter[data-number="${number}"]`);
  const show = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of table.tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    kept.write(`filter ${number}`, filter.value);
  };
  if (filter) {
    filter.value = kept.read(`filter ${number}`) ?? "";
    filter.addEventListener("input", show);
    show();
  }
  const sorted = kept.read(`sorted ${number}`), heads = [...table.tHead.rows[0].cells];
  if (table.dataset.sorted) heads[table.dataset.sorted].setAttribute("aria-sort", "descending");
  const headNow = () => heads.findIndex((head) => head.hasAttribute("aria-sort"));
  if (sorted) {
    const button = heads[sorted.column]?.querySelector("button");
    for (let click = 0; button && click < 2 && heads[sorted.column].getAttribute("aria-sort") !== sorted.direction; click++) button.click();
  }
  table.tHead.addEventListener("click", () => {
    const column = headNow();
    if (column >= 0) kept.write(`sorted ${number}`, { column, direction: heads[column].getAttribute("aria-sort") });
  });
}
