//! Waystation: a DICOM routing appliance in which no scan is ever lost.
//!
//! ```text
//!  modality ──TCP/TLS──▶ listener ──head, stream──▶ ingest ──▶ spool ◀──claim, settle── scheduler ──job──▶ sender ──TLS──▶ archive
//!                                                     │                                    (one lane per destination)
//!                                                   rules (decide: edits, deliveries, hold)
//! ```
//!
//! A room imports only from lower layers, never from its own or a higher one; `tests/tidy.rs` keeps that.
//!
//! | layer | rooms | what they are |
//! | --- | --- | --- |
//! | 0 | `base` | names, units, bounds, clock, drain: no DICOM, no disk, no network |
//! | 1 | `telemetry`, `dicom`, `pki` | metrics and log lines; heads, edits, associations; certificates and keys |
//! | 2 | `rules`, `spool`, `transcode` | what is decided; where it is safe; what it can losslessly become. The spool knows neither DICOM nor rules |
//! | 3 | `ingest`, `sender` | the one crossing; one job to one peer. A sender never sees the spool |
//! | 4 | `listener`, `scheduler`, `custody`, `alarms` | who may send; one lane for each destination, which meet only in the spool; what the ledger tells; what people are told |
//! | 5 | `control`, `web`, `rehearse`, `appliance`, `commitment` | operator's socket, metrics and health, test modalities, service manager, storage commitment |
//! | 6 | `config` | the components' `Config` types, loaded and checked together |
//! | 7 | `app`, `cli`, `main` | composition, the command line |
#![forbid(unsafe_code)]
pub mod base;

pub mod dicom;
pub mod pki;
pub mod telemetry;

pub mod rules;
pub mod spool;
pub mod transcode;

pub mod ingest;
pub mod sender;

pub mod alarms;
pub mod custody;
pub mod listener;
pub mod scheduler;

pub mod appliance;
pub mod commitment;
pub mod control;
pub mod rehearse;
pub mod web;

pub mod config;

pub mod app;
