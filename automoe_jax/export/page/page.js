"use strict";
// The page: loads the model, translates what is typed, shows times and experts.

const element = (id) => document.getElementById(id);
const HUES = [215, 20, 150, 285, 340, 45, 185, 100]; // of the experts in turn

// A module with one SIMD instruction, which engines without SIMD reject.
const SIMD = Uint8Array.of(
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15,
  253, 98, 11,
);

function problemOfBrowser() {
  if (location.protocol === "file:")
    return "A page opened as a file cannot load its model. Run python -m http.server in its folder, and open http://localhost:8000.";
  if (typeof WebAssembly !== "object" || !WebAssembly.validate(SIMD))
    return "This browser has no WebAssembly SIMD, which the translator needs; use a newer browser.";
  if (typeof ort === "undefined")
    return "ort.wasm.min.js cannot be loaded; copy the whole folder again.";
  return null;
}

function showProblem(text) {
  element("problem").textContent = text;
  element("problem").hidden = false;
  element("go").textContent = "Translate";
}

function row(title, cells) {
  const line = document.createElement("tr");
  const head = document.createElement("th");
  head.textContent = title;
  line.append(head, ...cells);
  return line;
}

function expertCell(own) {
  const cell = document.createElement("td");
  cell.textContent = own.join(" ");
  cell.style.setProperty("--hue", HUES[own[0] % HUES.length]);
  return cell;
}

function showExperts(table, pieces, layers) {
  const names = pieces.map(({ piece }) => {
    const head = document.createElement("th");
    head.textContent = piece;
    return head;
  });
  table.replaceChildren(row("", names));
  layers.forEach(({ expert_ffn_dims }, layer) => {
    if (expert_ffn_dims.length < 2) return;
    const cells = pieces.map(({ experts }) => expertCell(experts[layer]));
    table.append(row(`layer ${layer + 1}`, cells));
  });
  if (table.rows.length < 2) table.append(row("every layer has one expert", []));
}

function show(translator, found) {
  const { architecture } = translator.model;
  element("translation").textContent = found.text;
  element("time").textContent = `${found.milliseconds.toFixed(1)} ms on this device`;
  showExperts(element("encoder"), found.source, architecture.encoder.layers);
  showExperts(element("decoder"), found.target, architecture.decoder.layers);
  element("result").hidden = false;
}

async function start() {
  const problem = problemOfBrowser();
  if (problem) throw new Error(problem);
  const translator = await loadTranslator();
  const { languages, precision } = translator.model;
  const name = `${languages.source} → ${languages.target}`;
  element("title").textContent = `Translator ${name}`;
  element("about").textContent = `Runs in this page (${precision}); no text leaves it.`;
  document.title = `Translator ${name}`;
  element("source").disabled = element("go").disabled = false;
  element("go").textContent = "Translate";
  element("source").focus();
  return translator;
}

const ready = start();
ready.catch((error) => showProblem(error.message));

async function translateTyped() {
  const translator = await ready;
  element("go").disabled = true;
  try {
    show(translator, await translator.translate(element("source").value));
  } catch (error) {
    showProblem(`The translation failed: ${error.message}`);
  }
  element("go").disabled = false;
}

element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  translateTyped();
});
element("source").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey) return;
  event.preventDefault();
  translateTyped();
});
