/* ---- words ------------------------------------------------------------------------------------------------ */

const degrees = (value, plus, minus) => `${+Math.abs(value).toFixed(2)}°\u00a0${value < 0 ? minus : plus}`;
const coordinates = ([lon, lat]) => `${degrees(lat, "N", "S")}, ${degrees(lon, "E", "W")}`;
const signed = (value) => (value > 0 ? "+" : "") + number(value, 3);

function describe(place, row) {
  const parts = [coordinates(place)];
  if (row === null) return `${parts[0]} · no data`;
  if (nameOf(row)) parts.push(nameOf(row));
  if (state.mode === "component") parts.push(`component ${state.component + 1}: ${signed(score(state.component, row))}`);
  if (state.mode === "asked") parts.push(`similarity ${number(asked().similarity[row], 3)}`);
  if (state.mode === "similar" && state.similarity) parts.push(`similarity ${number(state.similarity[row])}`);
  return parts.join(" · ");
}

function nearestDot(pixel) {
  let best = null, reach = 7 * devicePixelRatio;
  for (const overlay of visibleOverlays()) {
    overlay.lonlat.forEach((place, i) => {
      const [x, y] = toScreen(place), distance = Math.hypot(x - pixel[0], y - pixel[1]);
      if (distance < reach) [best, reach] = [[overlay.name, overlay.names?.[i]].filter(Boolean).join(": "), distance];
    });
  }
  return best;
}

function showComponent() {
  const reach = componentReach(state.component), shares = page.shares;
  $("#component").value = state.component + 1;
  $("#component-label").textContent =
    `Component ${state.component + 1} of ${shares.length} · ${percent(shares[state.component])} of variance`;
  [...$("#shares").children].forEach((bar, i) => bar.classList.toggle("on", i === state.component));
  setLegend($("[data-mode=component] .legend"), ramps.component, [`≤ ${signed(-reach)}`, "world mean", `≥ ${signed(reach)}`]);
}

function showSimilar() {
  if (state.row === null) return;
  const place = page.lonlat(state.row), middle = (state.limits[0] + state.limits[1]) / 2;
  $("#chosen").replaceChildren(element("strong", [nameOf(state.row), coordinates(place)].filter(Boolean).join(" · ")),
    " is compared with every place on the map.");
  setLegend($("#similarity-legend"), ramps.similar, [`≤ ${number(state.limits[0])}`, number(middle), number(1)]);
  $("#similarity-legend").hidden = $("#results").hidden = false;
  $("#similar").replaceChildren(...state.similar.map((row) => placeItem(row, number(state.similarity[row]))));
}

/** What was asked for, and the places most like it; they are looked at, not compared, so that the question stays. */
function showAsked() {
  const { similarity, similar, limits: [low, high] } = asked();
  const labels = [`≤ ${number(low, 3)}`, number((low + high) / 2, 3), number(high, 3)];
  setLegend($("#question-legend"), ramps.similar, labels);
  $("#found").replaceChildren(...similar.map((row) => placeItem(row, number(similarity[row], 3), mark)));
}

function placeItem(row, value, action = select) {
  const button = element("button", "", { type: "button", onclick: () => action(page.lonlat(row)) });
  const where = element("span", nameOf(row));
  where.append(element(nameOf(row) ? "small" : "span", coordinates(page.lonlat(row))));
  button.append(where, element("span", value));
  const item = element("li");
  item.append(button);
  return item;
}

/* ---- actions ---------------------------------------------------------------------------------------------- */

function setMode(mode) {
  state.mode = mode;
  $(`input[value=${mode}]`).checked = true;
  document.querySelectorAll("section[data-mode]").forEach((section) => { section.hidden = section.dataset.mode !== mode; });
  recolour();
  redraw();
}

function setComponent(component) {
  state.component = component;
  showComponent();
  setMode("component");
}

/** What a click does: mark the place and compare every other place with it. */
function select(place) {
  const row = rowAt(place);
  if (row !== null) {
    choose(row);
    showSimilar();
    setMode("similar");
    history.replaceState(null, "", `#${place.map((value) => +value.toFixed(2))}`);
  }
  mark(place);
}

/** Mark a place and say what is known of it. */
function mark(place) {
  state.marker = place;
  $("#readout").textContent = $("#announce").textContent = describe(place, rowAt(place));
  redraw();
}

function setQuestion(question) {
  state.question = question;
  showAsked();
  setMode("asked");
}

function selectHash() {
  const match = /^#(-?[\d.]+),(-?[\d.]+)$/.exec(location.hash);
  const place = match && [Number(match[1]), Number(match[2])];
  if (place && Math.abs(place[0]) <= 180 && Math.abs(place[1]) <= 90) select(place);
}

function moveMarker(columns, rows) {
  const { raster } = page, [lon, lat] = state.marker ?? [0, 0];
  const limit = 90 - 90 / raster.rows, moved = lat + rows * 180 / raster.rows;
  select([(lon + columns * 360 / raster.columns + 540) % 360 - 180, Math.min(limit, Math.max(-limit, moved))]);
}

function setZoom(zoom, at = [canvas.width / 2, canvas.height / 2]) {
  const before = frame().scale, offset = [at[0] - canvas.width / 2, canvas.height / 2 - at[1]];
  state.zoom = Math.min(maxZoom, Math.max(1, zoom));
  const after = frame().scale;
  pan(offset.map((value) => value / before - value / after));
  canvas.classList.toggle("zoomed", state.zoom > 1);
}

