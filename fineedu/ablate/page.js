"use strict";
// Counts of every setting of the sliders lie in the page, in bins; text of documents only ever becomes textContent.
const part = (id) => document.getElementById(id);
const data = JSON.parse(part("data").textContent);
const controls = data.controls, toggles = data.toggles, shape = data.shape;
// 0: off; k: the k-th position.
const state = controls.map((c) => (c.start === null ? 0 : c.positions.indexOf(c.start) + 1));
const on = toggles.map(() => false);
let moved = 0;

function rising(control) { return control.op[0] === ">"; }

// Whether a code of a control fulfils its setting. A missing value has the last code, and fulfils none.
function holds(control, place, code) {
  if (place === 0) return true;
  if (code > control.positions.length) return false;
  return rising(control) ? code >= place : code < place;
}

function keeps(codes) {
  return controls.every((control, n) => holds(control, state[n], codes[n]))
    && on.every((wanted, n) => !wanted || codes[controls.length + n] === 1);
}

function count() {
  const allowed = shape.map((size, n) => {
    const codes = [...Array(size).keys()];
    return n < controls.length ? codes.filter((code) => holds(controls[n], state[n], code))
      : on[n - controls.length] ? [1] : codes;
  });
  let documents = 0, tokens = 0;
  const walk = (axis, base) => {
    if (axis === shape.length) { documents += data.documents[base]; tokens += data.tokens[base]; return; }
    for (const code of allowed[axis]) walk(axis + 1, base * shape[axis] + code);
  };
  walk(0, 0);
  return { documents, tokens };
}

// Wilson's score interval, as in the tables.
function wilson(hits, n) {
  if (!n) return null;
  const z = 1.959963984540054, share = hits / n, below = 1 + (z * z) / n;
  const middle = (share + (z * z) / (2 * n)) / below;
  const half = (z / below) * Math.sqrt((share * (1 - share)) / n + (z * z) / (4 * n * n));
  return [hits === 0 ? 0 : middle - half, hits === n ? 1 : middle + half];
}

function show(id, value, text) {
  part(id).textContent = text;
  part(id).dataset.value = value === null ? "" : String(value);
}

function ratio(id, hits, n, weightHits, weight) {
  const ends = data.weighted ? null : wilson(hits, n);
  show(id, weight ? weightHits / weight : null, weight ? (weightHits / weight).toFixed(3) : "–");
  part(id + "-interval").textContent = !weight ? "no labelled document is kept"
    : ends ? `[${ends[0].toFixed(3)}, ${ends[1].toFixed(3)}]` : "weighted: intervals in the table";
}

function measure() {
  if (!data.labelled.length) return;
  let hits = 0, kept = 0, weightHits = 0, weight = 0;
  for (const [codes, positive, each] of data.labelled) {
    if (codes === null || !keeps(codes)) continue;
    kept += 1; weight += each;
    if (positive) { hits += 1; weightHits += each; }
  }
  const wanted = data.labelled.filter((row) => row[1]);
  ratio("precision", hits, kept, weightHits, weight);
  ratio("recall", hits, wanted.length, weightHits, wanted.reduce((sum, row) => sum + row[2], 0));
  part("labelled").textContent = `${kept} labelled documents kept, ${hits} of them positive`;
}

function card(sample, kept) {
  const made = document.createElement("article");
  made.className = "card " + (kept ? "kept" : "dropped");
  for (const [kind, name, text] of [["h3", "", sample.title || "(no title)"], ["p", "url", sample.url || sample.id], ["p", "excerpt", sample.text || ""]]) {
    const line = document.createElement(kind);
    line.className = name;
    line.dir = "auto";
    line.textContent = text;
    made.append(line);
  }
  return made;
}

// The documents nearest to the cut that was moved last, on either side of it.
function samples() {
  const place = state[moved], control = controls[moved];
  const distance = (sample) => Math.abs(sample.codes[moved] - place + (rising(control) ? 0.5 : -0.5));
  const near = [...data.samples].sort((a, b) => distance(a) - distance(b));
  for (const [id, wanted] of [["just-kept", true], ["just-dropped", false]]) {
    const chosen = near.filter((sample) => keeps(sample.codes) === wanted).slice(0, 4);
    part(id).replaceChildren(...chosen.map((sample) => card(sample, wanted)));
    if (!chosen.length) part(id).textContent = "none among the samples";
  }
}

function update() {
  const found = count();
  show("documents", found.documents, found.documents.toLocaleString("en-US"));
  show("tokens", found.tokens, found.tokens.toLocaleString("en-US"));
  part("share").textContent = `${((100 * found.tokens) / data.pool_tokens).toFixed(2)} % of the pool's tokens`;
  controls.forEach((control, n) => {
    part("setting-" + n).textContent = state[n] ? `${control.op} ${control.positions[state[n] - 1]}` : "off";
    part("slider-" + n).setAttribute("aria-valuetext", part("setting-" + n).textContent);
  });
  measure();
  samples();
}

controls.forEach((control, n) => {
  const slider = part("slider-" + n);
  slider.value = state[n];
  slider.addEventListener("input", () => { state[n] = Number(slider.value); moved = n; update(); });
});
toggles.forEach((_, n) => {
  part("toggle-" + n).checked = on[n];
  part("toggle-" + n).addEventListener("change", (event) => { on[n] = event.target.checked; update(); });
});
update();
