/* Layers, the view and the drawing. Coordinates are metres east and north of the middle of the map. */

const canvas = $("#map"), context = canvas.getContext("2d");
const point = 0, line = 1, area = 2, wanted = 10;
const mostPixelsPerMetre = 12, entitiesFrom = 1.8, entitiesMetresPerPixel = 4;  // at CSS pixels

let page;  // { regions, entities or null }
const state = {
  mode: "colours", x: 0, y: 0, scale: 1, fit: 1,  // scale: canvas pixels a metre
  chosen: { regions: null, entities: null }, hovered: null, cross: false,
};

/* ---- reading ---------------------------------------------------------------------------------------------- */

async function readLayer(entry, name, unit) {
  if (!entry) return null;
  const [kinds, rows, lengths, steps] = await Promise.all([unpack(entry.shapes.kinds, Uint8Array),
    unpack(entry.shapes.rows, Uint32Array), unpack(entry.shapes.lengths, Uint32Array), unpack(entry.shapes.steps, Int32Array)]);
  const layer = {
    ...entry, name, codes: await unpack(entry.codes, Int8Array), rgb: await unpack(entry.colours, Uint8Array),
    labelRows: entry.labels && await unpack(entry.labels.rows, Uint32Array),
    kinds: new Uint8Array(entry.count), boxes: new Float64Array(4 * entry.count), parts: [], paths: [], css: [],
  };
  const total = steps.length / 2, vertices = new Float64Array(steps.length);
  let x = 0, y = 0;
  for (let i = 0; i < total; i++) [vertices[2 * i], vertices[2 * i + 1]] = [(x += steps[i]) * unit, (y += steps[total + i]) * unit];
  for (let part = 0, first = 0; part < rows.length; first += lengths[part++]) {
    const own = layer.parts[rows[part]] ??= [];
    own.push({ kind: kinds[part], vertices: vertices.subarray(2 * first, 2 * (first + lengths[part])) });
  }
  layer.parts.forEach((parts, row) => {
    layer.kinds[row] = Math.max(...parts.map((part) => part.kind));
    layer.boxes.set(boxOf(parts), 4 * row);
  });
  layer.norms = norms(layer);
  return layer;
}

function boxOf(parts) {
  const box = [Infinity, Infinity, -Infinity, -Infinity];
  for (const { vertices } of parts) {
    for (let i = 0; i < vertices.length; i += 2) {
      box[0] = Math.min(box[0], vertices[i]);
      box[1] = Math.min(box[1], vertices[i + 1]);
      box[2] = Math.max(box[2], vertices[i]);
      box[3] = Math.max(box[3], vertices[i + 1]);
    }
  }
  return box;
}

async function readPage() {
  const data = JSON.parse($("#data").textContent);
  page = {
    regions: await readLayer(data.regions, "regions", data.unit_m),
    entities: await readLayer(data.entities, "entities", data.unit_m),
  };
  page.whole = wholeBox();
  if (page.entities) drawGroundAsLines(page.entities);
}

/** Areas that cover most of the map would hide it: they are drawn as lines. */
function drawGroundAsLines({ boxes, kinds, count }) {
  const [left, bottom, right, top] = page.whole, most = 0.4 * (right - left) * (top - bottom);
  for (let row = 0; row < count; row++) {
    const [west, south, east, north] = boxes.subarray(4 * row, 4 * row + 4);
    const covered = (Math.min(right, east) - Math.max(left, west)) * (Math.min(top, north) - Math.max(bottom, south));
    if (kinds[row] === area && covered > most) kinds[row] = line;
  }
}

/** Lines and rings of a shape as one path, in metres; made when it is first drawn. */
function pathOf(layer, row) {
  if (layer.paths[row]) return layer.paths[row];
  const path = new Path2D();
  for (const { kind, vertices } of layer.parts[row]) {
    if (kind === point) continue;
    for (let i = 0; i < vertices.length; i += 2) path[i ? "lineTo" : "moveTo"](vertices[i], vertices[i + 1]);
    if (kind === area) path.closePath();
  }
  layer.paths[row] = path;
  return path;
}

/* ---- similarity and colours ------------------------------------------------------------------------------- */

function choose(layer, row) {
  const similarity = similarities(row, layer);
  const order = Uint32Array.from({ length: layer.count }, (_, i) => i).sort((a, b) => similarity[b] - similarity[a]);
  const low = similarity[order[Math.floor(0.98 * (layer.count - 1))]];
  const similar = [...order.subarray(0, wanted + 1)].filter((other) => other !== row).slice(0, wanted);
  state.chosen[layer.name] = { row, similarity, similar, limits: [Math.min(low, 0.999), 1] };
}

const cssOf = (number) => `rgb(${number & 255} ${number >> 8 & 255} ${number >> 16 & 255})`;
const ownColour = (layer, row) => opaque(...muted([0, 1, 2].map((channel) => layer.rgb[3 * row + channel] / 255)));

