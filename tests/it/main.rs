//! Waystation from outside: the real binary between real peers (DCMTK, pynetdicom, Orthanc) and scripted ones.
//!
//! Every test starts its own box on free ports in its own directory and asserts what crossed the wire, what lies at the other
//! end, and what the metrics say. A peer that is not installed fails the test: `make test` installs them all.
mod admission;
mod alarms;
mod answers;
mod archives;
mod bench;
mod certs;
mod charset;
mod commitment;
mod commitment_kills;
mod commitment_limits;
mod commitment_tls;
mod committing;
mod conversions;
mod corpus;
mod crash;
mod custody;
mod dcmtk;
mod deeds;
mod demonstration;
mod filling;
mod fixture;
mod guide;
// Some of it only the soaks need.
#[allow(dead_code)]
mod harness;
mod jpeg;
// A disk of their own is the soaks' tool; one test fills one.
#[allow(dead_code)]
#[path = "../soak/image.rs"]
mod image;
mod memory;
mod operate;
mod outages;
mod own_disk;
mod owner;
mod panics;
mod papers;
mod privacy;
mod privacy_profile;
mod prometheus;
mod queue;
mod reconcile;
mod repeats;
mod routing;
mod rules;
mod service;
mod shapes;
mod spool;
mod syntaxes;
mod upgrade;
mod words;
