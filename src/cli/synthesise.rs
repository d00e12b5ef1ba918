//! `synthesise`: studies that never were a patient's, for a first trial without a modality.
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;
use waystation::rehearse::synthetic::{Modality, make_study};

#[derive(Args, Debug)]
pub struct Synthesise {
    #[arg(long, value_enum, ignore_case = true, default_value = "ct")]
    modality: Kind,
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    instances: u16,
    /// Rows and columns of an image, or items of a report
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u16).range(1..=2048))]
    size: u16,
    /// The same seed gives the same study, byte for byte
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The folder to write to
    folder: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Ct,
    Mr,
    Us,
    Sr,
}

pub fn run(args: &Synthesise) -> ExitCode {
    let modality = match args.modality {
        Kind::Ct => Modality::Ct,
        Kind::Mr => Modality::Mr,
        Kind::Us => Modality::Us,
        Kind::Sr => Modality::Sr,
    };
    let files = make_study(args.seed, modality, args.instances, args.size);
    let written = std::fs::create_dir_all(&args.folder).and_then(|()| {
        files
            .iter()
            .try_for_each(|(name, bytes)| std::fs::write(args.folder.join(name), bytes))
    });
    match written {
        Ok(()) => {
            println!("{} files in {}", files.len(), args.folder.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("waystation: {}: {error}", args.folder.display());
            ExitCode::from(super::FAILED)
        }
    }
}
