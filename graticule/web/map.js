"use strict";

const $ = (selector) => document.querySelector(selector);
const canvas = $("#map"), context = canvas.getContext("2d", { willReadFrequently: true });
const radians = Math.PI / 180, earthRadiusKm = 6371.0088, apartKm = 300, wanted = 10, maxZoom = 40;
const ramps = {  // ColorBrewer RdBu, reversed; viridis
  component: ["053061", "2166ac", "4393c3", "92c5de", "d1e5f0", "f7f7f7", "fddbc7", "f4a582", "d6604d", "b2182b", "67001f"],
  similar: ["440154", "482878", "3e4989", "31688e", "26828e", "1f9e89", "35b779", "6ece58", "b5de2b", "fde725"],
};
const dotColours = ["#e69f00", "#56b4e9", "#d55e00", "#009e73", "#cc79a7", "#f0e442", "#0072b2"];  // Okabe and Ito 2008

let page;  // what Python wrote, unpacked; never changes
const state = {
  mode: "colours", component: 0, projection: "equalEarth", zoom: 1, centre: [0, 0],
  marker: null, row: null, similarity: null, similar: [], limits: [0, 1], colours: null, hidden: new Set(),
};

/* ---- reading ---------------------------------------------------------------------------------------------- */

async function unpack(base64, Type) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Type(await new Response(stream).arrayBuffer());
}

async function readPage() {
  const data = JSON.parse($("#data").textContent);
  const places = await unpack(data.places.centidegrees, Int16Array);
  page = {
    ...data, count: data.places.count,
    codes: await unpack(data.codes, Int8Array),
    lonlat: (row) => [places[2 * row] / 100, places[2 * row + 1] / 100],
    cells: await unpack(data.raster.cells, data.raster.kind === "Uint16" ? Uint16Array : Uint32Array),
    nameRows: data.names && await unpack(data.names.rows, Uint32Array),
  };
  page.norms = norms();
}

const nameOf = (row) => (page.names ? page.names.labels[page.nameRows[row]] : "");
const score = (component, row) => page.codes[component * page.count + row] * page.scales[component];

/* ---- similarity ------------------------------------------------------------------------------------------- */

function norms() {
  const squares = new Float32Array(page.count);
  page.means.forEach((mean, c) => {
    for (let row = 0; row < page.count; row++) squares[row] += (score(c, row) + mean) ** 2;
  });
  return squares.map((square) => Math.sqrt(square) || 1);
}

function similarities(chosen) {
  const result = new Float32Array(page.count), { codes, count } = page;
  let constant = 0;
  page.means.forEach((mean, c) => {
    const value = score(c, chosen) + mean, factor = value * page.scales[c], first = c * count;
    constant += value * mean;
    for (let row = 0; row < count; row++) result[row] += factor * codes[first + row];
  });
  return result.map((dot, row) => (dot + constant) / (page.norms[row] * page.norms[chosen]));
}

function distanceKm([lonA, latA], [lonB, latB]) {
  const h = Math.sin((latB - latA) * radians / 2) ** 2
    + Math.cos(latA * radians) * Math.cos(latB * radians) * Math.sin((lonB - lonA) * radians / 2) ** 2;
  return 2 * earthRadiusKm * Math.asin(Math.sqrt(Math.min(1, h)));
}

/** The first rows of `order` that lie apart from the chosen one and from each other. */
function apart(chosen, order) {
  const kept = [chosen];
  for (const row of order) {
    if (kept.length > wanted) break;
    if (kept.every((other) => distanceKm(page.lonlat(row), page.lonlat(other)) >= apartKm)) kept.push(row);
  }
  return kept.slice(1);
}

function choose(row) {
  const similarity = similarities(row);
  const order = Uint32Array.from({ length: page.count }, (_, i) => i).sort((a, b) => similarity[b] - similarity[a]);
  const low = similarity[order[Math.floor(0.99 * (page.count - 1))]];
  Object.assign(state, { row, similarity, similar: apart(row, order), limits: [Math.min(low, 0.999), 1] });
}

