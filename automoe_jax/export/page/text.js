"use strict";
// Cleaning of lines, as automoe_jax.data.cleaning, and SentencePiece's BPE with byte fallback.

const BLANKS =
  /[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff\u3164\uffa0\u2800\u2581]/gu;
const INVISIBLE =
  /[\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff0-\ufffb\u{1bca0}-\u{1bca3}\u{1d173}-\u{1d17a}\u{e0000}-\u{e00ff}\u{e01f0}-\u{e0fff}]/gu;
const JOINERS = "\\u200c\\u200d";
const SELECTORS = "\\u034f\\u180b-\\u180f\\ufe00-\\ufe0f\\u{e0100}-\\u{e01ef}";
const VIRAMAS = "\\u094d\\u09cd\\u0a4d\\u0acd\\u0b4d\\u0bcd\\u0c4d\\u0ccd\\u0d4d\\u0dca";
const SHAPES_NOTHING = new RegExp(
  `(?<![^\\x00-\\x7f\\s])[${JOINERS}]` +
    `|(?<![${VIRAMAS}])[${JOINERS}](?=[\\x00-\\x7f\\s${JOINERS}]|$)` +
    `|(?<!\\S)[${SELECTORS}]`,
  "gu",
);

function isAscii(line) {
  return /^[\x00-\x7f]*$/.test(line);
}

function cleanedOnce(line) {
  if (!isAscii(line)) line = line.normalize("NFC").replace(INVISIBLE, "");
  line = line.replace(BLANKS, " ").split(/\s+/u).filter(Boolean).join(" ");
  return isAscii(line) ? line : line.replace(SHAPES_NOTHING, "");
}

function cleanLine(line) {
  for (;;) {
    const cleaner = cleanedOnce(line);
    if (cleaner === line) return line;
    line = cleaner;
  }
}

const SPACE = "\u2581";
const NORMAL = 1; // kinds of pieces
const BYTE = 2;
const SPECIAL_IDS = 4; // BOS, PAD, EOS, UNK
const EOS = 2;

class Tokenizer {
  // pieces: [text, score, kind] of each
  constructor(pieces) {
    this.pieces = pieces;
    this.ids = new Map();
    this.byteIds = new Array(256);
    pieces.forEach(([text, , kind], id) => {
      if (kind === NORMAL) this.ids.set(text, id);
      if (kind === BYTE) this.byteIds[parseInt(text.slice(3, 5), 16)] = id;
    });
  }

  encode(line) {
    const clean = cleanLine(line);
    if (!clean) return [];
    const ids = [];
    for (const symbol of this.merged(SPACE + clean.replaceAll(" ", SPACE))) {
      const id = this.ids.get(symbol);
      if (id !== undefined) ids.push(id);
      else for (const byte of new TextEncoder().encode(symbol)) ids.push(this.byteIds[byte]);
    }
    return ids;
  }

  // Pairs with the largest score are joined first, the leftmost of equal ones. A pair never joins
  // across a space, as no piece has one inside; so each word is merged alone.
  merged(text) {
    return text.split(/(?=\u2581)/u).flatMap((word) => this.mergedWord(word));
  }

  mergedWord(word) {
    const symbols = Array.from(word);
    for (;;) {
      let best = -Infinity;
      let place = -1;
      for (let i = 0; i + 1 < symbols.length; i++) {
        const id = this.ids.get(symbols[i] + symbols[i + 1]);
        if (id !== undefined && this.pieces[id][1] > best) {
          best = this.pieces[id][1];
          place = i;
        }
      }
      if (place < 0) return symbols;
      symbols.splice(place, 2, symbols[place] + symbols[place + 1]);
    }
  }

  decode(ids) {
    let text = "";
    let bytes = [];
    for (const id of [...ids, -1]) {
      if (id === EOS) break;
      const [piece, , kind] = id < 0 ? ["", 0, 0] : this.pieces[id];
      if (kind === BYTE) {
        bytes.push(parseInt(piece.slice(3, 5), 16));
      } else if (id < 0 || id >= SPECIAL_IDS) {
        text += decodedBytes(bytes);
        bytes = [];
        if (kind === NORMAL) text += piece;
      }
    }
    return cleanLine((text + decodedBytes(bytes)).replaceAll(SPACE, " "));
  }
}

// UTF-8, with one U+FFFD for every byte that is not part of a character.
function decodedBytes(bytes) {
  let text = "";
  for (let i = 0; i < bytes.length; ) {
    const length = bytes[i] < 0x80 ? 1 : bytes[i] < 0xe0 ? 2 : bytes[i] < 0xf0 ? 3 : 4;
    try {
      const part = new Uint8Array(bytes.slice(i, i + length));
      text += new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(part);
      i += length;
    } catch {
      text += "\ufffd";
      i += 1;
    }
  }
  return text;
}
