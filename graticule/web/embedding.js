const canvas = $("#map"), context = canvas.getContext("2d", { willReadFrequently: true });
const apartKm = 300, wanted = 10, maxZoom = 40;
const dotColours = ["#e69f00", "#56b4e9", "#d55e00", "#009e73", "#cc79a7", "#f0e442", "#0072b2"];  // Okabe and Ito 2008

let page;  // what Python wrote, unpacked; never changes
const state = {
  mode: "colours", component: 0, projection: "equalEarth", zoom: 1, centre: [0, 0],
  marker: null, row: null, similarity: null, similar: [], limits: [0, 1], colours: null, hidden: new Set(), question: 0,
};

/* ---- reading ---------------------------------------------------------------------------------------------- */

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
  page.questions = await Promise.all(data.questions.map(async ({ name, similarity }) => (
    { name, ...ranked(Float32Array.from(await unpack(similarity, Int16Array), (value) => value / 32767)) })));
}

const nameOf = (row) => (page.names ? page.names.labels[page.nameRows[row]] : "");
const score = (component, row) => decoded(component, row) + page.middles[component];  // about the mean

/* ---- similarity ------------------------------------------------------------------------------------------- */

function distanceKm([lonA, latA], [lonB, latB]) {
  const h = Math.sin((latB - latA) * radians / 2) ** 2
    + Math.cos(latA * radians) * Math.cos(latB * radians) * Math.sin((lonB - lonA) * radians / 2) ** 2;
  return 2 * earthRadiusKm * Math.asin(Math.sqrt(Math.min(1, h)));
}

/** The first rows of `order` that lie apart from each other, and from the rows of `others`. */
function apart(order, others) {
  const kept = [...others];
  for (const row of order) {
    if (kept.length === others.length + wanted) break;
    if (kept.every((other) => distanceKm(page.lonlat(row), page.lonlat(other)) >= apartKm)) kept.push(row);
  }
  return kept.slice(others.length);
}

/** Similarities of all rows with the most similar ones, and the limits of their colours. */
function ranked(similarity, others = []) {
  const order = Uint32Array.from({ length: page.count }, (_, i) => i).sort((a, b) => similarity[b] - similarity[a]);
  const [low, high] = [0.99, 0].map((part) => similarity[order[Math.floor(part * (page.count - 1))]]);
  return { similarity, similar: apart(order, others), limits: [low, high] };
}

function choose(row) {
  const found = ranked(similarities(row), [row]);
  Object.assign(state, { ...found, row, limits: [Math.min(found.limits[0], 0.999), 1] });
}

const asked = () => page.questions[state.question];

/* ---- colours: one 32-bit ABGR number a place, and a last one for places without data ------------------------ */

function componentReach(component) {
  return Math.max(...page.limits[component].map(Math.abs)) || 1e-9;
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
  if (mode === "asked") return tables.similar[Math.round(255 * share(asked().similarity[row], ...asked().limits))];
  if (mode === "similar" && similarity) return tables.similar[Math.round(255 * share(similarity[row], ...limits))];
  return pcaColour(row);
}

function recolour() {
  state.colours = new Uint32Array(page.count + 1);
  for (let row = 0; row < page.count; row++) state.colours[row] = colourOf(row);
  const [r, g, b] = style("--void").match(/\w\w/g).map((hex) => parseInt(hex, 16));
  state.colours[page.count] = opaque(r, g, b);
}