/* ---- colours: one 32-bit ABGR number a place, and a last one for places without data ------------------------ */

const opaque = (r, g, b) => (255 << 24 | b << 16 | g << 8 | r) >>> 0;
const share = (value, low, high) => Math.min(1, Math.max(0, (value - low) / (high - low || 1)));

function rampTable(stops) {
  const rgb = stops.map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  return Uint32Array.from({ length: 256 }, (_, i) => {
    const position = i / 255 * (rgb.length - 1), at = Math.min(Math.floor(position), rgb.length - 2), part = position - at;
    return opaque(...rgb[at].map((from, channel) => Math.round(from + (rgb[at + 1][channel] - from) * part)));
  });
}
const tables = { component: rampTable(ramps.component), similar: rampTable(ramps.similar) };

function componentReach(component) {
  return Math.max(...page.limits[component].map(Math.abs)) || 1e-9;
}

/** Three shares in [0, 1] as red, green and blue, a quarter of the way towards their grey. */
function muted(shares) {
  const grey = 0.3 * shares[0] + 0.59 * shares[1] + 0.11 * shares[2];
  return shares.map((value) => Math.round(14 + 232 * (0.75 * value + 0.25 * grey)));
}

function pcaColour(row) {
  return opaque(...muted([0, 1, 2].map((component) => (component < page.limits.length
    ? share(score(component, row), ...page.limits[component]) : 0.5))));
}

function colourOf(row) {
  const { mode, component, similarity, limits } = state;
  if (mode === "component") {
    const reach = componentReach(component);
    return tables.component[Math.round(255 * share(score(component, row), -reach, reach))];
  }
  if (mode === "similar" && similarity) return tables.similar[Math.round(255 * share(similarity[row], ...limits))];
  return pcaColour(row);
}

function recolour() {
  state.colours = new Uint32Array(page.count + 1);
  for (let row = 0; row < page.count; row++) state.colours[row] = colourOf(row);
  const [r, g, b] = style("--void").match(/\w\w/g).map((hex) => parseInt(hex, 16));
  state.colours[page.count] = opaque(r, g, b);
}

/* ---- projections: x = longitude * stretch(latitude), y = y(latitude), in radians ----------------------------- */

const [a1, a2, a3, a4] = [1.340264, -0.081106, 0.000893, 0.003796];  // Equal Earth: Šavrič, Patterson, Jenny 2018
const equalEarthY = (t) => t * (a1 + a2 * t ** 2 + t ** 6 * (a3 + a4 * t ** 2));
const equalEarthSlope = (t) => a1 + 3 * a2 * t ** 2 + t ** 6 * (7 * a3 + 9 * a4 * t ** 2);
const parametric = (lat) => Math.asin(Math.sqrt(3) / 2 * Math.sin(lat));

function equalEarthLatitude(y) {
  let t = y;
  for (let i = 0; i < 8; i++) t -= (equalEarthY(t) - y) / equalEarthSlope(t);
  return Math.asin(Math.min(1, Math.max(-1, Math.sin(t) * 2 / Math.sqrt(3))));
}

const projections = {
  equalEarth: {
    y: (lat) => equalEarthY(parametric(lat)),
    latitude: equalEarthLatitude,
    stretch: (lat) => 2 / Math.sqrt(3) * Math.cos(parametric(lat)) / equalEarthSlope(parametric(lat)),
  },
  plateCarree: { y: (lat) => lat, latitude: (y) => y, stretch: () => 1 },
};

function frame() {
  const { y, stretch } = projections[state.projection], margin = 3 * devicePixelRatio;
  const halfWidth = Math.PI * stretch(0), halfHeight = y(Math.PI / 2);
  const fit = Math.min((canvas.width - 2 * margin) / (2 * halfWidth), (canvas.height - 2 * margin) / (2 * halfHeight));
  return { halfWidth, halfHeight, scale: fit * state.zoom };
}

