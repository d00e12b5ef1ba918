//! Layer 4: the custody of instances, told: who sent what, what was decided, where it lies, who has confirmed it. Reads the spool's ledger.
//!
//! `query` what may be asked, and by whom · `story` facts become steps and states · `trace` answers a query and puts the access on the
//! ledger · `lines` shows the ledger itself · `fill` brings older instances into the index of patients · `reconcile` holds each day's sending against what the box
//! holds and the destinations have confirmed. Called by the control socket and by HTTP.
//!
//! Promises: patient data goes to an authorised caller only, and every access is a fact before it is answered; a value that was asked
//! for stands nowhere but as a keyed hash.
pub mod fill;
mod lines;
mod patient;
pub mod query;
pub mod reconcile;
pub mod story;
pub mod trace;
mod words;

pub use lines::{LINES_MAX, LinesAnswer, LinesQuery};
pub use query::{Caller, Query, QueryError, Subject};
pub use reconcile::{Config, Reconciler, Report};
pub use story::{Delivery, Step, Story};
pub use trace::{Answer, Custody, TraceError};
