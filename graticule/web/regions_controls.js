/* ---- words ------------------------------------------------------------------------------------------------ */

const counted = (count, one, many) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

function detailOf(layer, row) {
  if (layer.labels) return layer.labels.labels[layer.labelRows[row]];
  return layer.counts ? counted(layer.counts[row], "entity", "entities") : "";
}

function describe(found) {
  if (!found) return "";
  const { layer, row } = found, chosen = state.mode === layer.name && state.chosen[layer.name];
  return [layer.ids[row], detailOf(layer, row), chosen && `similarity ${number(chosen.similarity[row])}`].filter(Boolean).join(" · ");
}

/** What the map shows in colours: its channels and, of entities, the mean colour of their most frequent labels. */
function showLayer() {
  const layer = entitiesShown() ? page.entities : page.regions;
  $("#zoom-in").hidden = layer !== page.regions || !page.entities;
  showScale();
  if (showLayer.shown === layer) return;
  showLayer.shown = layer;
  $("#layer").textContent = layer === page.regions
    ? "Each region has the colour of its vector: principal components of the standardised vectors drawn as red, green and blue."
    : "Each entity has the colour of what its vector says beside its surroundings: these are scaled down, and like entities "
      + "are laid out side by side in three dimensions, drawn as red, green and blue.";
  $("#channels").replaceChildren(...["red", "green", "blue"].slice(0, layer.colour_shares.length).map((channel, i) => {
    const item = element("li"), end = (value) => `rgb(${muted([0, 1, 2].map((c) => (c === i ? value : 0.5)))})`;
    item.append(element("i", "", { style: `background: linear-gradient(90deg, ${end(0)}, ${end(1)})` }),
      element("span", `component ${i + 1}, ${channel}`), element("span", percent(layer.colour_shares[i])));
    return item;
  }));
  $("#label-colours").hidden = !layer.labels;
  $("#label-colours ul").replaceChildren(...(layer.labels ? labelColours(layer) : []).map(({ label, count, rgb }) => {
    const item = element("li");
    item.append(element("i", "", { style: `background: rgb(${muted(rgb)})` }), element("span", label, { title: label }),
      element("small", count.toLocaleString("en")));
    return item;
  }));
}

function labelColours(layer, most = 14) {
  const sums = layer.labels.labels.map((label) => ({ label, count: 0, rgb: [0, 0, 0] }));
  layer.labelRows.forEach((label, row) => {
    sums[label].count += 1;
    for (const channel of [0, 1, 2]) sums[label].rgb[channel] += layer.rgb[3 * row + channel] / 255;
  });
  for (const sum of sums) sum.rgb = sum.rgb.map((value) => value / sum.count);
  return sums.filter(({ label }) => label).sort((a, b) => b.count - a.count).slice(0, most);
}

function showScale() {
  const metresPerPixel = devicePixelRatio / state.scale, most = 110 * metresPerPixel;
  const power = 10 ** Math.floor(Math.log10(most)), metres = power * [5, 2, 1].find((step) => step * power <= most);
  const bar = $("#scale span");
  bar.style.width = `${metres / metresPerPixel}px`;
  bar.textContent = metres >= 1000 ? `${metres / 1000} km` : `${+metres.toPrecision(1)} m`;
}

function showSimilar() {
  const layer = page[state.mode];
  if (!layer) return;
  const chosen = state.chosen[layer.name], one = layer === page.regions ? "a region" : "an entity";
  $("#similarity-legend").hidden = $("#results").hidden = !chosen;
  if (!chosen) {
    $("#chosen").textContent = `Click ${one} on the map to see which others are like it.`;
    return;
  }
  const { row, similarity, similar, limits } = chosen;
  $("#chosen").replaceChildren(element("strong", [layer.ids[row], detailOf(layer, row)].filter(Boolean).join(" · ")),
    ` is compared with ${counted(layer.count - 1, "other", "others")}.`);
  setLegend($("#similarity-legend"), ramps.similar, [`≤ ${number(limits[0])}`, number((limits[0] + limits[1]) / 2), number(1)]);
  $("#similar").replaceChildren(...similar.map((other) => {
    const button = element("button", "", { type: "button", onclick: () => flyTo(layer, other) });
    const name = element("span", layer.ids[other]);
    name.append(element("small", detailOf(layer, other)));
    button.append(name, element("span", number(similarity[other])));
    const item = element("li");
    item.append(button);
    return item;
  }));
}