function toScreen([lon, lat]) {
  const { y, stretch } = projections[state.projection], { scale } = frame();
  return [canvas.width / 2 + (lon * radians * stretch(lat * radians) - state.centre[0]) * scale,
    canvas.height / 2 - (y(lat * radians) - state.centre[1]) * scale];
}

/** The lon/lat under a canvas pixel, or null beside the world. */
function toPlace([px, py]) {
  const { latitude, stretch } = projections[state.projection], { scale, halfHeight } = frame();
  const y = state.centre[1] - (py - canvas.height / 2) / scale;
  if (Math.abs(y) > halfHeight) return null;
  const lat = latitude(y), lon = (state.centre[0] + (px - canvas.width / 2) / scale) / stretch(lat);
  return Math.abs(lon) > Math.PI ? null : [lon / radians, lat / radians];
}

/** The row drawn at a lon/lat, or null where the map is blank. */
function rowAt([lon, lat]) {
  const { rows, columns } = page.raster;
  const column = Math.min(columns - 1, Math.floor((lon + 180) / 360 * columns));
  const row = page.cells[Math.min(rows - 1, Math.floor((90 - lat) / 180 * rows)) * columns + column];
  return row === page.count ? null : row;
}

/* ---- drawing ---------------------------------------------------------------------------------------------- */

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function drawRaster() {
  const { latitude, stretch } = projections[state.projection], { scale, halfHeight } = frame();
  const { rows, columns } = page.raster, { width, height } = canvas;
  const image = context.createImageData(width, height), pixels = new Uint32Array(image.data.buffer);
  for (let py = 0; py < height; py++) {
    const y = state.centre[1] - (py + 0.5 - height / 2) / scale;
    if (Math.abs(y) > halfHeight) continue;
    const lat = latitude(y), perPixel = columns / (2 * Math.PI * scale * stretch(lat));
    const first = Math.min(rows - 1, Math.floor((0.5 - lat / Math.PI) * rows)) * columns;
    const left = columns / 2 + (state.centre[0] * scale - width / 2 + 0.5) * perPixel;
    for (let px = 0; px < width; px++) {
      const column = left + px * perPixel;
      if (column >= 0 && column < columns) pixels[py * width + px] = state.colours[page.cells[first + (column | 0)]];
    }
  }
  context.putImageData(image, 0, 0);
}

function strokePath(places, colour, width) {
  context.beginPath();
  places.forEach((place) => context.lineTo(...toScreen(place)));
  Object.assign(context, { strokeStyle: colour, lineWidth: width * devicePixelRatio });
  context.stroke();
}

function drawGraticule() {
  const colour = style("--net"), latitudes = Array.from({ length: 91 }, (_, i) => 2 * i - 90);
  for (let lon = -150; lon < 180; lon += 30) strokePath(latitudes.map((lat) => [lon, lat]), colour, 0.9);
  for (let lat = -60; lat < 90; lat += 30) strokePath([[-180, lat], [180, lat]], colour, lat ? 0.9 : 1.6);
  const edge = [...latitudes.map((lat) => [-180, lat]), ...latitudes.reverse().map((lat) => [180, lat]), [-180, -90]];
  strokePath(edge, style("--paper"), 3);
  strokePath(edge, style("--quiet"), 1);
}

/** Device pixels of a unit of a symbol: smaller symbols on a small map. */
const symbolSize = () => devicePixelRatio * Math.min(1, Math.max(0.6, canvas.width / devicePixelRatio / 700));

