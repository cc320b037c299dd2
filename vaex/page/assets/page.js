
// --- content -------------------------------------------------------------------------------------------------------
const content = JSON.parse(document.getElementById("data").textContent);
const bytes = Uint8Array.from(atob(content.blob), (c) => c.charCodeAt(0)).buffer;
const byId = (name) => document.getElementById(name);

function fromHalf(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

function arrayOf(place) {
  if (place.dtype === "float32") return new Float32Array(bytes, place.offset, place.length);
  const integers = new Uint16Array(bytes, place.offset, place.length);
  return place.dtype === "float16" ? Float32Array.from(integers, fromHalf) : integers;
}

function rowsOf(place) {
  const values = arrayOf(place), size = place.length / place.shape[0];
  return Array.from({ length: place.shape[0] }, (_, i) => values.slice(i * size, (i + 1) * size));
}

const { controls, shape } = content, live = content.decoder.kind === "program";
const examples = rowsOf(content.examples.x), exampleCodes = rowsOf(content.examples.codes).map((z) => Float32Array.from(z));
const labels = (content.examples.labels || []).map((label) => Math.max(0, label));
const base = exampleCodes[0];
const state = { z: Float32Array.from(base), label: labels[0] || 0, ends: [0, Math.min(1, exampleCodes.length - 1)] };

// --- decoder -------------------------------------------------------------------------------------------------------
function tableDecoder({ codes, values, low, scale }) {
  const z = rowsOf(codes), x = arrayOf(values), size = x.length / z.length;
  return (code) => { // the nearest code of the table
    let best = 0, least = Infinity;
    for (let i = 0; i < z.length; i++) {
      let distance = 0;
      for (let j = 0; j < code.length && distance < least; j++) distance += (z[i][j] - code[j]) ** 2;
      if (distance < least) { best = i; least = distance; }
    }
    return Float32Array.from(x.subarray(best * size, (best + 1) * size), (value) => low + scale * value);
  };
}

function programDecoder(program) {
  const run = compileProgram(program, Object.fromEntries(program.constants.map((place) => [place.number, arrayOf(place)])));
  return (z, label) => (program.inputs.length > 1 ? run(z, [label]) : run(z));
}

const decode = live ? programDecoder(content.decoder) : tableDecoder(content.decoder);

// --- drawing -------------------------------------------------------------------------------------------------------
const isImage = shape.length === 3 && [1, 3].includes(shape[2]), isFilm = shape.length === 4 && [1, 3].includes(shape[3]);
const [low, high] = content.range;
const byteOf = (value) => Math.max(0, Math.min(255, Math.round((255 * (value - low)) / (high - low))));

function sizeOfPicture() {
  if (isImage) return [shape[1], shape[0]];
  return isFilm ? [shape[2] * shape[0], shape[1]] : [160, 96];
}

function paintPixels(context, x, left, top) {
  const frames = isFilm ? shape[0] : 1, [h, w, c] = isFilm ? shape.slice(1) : shape, picture = context.createImageData(w, h);
  for (let frame = 0; frame < frames; frame++) {
    for (let i = 0; i < h * w; i++) {
      for (let k = 0; k < 3; k++) picture.data[4 * i + k] = byteOf(x[(frame * h * w + i) * c + (c === 1 ? 0 : k)]);
      picture.data[4 * i + 3] = 255;
    }
    context.putImageData(picture, left + frame * w, top);
  }
}

// other shapes: a line for each column, over the first axis
function paintLines(context, x, left, top) {
  const [width, height] = sizeOfPicture(), columns = shape.length > 1 ? x.length / shape[0] : 1, rows = x.length / columns;
  context.fillStyle = "#fff";
  context.fillRect(left, top, width, height);
  for (let column = 0; column < Math.min(columns, 8); column++) {
    context.strokeStyle = `hsl(${215 + 47 * column} 65% 42%)`;
    context.beginPath();
    for (let i = 0; i < rows; i++) {
      const at = (x[i * columns + column] - low) / (high - low);
      context.lineTo(left + 3 + ((width - 6) * i) / Math.max(1, rows - 1), top + height - 3 - (height - 6) * at);
    }
    context.stroke();
  }
}

const paintAt = isImage || isFilm ? paintPixels : paintLines;

function paint(canvas, x) {
  [canvas.width, canvas.height] = sizeOfPicture();
  paintAt(canvas.getContext("2d"), x, 0, 0);
}

const element = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};

// --- codes ---------------------------------------------------------------------------------------------------------
function valueOf(control, z) {
  if (control.kind !== "categorical") return z[control.at];
  const block = Array.from(z.subarray(control.start, control.stop));
  return block.indexOf(Math.max(...block));
}

