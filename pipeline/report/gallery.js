// The gallery of the report: sorts thumbnails, and opens an image with its mask, prediction and errors in a dialog.
// A file has the four views below one another; each part of the dialog shows a quarter of it.
const thumbs = document.querySelector(".thumbs"), viewer = document.querySelector("dialog.viewer");
const by = document.querySelector("select.by"), turn = document.querySelector(".order .turn");
const stage = viewer.querySelector(".stage"), parts = viewer.querySelector(".parts");
const ZOOMS = [1, 1.5, 2, 3, 4, 6, 8];
let order = [...thumbs.children], shown = 0, zoom = 0, isRising = true;

function valueOf(thumb) {
  if (by.value === "-") return thumb.querySelector("small").textContent;
  const text = thumb.dataset.values.split(",")[Number(by.value)];
  return text === "-" ? null : Number(text);
}
function compare(one, other) {
  if (one === null || other === null) return (one === null) - (other === null);
  const step = typeof one === "number" ? one - other : one.localeCompare(other, "en", { numeric: true });
  return isRising ? step : -step;
}
function sort() {
  const values = new Map(order.map((thumb) => [thumb, valueOf(thumb)]));
  order.sort((one, other) => compare(values.get(one), values.get(other)));
  thumbs.append(...order);
  const names = by.value === "-" ? ["A first", "Z first"] : ["lowest first", "highest first"];
  turn.textContent = `${names[isRising ? 0 : 1]} \u21c5`;
}
function rises() {
  return by.value !== "1"; // the worst first: a low score, but much that is wrong
}
by.addEventListener("change", () => { isRising = rises(); sort(); });
turn.addEventListener("click", () => { isRising = !isRising; sort(); });

function setZoom(next, at = null) {
  const before = ZOOMS[zoom];
  zoom = Math.min(Math.max(next, 0), ZOOMS.length - 1);
  const ratio = ZOOMS[zoom] / before, box = stage.getBoundingClientRect();
  const x = at ? at.clientX - box.left : box.width / 2, y = at ? at.clientY - box.top : box.height / 2;
  const left = (stage.scrollLeft + x) * ratio - x, top = (stage.scrollTop + y) * ratio - y;
  parts.style.setProperty("--zoom", ZOOMS[zoom]);
  parts.classList.toggle("pixels", ZOOMS[zoom] >= 3);
  stage.scrollTo(left, top);
}
function setView(view) {
  parts.dataset.view = view;
  for (const button of viewer.querySelectorAll("[data-view]")) {
    if (button !== parts) button.setAttribute("aria-pressed", button.dataset.view === String(view));
  }
}
function show(index) {
  shown = (index + order.length) % order.length;
  const thumb = order[shown], [width, height] = thumb.dataset.shape.split("/").map(Number);
  parts.style.setProperty("--shape", width / height);
  for (const image of parts.querySelectorAll("img")) image.src = thumb.getAttribute("href");
  const [score, wrong] = [...thumb.querySelector("span").childNodes].map((node) => node.textContent.trim());
  const text = `${thumb.querySelector("small").textContent}  score ${score}, ${wrong} wrong`;
  viewer.querySelector(".name").textContent = `${text}  (${shown + 1} of ${order.length})`;
}
thumbs.addEventListener("click", (event) => {
  const thumb = event.target.closest("a");
  if (!thumb || event.ctrlKey || event.metaKey || event.shiftKey) return; // those open the file itself
  event.preventDefault();
  setZoom(0);
  show(order.indexOf(thumb));
  viewer.showModal();
  stage.focus();
});
viewer.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (event.target === viewer || button?.dataset.close !== undefined) viewer.close();
  else if (button?.dataset.step) show(shown + Number(button.dataset.step));
  else if (button?.dataset.view) setView(button.dataset.view);
  else if (button?.dataset.zoom) setZoom(zoom + Number(button.dataset.zoom));
});
viewer.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "ArrowLeft") show(shown - 1);
  else if (event.key === "ArrowRight") show(shown + 1);
  else if (event.key === "+" || event.key === "=") setZoom(zoom + 1);
  else if (event.key === "-") setZoom(zoom - 1);
  else if (/^[0-4]$/.test(event.key)) setView(event.key);
  else return;
  event.preventDefault();
});
viewer.addEventListener("close", () => order[shown].focus());
stage.addEventListener("wheel", (event) => {
  if (!event.ctrlKey) return; // the wheel alone scrolls; with Ctrl, and with two fingers, it zooms
  event.preventDefault();
  setZoom(zoom + (event.deltaY < 0 ? 1 : -1), event);
}, { passive: false });
let drag = null;
stage.addEventListener("pointerdown", (event) => {
  if (event.pointerType === "mouse") drag = [event.clientX + stage.scrollLeft, event.clientY + stage.scrollTop];
});
stage.addEventListener("pointermove", (event) => {
  if (drag && event.buttons) stage.scrollTo(drag[0] - event.clientX, drag[1] - event.clientY);
});
stage.addEventListener("dragstart", (event) => event.preventDefault());
setView(0);
sort();