/* ---- actions ---------------------------------------------------------------------------------------------- */

function setMode(mode) {
  Object.assign(state, { mode, hovered: null });
  $(`input[value=${mode}]`).checked = true;
  $("section[data-mode=colours]").hidden = mode !== "colours";
  $("section[data-mode=similar]").hidden = mode === "colours";
  showSimilar();
  recolour();
  showLayer();
  redraw();
}

/** What a click does: compare what lies under a canvas pixel with all others of its kind. */
function select(pixel) {
  const found = under(pixel);
  if (!found) return;
  choose(found.layer, found.row);
  setMode(found.layer.name);
  hover(pixel);
  $("#announce").textContent = describe(found);
}

function reset() {
  state.chosen = { regions: null, entities: null };
  setMode("colours");
}

function hover(pixel) {
  state.hovered = pixel && under(pixel);
  canvas.classList.toggle("pointing", Boolean(state.hovered));
  $("#readout").textContent = describe(state.hovered);
  redraw();
}

function flyTo(layer, row) {
  const closest = layer === page.regions ? Infinity : 2.5 * devicePixelRatio;
  const view = viewOf(layer.boxes.subarray(4 * row, 4 * row + 4), layer === page.regions ? 0.4 : 0.25);
  state.hovered = { layer, row };
  $("#readout").textContent = $("#announce").textContent = describe(state.hovered);
  fly({ ...view, scale: Math.min(view.scale, closest) });
  if (matchMedia("(max-width: 860px)").matches) canvas.scrollIntoView({ block: "nearest" });
}

function fly(to) {
  const from = { x: state.x, y: state.y, scale: state.scale }, start = performance.now();
  const duration = matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 600, flight = Symbol("flight");
  const step = (now) => {
    if (state.flight !== flight) return;
    const part = duration ? Math.min(1, Math.max(0, (now - start) / duration)) : 1, eased = part * part * (3 - 2 * part);
    const scale = from.scale * (to.scale / from.scale) ** eased;
    const along = Math.abs(to.scale / from.scale - 1) < 0.01 ? eased : (1 / from.scale - 1 / scale) / (1 / from.scale - 1 / to.scale);
    setView({ x: from.x + (to.x - from.x) * along, y: from.y + (to.y - from.y) * along, scale });
    if (part < 1) requestAnimationFrame(step);
    else state.flight = null;
  };
  state.flight = flight;
  requestAnimationFrame(step);
}

function zoomTo(factor) {
  state.flight = null;
  if (Number(factor)) zoomBy(factor);
  else setView(viewOf(page.whole, 0.94));
}

function resize() {
  const { width, height } = canvas.getBoundingClientRect(), whole = Math.abs(state.scale / state.fit - 1) < 0.01;
  const before = canvas.width;
  [canvas.width, canvas.height] = [width, height].map((size) => Math.max(1, Math.round(size * devicePixelRatio)));
  const fitted = viewOf(page.whole, 0.94);
  state.fit = fitted.scale;
  setView(whole ? fitted : { ...state, scale: state.scale * canvas.width / before });
  draw();
}

/* ---- wiring ----------------------------------------------------------------------------------------------- */

