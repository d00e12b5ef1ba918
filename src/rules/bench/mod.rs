//! The bench: what people who write rules work with, apart from what decides on images. Nothing here is on an image's way.
//!
//! `cli` is the door: `advice` for the lint · `fixtures`, `coverage` and `probe` for `rules test` · `trace` one image, line by line ·
//! `replay` a candidate set over the spool, with the `past` of its studies · `promotion` sets by their content, who put them in force and when · `reference` the
//! generated page and the editor's definitions · `dataset_json` attributes as fixtures write them.
pub(in crate::rules) mod advice;
pub mod cli;
mod coverage;
mod dataset_json;
pub(in crate::rules) mod fixtures;
mod past;
pub(in crate::rules) mod probe;
pub mod promotion;
mod reference;
mod replay;
mod shelf;
#[cfg(test)]
mod tests;
mod trace;
