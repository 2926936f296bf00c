"use strict";  // what the map pages share; each of them has a `page`, a `canvas` and a function `draw`

const $ = (selector) => document.querySelector(selector);
const radians = Math.PI / 180, earthRadiusKm = 6371.0088;
const ramps = {  // ColorBrewer RdBu, reversed; viridis
  component: ["053061", "2166ac", "4393c3", "92c5de", "d1e5f0", "f7f7f7", "fddbc7", "f4a582", "d6604d", "b2182b", "67001f"],
  similar: ["440154", "482878", "3e4989", "31688e", "26828e", "1f9e89", "35b779", "6ece58", "b5de2b", "fde725"],
};

async function unpack(base64, Type) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Type(await new Response(stream).arrayBuffer());
}

/* ---- similarity: a layer has codes, scales, means, count and norms ---------------------------------------------- */

const decoded = (component, row, layer = page) => layer.codes[component * layer.count + row] * layer.scales[component];

function norms(layer = page) {
  const squares = new Float32Array(layer.count);
  layer.means.forEach((mean, c) => {
    for (let row = 0; row < layer.count; row++) squares[row] += (decoded(c, row, layer) + mean) ** 2;
  });
  return squares.map((square) => Math.sqrt(square) || 1);
}

function similarities(chosen, layer = page) {
  const result = new Float32Array(layer.count), { codes, count } = layer;
  let constant = 0;
  layer.means.forEach((mean, c) => {
    const value = decoded(c, chosen, layer) + mean, factor = value * layer.scales[c], first = c * count;
    constant += value * mean;
    for (let row = 0; row < count; row++) result[row] += factor * codes[first + row];
  });
  return result.map((dot, row) => (dot + constant) / (layer.norms[row] * layer.norms[chosen]));
}

/* ---- colours: 32-bit ABGR numbers ------------------------------------------------------------------------------- */

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

/** Three shares in [0, 1] as red, green and blue, a quarter of the way towards their grey. */
function muted(shares) {
  const grey = 0.3 * shares[0] + 0.59 * shares[1] + 0.11 * shares[2];
  return shares.map((value) => Math.round(14 + 232 * (0.75 * value + 0.25 * grey)));
}

/* ---- the page --------------------------------------------------------------------------------------------------- */

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const number = (value, digits = 2) => value.toFixed(digits).replace("-", "−");
const percent = (value) => `${(100 * value).toFixed(1)} %`;

function element(tag, text = "", attributes = {}) {
  return Object.assign(document.createElement(tag), { textContent: text, ...attributes });
}

function setLegend(legend, ramp, labels) {
  legend.querySelector(".ramp").style.background = `linear-gradient(90deg, ${ramp.map((hex) => `#${hex}`)})`;
  legend.querySelectorAll("span").forEach((span, i) => { span.textContent = labels[i]; });
}

const pixelOf = (event) => {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) * canvas.width / box.width, (event.clientY - box.top) * canvas.height / box.height];
};

let waiting = false;
function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; draw(); });
}
