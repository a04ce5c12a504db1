"""From text to tokens: normalisation, sentences, vocabularies, and one tokenizer per file."""
