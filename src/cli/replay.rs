//! `rules replay` and `rules trace SOP-UID`: the bench over what lies in the spool. Reads payload files only, so that a running
//! box is not disturbed; slow on purpose.
use super::FAILED;
use clap::Args;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use waystation::base::clock::{Clock, Wall};
use waystation::base::names::{SourceId, Uid};
use waystation::base::units::Span;
use waystation::config;
use waystation::rules::{Facts, cli};
use waystation::spool::{self, Filter, Instance};

/// Which images, with which rules.
#[derive(Args, Debug)]
pub struct Replay {
    /// The folder with the candidate set
    #[arg(long, value_name = "FOLDER")]
    candidate: PathBuf,
    /// Images that arrived within this time, as "24h" or "3days"
    #[arg(long, default_value = "24h")]
    since: Span,
    /// Only images of this source
    #[arg(long, value_parser = |text: &str| SourceId::parse(text).map_err(|error| error.to_string()))]
    source: Option<SourceId>,
    /// At most so many images
    #[arg(long, default_value_t = 100_000)]
    limit: u64,
    /// At most so many images a second, so that the box is not disturbed
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// The report as JSON
    #[arg(long)]
    json: bool,
    /// The configuration of the box
    #[arg(short, long, value_name = "FILE", default_value = config::DEFAULT_FILE)]
    config: Vec<PathBuf>,
}

/// Decides anew on the images in the spool, with the set in force and with the candidate.
pub fn run(args: &Replay) -> ExitCode {
    let files = config::files_or_default(&args.config);
    let found = config::rules(&files).and_then(|rules| Ok((rules, config::spool_path(&files)?)));
    let ((limits, destinations), path) = match found {
        Ok(found) => found,
        Err(problems) => {
            super::check::print(&problems);
            return ExitCode::from(FAILED);
        }
    };
    let mut bench = match cli::Bench::new(&limits, &destinations, &args.candidate) {
        Ok(bench) => bench,
        Err(said) => {
            print!("{}", said.text);
            return ExitCode::from(said.code);
        }
    };
    // The box goes first.
    let _ = rustix::process::nice(10);
    let micros = u64::try_from(args.since.0.as_micros()).unwrap_or(u64::MAX);
    let since = Wall(Clock::System.now().0.saturating_sub(micros));
    let filter = Filter {
        source: args.source.clone(),
        ..Filter::default()
    };
    let (mut seen, began) = (0_u64, Instant::now());
    let walked = spool::browse(&path, &filter, since, |instance, file| {
        bench.image(&facts(instance), &file);
        seen += 1;
        let due = Duration::from_secs_f64(f64::from(u32::try_from(seen).unwrap_or(u32::MAX)) / f64::from(args.rate));
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        if seen < args.limit {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    });
    if let Err(error) = walked {
        return super::fail(&format!("{}: cannot be listed: {}", path.display(), error.kind()));
    }
    bench.left_cache(spool::evicted_since(&path, since));
    print!("{}", if args.json { bench.json() } else { bench.text() });
    ExitCode::SUCCESS
}

/// The file of an instance in the spool, and what is known of it.
pub fn find(spool: &Path, sop_instance: &Uid) -> Option<(PathBuf, Facts)> {
    let filter = Filter {
        sop_instance: Some(sop_instance.clone()),
        ..Filter::default()
    };
    // The latest one, when it came twice.
    let mut found = None;
    let walked = spool::browse(spool, &filter, Wall(0), |instance, path| {
        found = Some((path, facts(instance)));
        ControlFlow::Continue(())
    });
    walked.ok().and(found)
}

fn facts(instance: &Instance) -> Facts {
    Facts {
        source: instance.source.clone(),
        calling_ae: instance.calling_ae.clone(),
        called_ae: instance.called_ae.clone(),
        sop_class: instance.sop_class.clone(),
        sop_instance: instance.sop_instance.clone(),
        transfer_syntax: instance.transfer_syntax.clone(),
        arrival: instance.arrival,
        // The payload files do not tell what had come of the study before.
        study: None,
    }
}