function recolour() {
  for (const layer of [page.regions, page.entities]) {
    if (!layer) continue;
    const chosen = state.mode === layer.name ? state.chosen[layer.name] : null;
    for (let row = 0; row < layer.count; row++) {
      layer.css[row] = cssOf(chosen
        ? tables.similar[Math.round(255 * share(chosen.similarity[row], ...chosen.limits))] : ownColour(layer, row));
    }
  }
}

/* ---- the view --------------------------------------------------------------------------------------------- */

const toScreen = (x, y) => [canvas.width / 2 + (x - state.x) * state.scale, canvas.height / 2 - (y - state.y) * state.scale];
const toMetres = ([px, py]) => [state.x + (px - canvas.width / 2) / state.scale, state.y - (py - canvas.height / 2) / state.scale];
const closeUp = () => state.scale >= Math.max(entitiesFrom * state.fit, devicePixelRatio / entitiesMetresPerPixel);
const entitiesShown = () => Boolean(page.entities) && (state.mode === "entities" || closeUp());

/** The box around all regions. */
function wholeBox() {
  const { boxes, count } = page.regions, box = [Infinity, Infinity, -Infinity, -Infinity];
  for (let row = 0; row < count; row++) {
    for (const side of [0, 1]) {
      box[side] = Math.min(box[side], boxes[4 * row + side]);
      box[side + 2] = Math.max(box[side + 2], boxes[4 * row + side + 2]);
    }
  }
  return box;
}

/** The view in which a box fills a part of the canvas. */
function viewOf([left, bottom, right, top], part) {
  const scale = Math.min(canvas.width * part / Math.max(right - left, 1), canvas.height * part / Math.max(top - bottom, 1));
  return { x: (left + right) / 2, y: (bottom + top) / 2, scale };
}

const limitedScale = (scale) => Math.min(Math.max(mostPixelsPerMetre * devicePixelRatio, state.fit), Math.max(0.7 * state.fit, scale));

/** Move to a view whose middle is kept on the map. */
function setView({ x, y, scale }) {
  const [left, bottom, right, top] = page.whole;
  Object.assign(state, {
    scale: limitedScale(scale), x: Math.min(right, Math.max(left, x)), y: Math.min(top, Math.max(bottom, y)),
  });
  canvas.style.touchAction = state.scale > 1.05 * state.fit ? "none" : "";
  showLayer();
  redraw();
}

/** Zoom so that what lies under a canvas pixel stays there. */
function zoomBy(factor, at = [canvas.width / 2, canvas.height / 2]) {
  const [x, y] = toMetres(at), scale = limitedScale(state.scale * factor);
  setView({ x: x - (at[0] - canvas.width / 2) / scale, y: y + (at[1] - canvas.height / 2) / scale, scale });
}

/* ---- what lies under a pixel ------------------------------------------------------------------------------ */

function touches(layer, row, [px, py], [x, y], reach) {
  const { boxes } = layer, near = reach / state.scale;
  if (x < boxes[4 * row] - near || x > boxes[4 * row + 2] + near || y < boxes[4 * row + 1] - near || y > boxes[4 * row + 3] + near) return false;
  if (layer.kinds[row] === area) return context.isPointInPath(pathOf(layer, row), px, py, "evenodd");
  if (layer.kinds[row] === line) return context.isPointInStroke(pathOf(layer, row), px, py);
  return layer.parts[row].some(({ vertices }) => Math.hypot(vertices[0] - x, vertices[1] - y) <= near);
}

/** The last drawn row of a layer under a canvas pixel, or null. */
function rowAt(layer, pixel) {
  const place = toMetres(pixel), reach = 5 * devicePixelRatio;
  setMetres();
  context.lineWidth = 2 * reach / state.scale;
  for (let row = layer.count - 1; row >= 0; row--) if (touches(layer, row, pixel, place, reach)) return row;
  return null;
}

/** What a click on a canvas pixel chooses: { layer, row }, or null. */
function under(pixel) {
  const layers = state.mode === "colours" ? [entitiesShown() && page.entities, page.regions] : [page[state.mode]];
  for (const layer of layers.filter(Boolean)) {
    const row = rowAt(layer, pixel);
    if (row !== null) return { layer, row };
  }
  return null;
}

/* ---- drawing ---------------------------------------------------------------------------------------------- */

function setMetres() {
  const { scale, x, y } = state;
  context.setTransform(scale, 0, 0, -scale, canvas.width / 2 - x * scale, canvas.height / 2 + y * scale);
}

function visibleRows(layer) {
  const [left, top] = toMetres([0, 0]), [right, bottom] = toMetres([canvas.width, canvas.height]), { boxes } = layer, rows = [];
  for (let row = 0; row < layer.count; row++) {
    const at = 4 * row;
    if (boxes[at] <= right && boxes[at + 2] >= left && boxes[at + 1] <= top && boxes[at + 3] >= bottom) rows.push(row);
  }
  return rows;
}

