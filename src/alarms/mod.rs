//! Layer 4: alarms that people ask for. What is wrong becomes one incident for each cause, told by mail, by webhook and as metrics.
//!
//! ```text
//!  the table of metrics ─┐
//!  lanes' own words ─────┼─▶ judge ──conditions──▶ incident machine ──events──▶ outbox ──▶ mail, webhooks
//!  rates, habits, clock ─┘                          ▲ ack, silence                ▲ both on the disk: nothing is told twice
//! ```
//!
//! | file | holds |
//! | --- | --- |
//! | `judge.rs`, `rates.rs`, `habits.rs`, `clock.rs` | what is wrong now; pure |
//! | `incident.rs`, `news.rs`, `silencing.rs`, `outbox.rs` | what people are told, and when; pure |
//! | `text.rs` | in which words |
//! | `mail.rs`, `webhook.rs`, `secret.rs` | one message to one channel |
//! | `store.rs` | what survives a restart |
//! | `task.rs`, `gauges.rs`, `operator.rs` | the one task that owns it all; its measuring, and its orders |
//! | `deeds.rs` | what operators did, on its way to the ledger |
//!
//! It never touches the data path: it reads metrics and a snapshot, and a slow mail server delays nothing but its own messages.
//! No patient data comes here: names from configuration, counts, and words of ours.
mod clock;
mod config;
mod deeds;
mod gauges;
mod habits;
mod incident;
mod judge;
mod kind;
mod mail;
mod news;
mod operator;
mod order;
mod outbox;
mod rates;
mod secret;
mod silencing;
mod store;
mod task;
mod text;
mod webhook;

pub use config::{Config, Mail, Security, Silence, Webhook};
pub use deeds::{Deed, Recorder};
pub use kind::{Kind, Severity};
pub use order::{Answer, ChannelRow, Listing, Order, Row, SilenceRow};
pub use silencing::Meant;
pub use task::{Alarms, Look, Parts, Sight};
