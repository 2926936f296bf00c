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
