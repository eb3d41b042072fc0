"""Whole models: translation by beam search, next-token logits of given translations, classes.

Axes: B sentences · S source tokens · T target tokens · V vocabulary · C classes, or candidates
of a shortlist · D embedding width.
"""

import numpy as np
import onnx

from automoe_jax.arch import ENCODER, Arch
from automoe_jax.export.beam import RECORDS, Shortlist, beam_search, joined_gates
from automoe_jax.export.decoder import decoder_of
from automoe_jax.export.encoder import Encoded, encode
from automoe_jax.export.graph import Graph
from automoe_jax.export.settings import Settings, Weights, embed_dim


def translator(arch: Arch, settings: Settings, weights: Weights) -> onnx.ModelProto:
    """Beam search.

    Inputs, int64: source [B,S], padded on the right; beams [], k; max_length [], tokens of the
    longest translation; stop [], the number of finished hypotheses at which a sentence is done;
    pieces [C], the shortlist of the batch, or none for the whole vocabulary. Bool: own [B,C], the
    part of the shortlist that a sentence may use; explain [], whether to record decisions.

    Outputs, for each of the t steps that were made and the n = 2k best one-token extensions of a
    sentence's hypotheses, best first: scores float32, tokens and origins int64 [t,B,n], an origin
    being the hypothesis extended. The first k of those that do not end are the next step's
    hypotheses. Records of a sentence that is done are 0.

    With `explain`, for the k hypotheses of each step: attention float32 [t,B,k·S], the cross
    attention of the last layers, the mean over them and their heads (Garg et al., 2019, "Jointly
    Learning to Align and Translate with Transformer Models", section 4.1) and the sum over the
    encoder layers they see; gates float32 [t,B,k·G], those of all layers in turn. Without it, both
    [t,B,0]. And source_gates [B,S,G].
    """
    g = Graph()
    source = g.input("source", np.int64, ("B", "S"))
    beams = g.input("beams", np.int64, ())
    length = g.input("max_length", np.int64, ())
    stop = g.input("stop", np.int64, ())
    shortlist = Shortlist(g.input("pieces", np.int64, ("C",)), g.input("own", np.bool_, ("B", "C")))
    explain = g.input("explain", np.bool_, ())
    encoded = encode(g, arch, settings, weights, source)
    decoder, sentences = decoder_of(g, arch, settings, weights, encoded, beams, length)
    records = beam_search(
        g, decoder, sentences, settings, source, beams, length, stop, shortlist, explain
    )
    for value, (name, dtype) in zip(records, RECORDS.items(), strict=True):
        g.output(value, name, dtype, ("t", "B", f"{name} of a sentence"))
    g.output(_source_gates(g, arch, encoded, source), "source_gates", np.float32, ("B", "S", "G"))
    return g.model()


def _source_gates(g: Graph, arch: Arch, encoded: Encoded, source: str) -> str:
    """float32 [B,S,G]: the gates of all FFNs of the encoder."""
    if not encoded.gates:
        shape = g.op("Concat", g.op("Shape", source), g.ints(0), axis=0)
        return g.op("Expand", g.number(0), shape)
    gates = joined_gates(g, encoded.gates, encoded.layers[-1])
    return encoded.rows.split(g, gates, sum(map(len, arch.encoder_experts)))


def scorer(arch: Arch, settings: Settings, weights: Weights) -> onnx.ModelProto:
    """The translator's steps on given translations. Inputs: source int64 [B,S], target_input int64
    [B,T] → logits float32 [B,T,V].
    """
    g = Graph()
    source = g.input("source", np.int64, ("B", "S"))
    target = g.input("target_input", np.int64, ("B", "T"))
    length = g.op("Gather", g.op("Shape", target), g.integer(1))
    encoded = encode(g, arch, settings, weights, source)
    decoder, sentences = decoder_of(g, arch, settings, weights, encoded, g.integer(1), length)
    batch = g.op("Shape", source, start=0, end=1)
    own = decoder.own_entries(g, batch)

    def turn(body: Graph, position: str, states: list[str]) -> tuple:
        last = body.op("Unsqueeze", body.op("Gather", target, position, axis=1), body.ints(1))
        y, caches, ancestors, _ = decoder.step(
            body, last, position, states[1:], states[0], own, sentences
        )
        logits = decoder.logits(body, y)
        words = body.op(
            "Slice", logits, body.ints(0), body.ints(settings.output_size), body.ints(1)
        )
        return body.constant(True), [ancestors, *caches], [(words, np.float32)]

    states = [(decoder.no_ancestors(g, batch), np.float32)]
    states += [(cache, np.float32) for cache in decoder.empty(g, batch)]
    _, (logits,) = g.loop(length, g.constant(True), states, turn)  # [T, B, V]
    by_sentence = g.op("Transpose", logits, perm=[1, 0, 2])
    g.output(by_sentence, "logits", np.float32, ("B", "T", "V"))
    return g.model()


def classifier(arch: Arch, settings: Settings, weights: Weights) -> onnx.ModelProto:
    """Input: source int64 [B,S] → logits float32 [B,C], the special classes included."""
    g = Graph()
    source = g.input("source", np.int64, ("B", "S"))
    encoded = encode(g, arch, settings, weights, source)
    real = g.op("Unsqueeze", encoded.real, g.ints(2))
    states = encoded.rows.split(g, encoded.layers[-1], embed_dim(arch, ENCODER))
    summed = g.op("ReduceSum", g.op("Mul", states, real), g.ints(1), keepdims=0)
    count = g.op("Max", g.op("ReduceSum", real, g.ints(1), keepdims=0), g.number(1))
    classes = np.asarray(weights["classifier"]["table"], np.float32)
    logits = g.op("Gemm", g.op("Div", summed, count), g.constant(classes), transB=1)
    g.output(logits, "logits", np.float32, ("B", "C"))
    return g.model()
