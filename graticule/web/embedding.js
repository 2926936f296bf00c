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
const decoded = (component, row) => page.codes[component * page.count + row] * page.scales[component];
const score = (component, row) => decoded(component, row) + page.middles[component];  // about the mean

/* ---- similarity ------------------------------------------------------------------------------------------- */

function norms() {
  const squares = new Float32Array(page.count);
  page.means.forEach((mean, c) => {
    for (let row = 0; row < page.count; row++) squares[row] += (decoded(c, row) + mean) ** 2;
  });
  return squares.map((square) => Math.sqrt(square) || 1);
}

function similarities(chosen) {
  const result = new Float32Array(page.count), { codes, count } = page;
  let constant = 0;
  page.means.forEach((mean, c) => {
    const value = decoded(c, chosen) + mean, factor = value * page.scales[c], first = c * count;
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