function normalised(z) {
  for (const control of controls.filter(({ kind }) => kind === "sphere")) {
    const block = z.subarray(control.start, control.stop), norm = Math.max(Math.hypot(...block), 1e-12);
    for (let i = 0; i < block.length; i++) block[i] /= norm;
  }
  return z;
}

function moved(z, control, value) {
  const code = Float32Array.from(z);
  if (control.kind === "categorical") {
    for (let i = control.start; i < control.stop; i++) code[i] = +(i - control.start === value);
    return code;
  }
  code[control.at] = value;
  return control.kind === "sphere" ? normalised(code) : code;
}

function normal() {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

function drawnFromPrior() {
  let z = Float32Array.from(base, normal);
  for (const control of controls.filter(({ kind }) => kind === "categorical")) {
    z = moved(z, control, Math.floor(Math.random() * (control.high + 1)));
  }
  return normalised(z);
}

function between(first, second, t, curve) {
  const dot = first.reduce((sum, value, i) => sum + value * second[i], 0), norms = Math.hypot(...first) * Math.hypot(...second);
  const angle = Math.acos(Math.max(-1, Math.min(1, dot / (norms || 1))));
  const weights = curve === "spherical" && angle > 1e-4 && angle < Math.PI - 1e-4
    ? [Math.sin((1 - t) * angle) / Math.sin(angle), Math.sin(t * angle) / Math.sin(angle)] : [1 - t, t];
  return normalised(Float32Array.from(first, (value, i) => weights[0] * value + weights[1] * second[i]));
}

// --- sliders -------------------------------------------------------------------------------------------------------
const shown = { x: null, milliseconds: 0 };
const digits = (value) => (value.toFixed(2) === "-0.00" ? "0.00" : value.toFixed(2).replace("-", "\u2212"));
let redrawPlane = () => {};

function show() {
  const start = performance.now();
  shown.x = decode(state.z, state.label);
  paint(byId("image"), shown.x);
  shown.milliseconds = performance.now() - start;
  byId("status").textContent = live ? `Decoded here in ${shown.milliseconds.toFixed(1)} ms.` : "From a table.";
}

const rows = controls.map((control, index) => {
  const name = `latent-${index}`;
  const input = element("input", { type: "range", id: name, min: control.low, max: control.high, step: control.step });
  const output = element("output");
  output.htmlFor = name;
  input.addEventListener("input", () => {
    state.z = moved(live ? state.z : base, control, Number(input.value));
    if (!live || control.kind === "sphere") refresh(); else { output.textContent = written(control); show(); }
  });
  input.addEventListener("change", () => redrawPlane());
  const nats = control.kl === null ? "" : `${control.kl.toFixed(2)} nats`;
  const bar = element("div", { className: "bar" }, element("div"));
  const most = Math.max(...controls.map(({ kl }) => kl || 0), 1e-9);
  bar.firstChild.style.width = `${(100 * Math.max(0, control.kl || 0)) / most}%`;
  const label = element("label", { textContent: control.name });
  label.htmlFor = name;
  byId("sliders").append(element("div", { className: "latent" }, label, input, output, ...(nats
    ? [bar, element("span", { className: "nats", textContent: nats })] : [])));
  return { control, input, output };
});

const written = (control) => {
  const value = valueOf(control, state.z);
  return control.kind === "categorical" ? String(value) : digits(value);
};

function refresh() {
  for (const { control, input, output } of rows) {
    input.value = valueOf(control, state.z);
    output.textContent = written(control);
  }
  if (content.labels.length) byId("label").value = state.label;
  show();
}

function take(z, label = state.label) {
  state.z = Float32Array.from(z);
  state.label = label;
  refresh();
  redrawPlane();
}

// --- examples and paths --------------------------------------------------------------------------------------------
const reconstructions = exampleCodes.map((z, i) => decode(z, labels[i] || 0));
const slots = [...document.querySelectorAll(".slot")];

function fill(slot, index) {
  state.ends[slot] = index;
  showPath();
}

function draggable(button, index) {
  button.addEventListener("keydown", (event) => {
    const slot = "ab".indexOf(event.key.toLowerCase());
    if (slot >= 0 && event.key.length === 1) fill(slot, index);
  });
  button.addEventListener("click", (event) => {
    if (button.wasDragged) event.preventDefault(); else take(exampleCodes[index], labels[index] || 0);
  });
  button.addEventListener("pointerdown", (down) => {
    button.wasDragged = false;
    let ghost = null;
    const target = (event) => { const under = document.elementFromPoint(event.clientX, event.clientY); return under && under.closest(".slot"); };
    const move = (event) => {
      if (!ghost && Math.hypot(event.clientX - down.clientX, event.clientY - down.clientY) > 5) {
        ghost = element("canvas", { className: "ghost" });
        paint(ghost, examples[index]);
        document.body.append(ghost);
        button.wasDragged = true;
      }
      if (!ghost) return;
      ghost.style.left = `${event.clientX + 4}px`;
      ghost.style.top = `${event.clientY + 4}px`;
      for (const slot of slots) slot.classList.toggle("over", slot === target(event));
    };
    const end = (event) => {
      for (const [name, listener] of [["pointermove", move], ["pointerup", end], ["pointercancel", end]]) removeEventListener(name, listener);
      for (const slot of slots) slot.classList.remove("over");
      if (!ghost) return;
      ghost.remove();
      const slot = event.type === "pointerup" && target(event);
      if (slot) fill(Number(slot.dataset.slot), index);
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", end);
    addEventListener("pointercancel", end);
  });
}

examples.forEach((x, index) => {
  const canvases = [element("canvas"), element("canvas")];
  paint(canvases[0], x);
  paint(canvases[1], reconstructions[index]);
  const named = content.examples.labels ? `, label ${content.examples.labels[index]}` : "";
  const button = element("button", { type: "button", ariaLabel: `Example ${index}${named}` }, ...canvases);
  draggable(button, index);
  byId("examples").append(button);
});

const pathCode = (t) => between(exampleCodes[state.ends[0]], exampleCodes[state.ends[1]], t, byId("curve").value);
const pathLabel = (t) => labels[state.ends[t < 0.5 ? 0 : 1]] || 0;
const strip = Array.from({ length: content.path_points }, (_, i) => {
  const t = i / (content.path_points - 1);
  const button = element("button", { type: "button", ariaLabel: `Position ${digits(t)}` }, element("canvas"));
  button.addEventListener("click", () => setPosition(t));
  byId("strip").append(button);
  return { t, button };
});

function showPath() {
  slots.forEach((slot, i) => paint(slot.querySelector("canvas"), examples[state.ends[i]]));
  for (const { t, button } of strip) paint(button.firstChild, decode(pathCode(t), pathLabel(t)));
  markPosition(Number(byId("position").value));
}

function markPosition(t) {
  byId("position-value").textContent = digits(t);
  const nearest = Math.round(t * (content.path_points - 1));
  strip.forEach(({ button }, i) => button.setAttribute("aria-current", String(i === nearest)));
}

function setPosition(t) {
  byId("position").value = t;
  markPosition(t);
  state.z = pathCode(t);
  state.label = pathLabel(t);
  refresh();
}

byId("position").addEventListener("input", (event) => setPosition(Number(event.target.value)));
byId("position").addEventListener("change", () => redrawPlane());
byId("curve").addEventListener("change", showPath);
if (!live) {
  byId("position").step = 1 / (content.path_points - 1);
  byId("curve-control").hidden = true;
}

// --- plane ---------------------------------------------------------------------------------------------------------
function setUpPlane() {
  const numbers = controls.map((control, index) => ({ control, index })).filter(({ control }) => ["normal", "free"].includes(control.kind));
  const selects = [byId("plane-x"), byId("plane-y")];
  selects.forEach((select, side) => {
    for (const { control, index } of numbers) select.append(element("option", { value: index, textContent: control.name }));
    select.value = content.plane[side];
    select.addEventListener("change", () => redrawPlane());
  });
  if (!live) byId("axes").hidden = true;
  const images = byId("plane-images"), overlay = byId("plane-overlay"), side = content.plane_points, mark = [0.5, 0.5];
  const marks = rowsOf(content.marks.codes), [w, h] = sizeOfPicture();
  const axes = () => selects.map((select) => controls[select.value]);
  const held = () => (live ? state.z : base);
  const codeAt = ([u, v]) => {
    const [across, up] = axes(), at = (control, part) => control.low + part * (control.high - control.low);
    return moved(moved(held(), across, at(across, u)), up, at(up, v));
  };
  const snapped = (place) => (live ? place : place.map((part) => Math.round(part * (side - 1)) / (side - 1)));
  let turn = 0;

  redrawPlane = () => {
    const mine = ++turn, context = images.getContext("2d");
    [images.width, images.height] = [side * w, side * h];
    let tile = 0;
    const work = () => {
      if (mine !== turn) return;
      for (const until = performance.now() + 12; tile < side * side && performance.now() < until; tile++) {
        const i = tile % side, j = Math.floor(tile / side);
        paintAt(context, decode(codeAt([i / (side - 1), 1 - j / (side - 1)]), state.label), i * w, j * h);
      }
      if (tile < side * side) requestAnimationFrame(work);
    };
    work();
    drawOverlay();
  };

  // tiles are centred on their codes: the outermost half tiles lie beyond the range
  const onCanvas = (part) => (part * (side - 1) + 0.5) / side;

  function drawOverlay() {
    const box = images.getBoundingClientRect(), ratio = devicePixelRatio || 1, context = overlay.getContext("2d");
    [overlay.width, overlay.height] = [box.width * ratio, box.height * ratio];
    context.scale(ratio, ratio);
    const [across, up] = axes(), part = (control, value) => (value - control.low) / (control.high - control.low);
    if (byId("plane-marks").checked) marks.forEach((z, i) => {
      const label = content.marks.labels ? content.marks.labels[i] : 0;
      context.fillStyle = `hsl(${(label * 137.5 + 40) % 360} 90% 60% / 0.8)`;
      context.beginPath();
      context.arc(onCanvas(part(across, z[across.at])) * box.width, onCanvas(1 - part(up, z[up.at])) * box.height, 2.5, 0, 2 * Math.PI);
      context.fill();
    });
    context.strokeStyle = "#ff5a36";
    context.lineWidth = 2;
    context.strokeRect(onCanvas(mark[0]) * box.width - 6, onCanvas(1 - mark[1]) * box.height - 6, 12, 12);
  }

  function look(place) {
    [mark[0], mark[1]] = snapped(place.map((part) => Math.max(0, Math.min(1, part))));
    const z = codeAt(mark), [across, up] = axes();
    paint(byId("plane-image"), decode(z, state.label));
    byId("plane-status").textContent = `${across.name} = ${digits(z[across.at])}, ${up.name} = ${digits(z[up.at])}`;
    drawOverlay();
  }

  const placeOf = (event) => {
    const box = images.getBoundingClientRect();
    const part = (at, length) => ((at / length) * side - 0.5) / (side - 1);
    return [part(event.clientX - box.left, box.width), 1 - part(event.clientY - box.top, box.height)];
  };
  byId("plane").addEventListener("pointermove", (event) => look(placeOf(event)));
  byId("plane").addEventListener("click", () => take(codeAt(mark)));
  byId("plane").addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }, step = steps[event.key];
    if (step) look(mark.map((part, i) => part + step[i] / (side - 1)));
    if (event.key === "Enter") take(codeAt(mark));
    if (step || event.key === "Enter") event.preventDefault();
  });
  byId("plane-marks").addEventListener("change", drawOverlay);
  addEventListener("resize", drawOverlay);
  redrawPlane();
  look(mark);
}

