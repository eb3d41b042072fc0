"use strict";
// Translation with the exported model, as automoe_jax.inference.engine: the beam search is in the
// graph, and the best hypothesis is read from its records.

const IMPOSSIBLE = -1e9;
const MOST_CANDIDATES = 2000;

async function fetched(name) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(`${name} cannot be loaded (HTTP ${answer.status}).`);
  return answer;
}

const json = async (name) => (await fetched(name)).json();
const bytes = async (name) => new Uint8Array(await (await fetched(name)).arrayBuffer());

async function loadTranslator() {
  const model = await json("model.json");
  const target = "target_tokenizer.json" in model.files ? "target_tokenizer.json" : "tokenizer.json";
  const [source, other, shortlist, graph] = await Promise.all([
    json("tokenizer.json"),
    json(target),
    "shortlist.json" in model.files ? json("shortlist.json") : null,
    bytes("translator.onnx"),
  ]);
  ort.env.wasm.wasmPaths = new URL("./", location.href).href;
  ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create(graph, {
    executionProviders: ["wasm"],
    logSeverityLevel: 3,
  });
  return new Translator(model, session, new Tokenizer(source), new Tokenizer(other), shortlist);
}

class Translator {
  constructor(model, session, source, target, shortlist) {
    Object.assign(this, { model, session, source, target, shortlist });
  }

  // {text, milliseconds, source, target}; source and target: [{piece, experts: [[…] per layer]}]
  async translate(line) {
    const begin = performance.now();
    const ids = this.source.encode(line);
    const longest = this.model.buckets.at(-1) - 1;
    const texts = [];
    const sourcePieces = [];
    const targetPieces = [];
    for (let start = 0; start < ids.length; start += longest) {
      const part = ids.slice(start, start + longest);
      const found = await this.translatePart(part);
      texts.push(this.target.decode(found.tokens));
      part.forEach((id, i) => sourcePieces.push(described(this.source, id, found.sourceExperts[i])));
      found.tokens.forEach((id, i) =>
        targetPieces.push(described(this.target, id, found.targetExperts[i])),
      );
    }
    return {
      text: texts.filter(Boolean).join(" "),
      milliseconds: performance.now() - begin,
      source: sourcePieces,
      target: targetPieces,
    };
  }

  async translatePart(ids) {
    const { model } = this;
    const bucket = model.buckets.find((size) => ids.length < size);
    const pieces = this.candidates(ids);
    const int64 = (values, shape) =>
      new ort.Tensor("int64", BigInt64Array.from(values, BigInt), shape);
    const tensors = await this.session.run({
      source: int64([...ids, model.eos_id], [1, ids.length + 1]),
      beams: int64([model.beam_size], []),
      max_length: int64([Math.floor((bucket * 3) / 2) + 10], []),
      stop: int64([model.beam_size], []),
      pieces: int64(pieces, [pieces.length]),
      own: new ort.Tensor("bool", new Uint8Array(pieces.length).fill(1), [1, pieces.length]),
      explain: new ort.Tensor("bool", Uint8Array.of(1), []),
    });
    const found = bestHypothesis(tensors, model);
    const layers = (side) =>
      model.architecture[side].layers.map((layer) => layer.expert_ffn_dims.length);
    const sourceGates = tensors.source_gates;
    return {
      tokens: found.tokens,
      sourceExperts: ids.map((_, i) => experts(sourceGates.data, i * sourceGates.dims[2], layers("encoder"))),
      targetExperts: found.gates.map((from) => experts(tensors.gates.data, from, layers("decoder"))),
    };
  }

  // Rising ids of the shortlist of a sentence; none for the whole vocabulary.
  candidates(ids) {
    if (!this.shortlist) return [];
    const { always, frequent, translations, copies } = this.shortlist;
    const own = copies ? ids.map((id) => copies[id]).filter((id) => id >= 0) : ids;
    const ranked = new Set(); // the best of every piece first
    for (let rank = 0; rank < translations[0].length; rank++)
      for (const id of ids) if (translations[id][rank] >= 0) ranked.add(translations[id][rank]);
    const best = [...ranked].slice(0, MOST_CANDIDATES);
    return [...new Set([...always, ...frequent, ...own, ...best])].sort((a, b) => a - b);
  }
}

function described(tokenizer, id, own) {
  return { piece: tokenizer.pieces[id][0], experts: own };
}

// The experts with a gate above 0, of each layer.
function experts(gates, from, layers) {
  return layers.map((count) => {
    const own = [];
    for (let i = 0; i < count; i++) if (gates[from + i] > 0) own.push(i);
    from += count;
    return own;
  });
}

// Tokens of the best finished hypothesis, and where the gates of each begin.
function bestHypothesis(tensors, model) {
  const scores = tensors.scores.data;
  const tokens = Array.from(tensors.tokens.data, Number);
  const origins = Array.from(tensors.origins.data, Number);
  const [steps, , n] = tensors.scores.dims;
  const k = model.beam_size;
  const penalty = Math.fround(model.length_penalty);
  let best = { score: IMPOSSIBLE, step: 0, extension: 0 };
  const alive = []; // extensions that are the hypotheses after each step
  for (let step = 0, finished = 0; step < steps; step++) {
    const before = finished;
    const length = Math.fround(Math.pow(step + 1, penalty));
    const living = [];
    const ended = [];
    for (let i = 0; i < n; i++) {
      const at = step * n + i;
      if (tokens[at] !== model.eos_id) {
        living.push(i);
        continue;
      }
      ended.push(i);
      if (i >= k || scores[at] <= IMPOSSIBLE / 2) continue;
      finished += 1;
      const score = Math.fround(scores[at] / length);
      if (before < k && score > best.score) best = { score, step, extension: i };
    }
    alive.push([...living, ...ended].slice(0, k));
  }
  const size = tensors.gates.dims[2] / k;
  const path = [];
  const gates = [];
  let place = origins[best.step * n + best.extension];
  for (let step = best.step - 1; step >= 0; step--) {
    const at = step * n + alive[step][place];
    path.unshift(tokens[at]);
    gates.unshift((step + 1) * k * size + place * size); // of the step that reads the token
    place = origins[at];
  }
  return { tokens: path, gates };
}