/** One pointer drags, two zoom, a short press chooses. */
function listenToPointers() {
  const pointers = new Map();
  let moved = false;
  canvas.addEventListener("pointerdown", (event) => {
    state.flight = null;
    moved = pointers.size > 0;
    pointers.set(event.pointerId, { at: pixelOf(event), start: pixelOf(event) });
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const at = pixelOf(event), held = pointers.get(event.pointerId);
    state.cross = false;
    if (!held) {
      hover(at);
      return;
    }
    if (!moved && Math.hypot(at[0] - held.start[0], at[1] - held.start[1]) < 5 * devicePixelRatio) return;
    moved = true;
    canvas.classList.add("dragging");
    const other = [...pointers.entries()].find(([id]) => id !== event.pointerId)?.[1].at;
    if (other) {
      const apart = (pixel) => Math.max(1, Math.hypot(pixel[0] - other[0], pixel[1] - other[1]));
      zoomBy(apart(at) / apart(held.at), other);
    } else {
      setView({ ...state, x: state.x - (at[0] - held.at[0]) / state.scale, y: state.y + (at[1] - held.at[1]) / state.scale });
    }
    held.at = at;
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, (event) => {
      const clicked = pointers.delete(event.pointerId) && !moved && end === "pointerup";
      if (!pointers.size) canvas.classList.remove("dragging");
      if (clicked) select(pixelOf(event));
    });
  }
  canvas.addEventListener("pointerleave", () => { if (!pointers.size) hover(null); });
  canvas.addEventListener("wheel", (event) => {
    if (state.scale <= 1.001 * state.fit && event.deltaY > 0) return;  // the page scrolls on
    event.preventDefault();
    state.flight = null;
    const factor = 2 ** (-event.deltaY / 300), least = state.fit / state.scale;
    zoomBy(factor < 1 ? Math.max(factor, least) : factor, pixelOf(event));
  }, { passive: false });
}

function listenToKeys() {
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  const zooms = { "+": 2, "=": 2, "-": 0.5, 0: 0 }, middle = () => [canvas.width / 2, canvas.height / 2];
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    state.cross = true;
    if (event.key in arrows) {
      const [dx, dy] = arrows[event.key], step = (event.shiftKey ? 0.02 : 0.1) * canvas.width / state.scale;
      state.flight = null;
      setView({ ...state, x: state.x + dx * step, y: state.y + dy * step });
    } else if (event.key in zooms) zoomTo(zooms[event.key]);
    else if (event.key === "Enter" || event.key === " ") select(middle());
    else return;
    event.preventDefault();
    hover(middle());
  });
  canvas.addEventListener("blur", () => { state.cross = false; redraw(); });
  addEventListener("keydown", (event) => { if (event.key === "Escape") reset(); });
}

function listenToControls() {
  $("#modes").addEventListener("change", (event) => setMode(event.target.value));
  $("#reset").addEventListener("click", reset);
  document.querySelectorAll("[data-zoom]").forEach((button) => {
    button.addEventListener("click", () => zoomTo(button.dataset.zoom));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  new ResizeObserver(resize).observe(canvas);
}

function factsOf(layer, one, many) {
  return `${counted(layer.count, one, many)}: ${layer.dimensions} dimensions, of which ${layer.means.length} axes are in `
    + `this file, in 8 bits; 95 % of the similarities are true to ±${Math.max(layer.cosine_error, 0.001).toFixed(3)}.`;
}

async function start() {
  if (typeof DecompressionStream === "undefined") {
    $("#readout").textContent = "This browser is too old for this page: it needs one from 2023 or later.";
    return;
  }
  await readPage();
  $("#modes").classList.toggle("both", Boolean(page.entities));
  $("#facts").textContent = [factsOf(page.regions, "region", "regions"),
    page.entities && factsOf(page.entities, "entity", "entities")].filter(Boolean).join(" ");
  state.scale = state.fit;
  recolour();
  resize();
  setMode(state.mode);
  $("#readout").textContent = "Click a region to see which others are like it";
  listenToPointers();
  listenToKeys();
  listenToControls();
  document.documentElement.dataset.ready = "true";
}

start();
