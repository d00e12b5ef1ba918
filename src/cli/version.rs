//! `spool version|migrate`: the format of a spool that no box has open, and how it comes to be today's.
use super::spool::{At, code, show};
use std::process::ExitCode;
use waystation::base::clock::Clock;
use waystation::spool::{self, SpoolVersion};

/// Fails when this program cannot have the spool.
pub(super) fn version(at: &At) -> Result<ExitCode, String> {
    let version = spool::version(&at.spool()?).map_err(|error| error.to_string())?;
    show(at, &version, || println!("{}", words(&version)));
    Ok(code(version.is_readable()))
}

fn words(version: &SpoolVersion) -> String {
    let SpoolVersion {
        format,
        writes,
        reads_from,
        ..
    } = version;
    let then = match version {
        version if !version.is_readable() => "it was written by a newer version: this one will not open it",
        version if version.migrating => "a migration was begun: the next start, or `spool migrate`, completes it",
        version if version.is_older() => {
            "the next start, or `spool migrate`, brings it to the new format; an older version will not open it then"
        }
        _ => "nothing is to be done",
    };
    format!("spool format {format}; this program writes {writes} and reads {reads_from} to {writes}: {then}")
}

pub(super) fn migrate(at: &At) -> Result<ExitCode, String> {
    let from = spool::migrate(&at.spool()?, &Clock::System).map_err(|error| error.to_string())?;
    let told = serde_json::json!({"from": from, "format": spool::FORMAT});
    show(at, &told, || match from {
        Some(from) => println!("migrated from format {from} to {}", spool::FORMAT),
        None => println!("format {}: nothing was to be done", spool::FORMAT),
    });
    Ok(ExitCode::SUCCESS)
}
