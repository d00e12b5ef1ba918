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
    let mut pace = Pace::new(args.rate);
    // Files are named in about the order of arrival only: where the order counts, they are listed first.
    let (mut listed, mut seen) = (Vec::new(), 0);
    let walked = spool::browse(&path, &filter, since, |instance, file| {
        if bench.wants_order() {
            listed.push((facts(instance), instance.length, file));
        } else {
            bench.image(&facts(instance), instance.length, &file);
        }
        pace.wait();
        seen += 1;
        if seen < args.limit {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    });
    if let Err(error) = walked {
        return super::fail(&format!("{}: cannot be listed: {}", path.display(), error.kind()));
    }
    listed.sort_by_key(|(facts, ..)| facts.arrival);
    for (facts, length, file) in listed {
        bench.image(&facts, length, &file);
        pace.wait();
    }
    bench.left_cache(spool::evicted_since(&path, since));
    print!("{}", if args.json { bench.json() } else { bench.text() });
    ExitCode::SUCCESS
}

/// At most so many files a second.
struct Pace {
    rate: u32,
    read: u32,
    began: Instant,
}

impl Pace {
    fn new(rate: u32) -> Self {
        Self {
            rate,
            read: 0,
            began: Instant::now(),
        }
    }

    /// One more was read.
    fn wait(&mut self) {
        self.read = self.read.saturating_add(1);
        let due = Duration::from_secs_f64(f64::from(self.read) / f64::from(self.rate));
        std::thread::sleep(due.saturating_sub(self.began.elapsed()));
    }
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
