//! The words of identity, accession, text, code, timezone and uid through the running box, on images in every transfer syntax.