/** Move the centre, but never so far that space beside the world could be shown instead of the world. */
function pan(by) {
  const { halfWidth, halfHeight, scale } = frame(), halves = [halfWidth, halfHeight];
  const view = [canvas.width / 2 / scale, canvas.height / 2 / scale];
  state.centre = state.centre.map((value, axis) => {
    const limit = Math.max(0, halves[axis] - view[axis]);
    return Math.min(limit, Math.max(-limit, value + by[axis]));
  });
  redraw();
}

function resize() {
  const { width, height } = canvas.getBoundingClientRect();
  [canvas.width, canvas.height] = [width, height].map((size) => Math.max(1, Math.round(size * devicePixelRatio)));
  pan([0, 0]);
  draw();
}

/* ---- wiring ----------------------------------------------------------------------------------------------- */

function hover(pixel) {
  const place = toPlace(pixel);
  $("#readout").textContent = place ? nearestDot(pixel) ?? describe(place, rowAt(place)) : "";
}

function listenToPointer() {
  let from = null, moved = false;
  canvas.addEventListener("pointerdown", (event) => {
    [from, moved] = [pixelOf(event), false];
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const at = pixelOf(event), { scale } = frame();
    if (!from) return hover(at);
    if (!moved && Math.hypot(at[0] - from[0], at[1] - from[1]) < 4 * devicePixelRatio) return undefined;
    moved = true;
    canvas.classList.add("dragging");
    pan([(from[0] - at[0]) / scale, (at[1] - from[1]) / scale]);
    from = at;
    return undefined;
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, (event) => {
      const place = toPlace(pixelOf(event)), clicked = from && !moved && end === "pointerup";
      from = null;
      canvas.classList.remove("dragging");
      if (clicked && place) select(place);
    });
  }
  canvas.addEventListener("wheel", (event) => {
    if (state.zoom === 1 && event.deltaY > 0) return;  // the page scrolls on
    event.preventDefault();
    setZoom(state.zoom * 2 ** (-event.deltaY / 300), pixelOf(event));
  }, { passive: false });
}

function listenToKeys() {
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  const zooms = { "+": 2, "=": 2, "-": 0.5, 0: 0 };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in arrows) moveMarker(...arrows[event.key].map((step) => step * (event.shiftKey ? 10 : 1)));
    else if (event.key in zooms) setZoom(state.zoom * zooms[event.key]);
    else return;
    event.preventDefault();
  });
}

function listenToControls() {
  $("#modes").addEventListener("change", (event) => setMode(event.target.value));
  $("#question").addEventListener("change", (event) => setQuestion(event.target.selectedIndex));
  $("#component").addEventListener("input", (event) => setComponent(event.target.value - 1));
  $("#projection").addEventListener("change", (event) => { state.projection = event.target.value; pan([0, 0]); });
  document.querySelectorAll("[data-zoom]").forEach((button) => {
    button.addEventListener("click", () => setZoom(state.zoom * button.dataset.zoom));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { recolour(); redraw(); });
  addEventListener("hashchange", selectHash);
  new ResizeObserver(resize).observe(canvas);
}

function fillControls() {
  const { shares, dimensions, means, count } = page, total = shares.reduce((sum, value) => sum + value, 0);
  $("#component").max = shares.length;
  $("#shares").append(...shares.map((value) => element("i", "", { style: `height: ${100 * value / shares[0]}%` })));
  $("#channels").append(...["red", "green", "blue"].slice(0, shares.length).map((channel, i) => {
    const item = element("li"), end = (value) => `rgb(${muted([0, 1, 2].map((c) => (c === i ? value : 0.5)))})`;
    item.append(element("i", "", { style: `background: linear-gradient(90deg, ${end(0)}, ${end(1)})` }),
      element("span", `component ${i + 1}, ${channel}`), element("span", percent(shares[i])));
    return item;
  }));
  $("#asked-mode").hidden = !page.questions.length;
  $("#question").append(...page.questions.map(({ name }) => element("option", name)));
  $("#overlays").hidden = !page.points.length;
  $("#overlays").append(...page.points.map((overlay) => {
    const label = element("label"), box = element("input", "", { type: "checkbox", checked: true });
    box.onchange = () => { state.hidden[box.checked ? "delete" : "add"](overlay.name); redraw(); };
    label.append(box, element("i", "", { className: "dot", style: `background: ${overlayColour(overlay)}` }), overlay.name);
    return label;
  }));
  $("#facts").textContent = `${count.toLocaleString("en")} places; ${dimensions} dimensions, of which ${means.length} axes with `
    + `${percent(total)} of the variance are in this file, in 8 bits: 95 % of the similarities are true to `
    + `±${Math.max(page.cosine_error, 0.001).toFixed(3)}. Components and colours are weighted by area.`;
  $("#readout").textContent = "Click a place to see which others are like it";
}

async function start() {
  if (typeof DecompressionStream === "undefined") {
    $("#readout").textContent = "This browser is too old for this page: it needs one from 2023 or later.";
    return;
  }
  await readPage();
  fillControls();
  showComponent();
  if (page.questions.length) setQuestion(0);
  else setMode(state.mode);
  resize();
  listenToPointer();
  listenToKeys();
  listenToControls();
  selectHash();
  document.documentElement.dataset.ready = "true";
}

start();
