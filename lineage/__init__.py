"""The road to the Transformer: what came before it, small and trained alike (`vanilla-transformer lineage`).

`ngram` counts, `nnlm` is the first neural language model, `word_vectors` calls word2vec, `elmo` puts words
into their context, `recurrent` translates without and with attention, `road` sets all of them beside the
Transformer. Nothing of this is shipped to the Hub.
"""