function drawDot(place, radius, fill, label) {
  const [x, y] = toScreen(place), size = symbolSize();
  context.beginPath();
  context.arc(x, y, radius * size, 0, 2 * Math.PI);
  Object.assign(context, { fillStyle: fill, strokeStyle: "#14181c", lineWidth: 1.4 * size });
  context.fill();
  context.stroke();
  if (!label) return;
  Object.assign(context, { fillStyle: "#14181c", textAlign: "center", textBaseline: "middle" });
  context.font = `600 ${10.5 * size}px system-ui, sans-serif`;
  context.fillText(label, x, y + 0.5 * size);
}

function drawMarker(place) {
  const [x, y] = toScreen(place), size = symbolSize();
  for (const [colour, width] of [["#14181c", 5], ["#ffffff", 2.2]]) {
    context.beginPath();
    context.arc(x, y, 7 * size, 0, 2 * Math.PI);
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(x + 7 * dx * size, y + 7 * dy * size);
      context.lineTo(x + 13 * dx * size, y + 13 * dy * size);
    }
    Object.assign(context, { strokeStyle: colour, lineWidth: width * size });
    context.stroke();
  }
}

const visibleOverlays = () => page.points.filter((overlay) => !state.hidden.has(overlay.name));
const overlayColour = (overlay) => dotColours[page.points.indexOf(overlay) % dotColours.length];

function draw() {
  drawRaster();
  drawGraticule();
  for (const overlay of visibleOverlays()) overlay.lonlat.forEach((place) => drawDot(place, 3, overlayColour(overlay)));
  if (state.mode === "similar") {
    [...state.similar].reverse().forEach((row, i, all) => drawDot(page.lonlat(row), 7.5, "#ffffff", `${all.length - i}`));
  }
  if (state.marker) drawMarker(state.marker);
}

let waiting = false;
function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; draw(); });
}

/* ---- words ------------------------------------------------------------------------------------------------ */

const degrees = (value, plus, minus) => `${+Math.abs(value).toFixed(2)}°\u00a0${value < 0 ? minus : plus}`;
const coordinates = ([lon, lat]) => `${degrees(lat, "N", "S")}, ${degrees(lon, "E", "W")}`;
const number = (value, digits = 2) => value.toFixed(digits).replace("-", "−");
const signed = (value) => (value > 0 ? "+" : "") + number(value, 3);
const percent = (value) => `${(100 * value).toFixed(1)} %`;

function element(tag, text = "", attributes = {}) {
  return Object.assign(document.createElement(tag), { textContent: text, ...attributes });
}

function describe(place, row) {
  const parts = [coordinates(place)];
  if (row === null) return `${parts[0]} · no data`;
  if (nameOf(row)) parts.push(nameOf(row));
  if (state.mode === "component") parts.push(`component ${state.component + 1}: ${signed(score(state.component, row))}`);
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

function setLegend(legend, ramp, labels) {
  legend.querySelector(".ramp").style.background = `linear-gradient(90deg, ${ramp.map((hex) => `#${hex}`)})`;
  legend.querySelectorAll("span").forEach((span, i) => { span.textContent = labels[i]; });
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
  $("#similar").replaceChildren(...state.similar.map((row) => {
    const button = element("button", "", { type: "button", onclick: () => select(page.lonlat(row)) });
    const where = element("span", nameOf(row));
    where.append(element(nameOf(row) ? "small" : "span", coordinates(page.lonlat(row))));
    button.append(where, element("span", number(state.similarity[row])));
    const item = element("li");
    item.append(button);
    return item;
  }));
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
  state.marker = place;
  if (row !== null) {
    choose(row);
    showSimilar();
    setMode("similar");
    history.replaceState(null, "", `#${place.map((value) => +value.toFixed(2))}`);
  }
  $("#readout").textContent = $("#announce").textContent = describe(place, row);
  redraw();
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

const pixelOf = (event) => {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) * canvas.width / box.width, (event.clientY - box.top) * canvas.height / box.height];
};

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
  setMode(state.mode);
  resize();
  listenToPointer();
  listenToKeys();
  listenToControls();
  selectHash();
  document.documentElement.dataset.ready = "true";
}

start();