function drawRegions() {
  const layer = page.regions, rows = visibleRows(layer);
  const filled = state.mode === "entities" ? 0 : state.mode === "colours" && entitiesShown() ? 0.16 : 1;
  context.globalAlpha = filled;
  if (filled) rows.forEach((row) => { context.fillStyle = layer.css[row]; context.fill(pathOf(layer, row), "evenodd"); });
  context.globalAlpha = 1;
  Object.assign(context, { strokeStyle: style("--edge"), lineWidth: 0.7 * devicePixelRatio / state.scale });
  rows.forEach((row) => context.stroke(pathOf(layer, row)));
}

function drawEntities() {
  const layer = page.entities, pixel = 1 / state.scale, ratio = devicePixelRatio, draft = state.mode === "regions";
  const edge = closeUp() && style("--edge"), ink = style("--draft"), width = 1.9 * Math.min(1.6, Math.max(0.55, 3 * state.scale / ratio));
  context.lineJoin = "round";
  for (const row of visibleRows(layer)) {
    const [left, bottom, right, top] = layer.boxes.subarray(4 * row, 4 * row + 4), kind = layer.kinds[row];
    const colour = draft ? ink : layer.css[row];
    Object.assign(context, { fillStyle: colour, strokeStyle: colour });
    if (kind === point) {
      if (draft) continue;
      for (const { vertices } of layer.parts[row]) drawPoint(vertices[0], vertices[1], (edge ? 2.8 : 1.3) * ratio * pixel, edge);
    } else if (Math.max(right - left, top - bottom) < 1.5 * pixel) {
      context.fillRect(left, bottom, 1.5 * pixel, 1.5 * pixel);
    } else if (kind === line) {
      context.lineWidth = (draft ? 0.6 : width) * ratio * pixel;
      context.stroke(pathOf(layer, row));
    } else {
      if (!draft) context.fill(pathOf(layer, row), "evenodd");
      if (!draft && !edge) continue;
      Object.assign(context, { strokeStyle: draft ? ink : edge, lineWidth: 0.5 * ratio * pixel });
      context.stroke(pathOf(layer, row));
    }
  }
}

function drawPoint(x, y, radius, edge) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
  if (!edge) return;
  Object.assign(context, { strokeStyle: edge, lineWidth: 0.25 * radius });
  context.stroke();
}

/** A dark line in a white one around a shape. */
function outline(layer, row, widths) {
  const pixel = devicePixelRatio / state.scale, [{ vertices }] = layer.parts[row];
  for (const [colour, width] of [["#ffffff", widths[0]], ["#14181c", widths[1]]]) {
    Object.assign(context, { strokeStyle: colour, lineWidth: width * pixel });
    if (layer.kinds[row] !== point) context.stroke(pathOf(layer, row));
    else { context.beginPath(); context.arc(vertices[0], vertices[1], 5 * pixel, 0, 2 * Math.PI); context.stroke(); }
  }
}

function middleOf(layer, row) {
  const [left, bottom, right, top] = layer.boxes.subarray(4 * row, 4 * row + 4);
  return [(left + right) / 2, (bottom + top) / 2];
}

function drawNumber(layer, row, label) {
  const [x, y] = toScreen(...middleOf(layer, row)), ratio = devicePixelRatio;
  context.beginPath();
  context.arc(x, y, 8 * ratio, 0, 2 * Math.PI);
  Object.assign(context, { fillStyle: "#ffffff", strokeStyle: "#14181c", lineWidth: 1.3 * ratio });
  context.fill();
  context.stroke();
  Object.assign(context, { fillStyle: "#14181c", textAlign: "center", textBaseline: "middle" });
  context.font = `600 ${10.5 * ratio}px system-ui, sans-serif`;
  context.fillText(label, x, y + 0.5 * ratio);
}

function drawCross() {
  const [x, y] = [canvas.width / 2, canvas.height / 2], ratio = devicePixelRatio;
  for (const [colour, width] of [["#14181c", 4], ["#ffffff", 1.6]]) {
    context.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(x + 4 * dx * ratio, y + 4 * dy * ratio);
      context.lineTo(x + 12 * dx * ratio, y + 12 * dy * ratio);
    }
    Object.assign(context, { strokeStyle: colour, lineWidth: width * ratio });
    context.stroke();
  }
}

function draw() {
  const layer = page[state.mode], chosen = layer && state.chosen[layer.name];
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  setMetres();
  drawRegions();
  if (entitiesShown()) drawEntities();
  if (state.hovered) outline(state.hovered.layer, state.hovered.row, [3, 1.4]);
  if (chosen) outline(layer, chosen.row, [6, 3]);
  context.setTransform(1, 0, 0, 1, 0, 0);
  if (chosen) [...chosen.similar].reverse().forEach((row, i, all) => drawNumber(layer, row, `${all.length - i}`));
  if (state.cross) drawCross();
}