// --- samples -------------------------------------------------------------------------------------------------------
function showSamples() {
  const drawn = content.samples ? rowsOf(content.samples).map((x) => ({ x }))
    : Array.from({ length: 32 }, drawnFromPrior).map((z) => ({ z, x: decode(z, state.label) }));
  byId("samples").replaceChildren(...drawn.map(({ z, x }, index) => {
    const canvas = element("canvas", { ariaLabel: `Sample ${index}` });
    paint(canvas, x);
    if (!z) return canvas;
    const button = element("button", { type: "button", ariaLabel: `Sample ${index}` }, canvas);
    button.addEventListener("click", () => take(z));
    return button;
  }));
}

// --- start ---------------------------------------------------------------------------------------------------------
byId("facts").textContent = content.facts.join(" \u00b7 ");
byId("center").addEventListener("click", () => take(controls.reduce(
  (z, control) => (["normal", "free"].includes(control.kind) ? moved(z, control, control.kind === "normal" ? 0 : (control.low + control.high) / 2) : z),
  state.z)));
byId("center").hidden = !live;
byId("more").hidden = byId("draw").hidden = Boolean(content.samples);
byId("more").addEventListener("click", showSamples);
byId("draw").addEventListener("click", () => take(drawnFromPrior()));
byId("samples-hint").textContent = content.samples
  ? "Drawn by vaex when this page was written."
  : "Drawn here from the prior; a click puts a sample's code on the sliders.";
byId("slider-hint").textContent = live ? ""
  : "The decoder is tabulated: each slider moves from the first example's code, and the others go back to it.";
byId("footer").textContent = `Written by vaex ${content.vaex}. ${live
  ? `The decoder runs in this page, in float32, with weights stored as ${content.decoder.weights}.`
  : `The page lacks an operation of this decoder (${content.decoder.missing}), so it holds a table of decoded codes.`}`;
if (live && content.labels.length) {
  content.labels.forEach((name, value) => byId("label").append(element("option", { value, textContent: name })));
  byId("label-control").hidden = false;
  byId("label").addEventListener("change", (event) => take(state.z, Number(event.target.value)));
}
refresh();
showPath();
if (content.plane.length) setUpPlane(); else byId("plane-section").hidden = true;
showSamples();
window.vaexPage = { decode, state, shown, controls };
