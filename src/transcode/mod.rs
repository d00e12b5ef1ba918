//! Transfer syntaxes at delivery: what an instance can losslessly become, the processes that convert it, and what was learned of
//! the destinations. Layer 2; knows no spool, no socket and no queue.
//!
//! Two kinds of conversion, for two kinds of risk. Between uncompressed layouts, and from and to deflate, it is our own bounded
//! scanner and a stream (`recast.rs`): it runs in the box, costs no process, and can only fail as the scanner fails. Whatever
//! needs an image codec runs in a process with limits (`pool.rs`, `worker.rs`), because codecs are where memory, time and
//! crashes come from.
//!
//! | file | holds |
//! | --- | --- |
//! | `forms.rs` | the table of syntaxes, and what can become what |
//! | `recast.rs`, `flate.rs` | layouts and deflate, as a stream |
//! | `look.rs` | whether the pixels are the same in what a recast wrote |
//! | `pool.rs`, `worker.rs`, `config.rs` | the parent's and the child's side of a conversion, and its limits |
//! | `source.rs`, `image.rs`, `codec/` | in the child: a data set frame by frame |
//! | `known.rs` | what destinations accept, and what was seen |
mod codec;
pub mod config;
mod flate;
pub mod forms;
mod image;
pub mod known;
mod look;
pub mod pool;
pub mod recast;
mod source;
pub mod worker;

pub use config::Config;
pub use forms::{Compress, Policy};
pub use known::{Known, Pair};
pub use pool::{Converted, Room, Transcoder, Trouble};
pub use recast::Recast;
