//! Waystation's command line: reads arguments, starts logging and the runtime, and turns every outcome into an exit code.
//! What a verb does stands in `cli/` and, for the box itself, in `app`.
#![forbid(unsafe_code)]
mod cli;

use anyhow::{Context, bail};
use clap::Parser;
use cli::{Cli, Command};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use waystation::listener::passed::Passed;
use waystation::{app, config, rehearse, telemetry};

fn main() -> ExitCode {
    let command = Cli::parse().command;
    match carry_out(command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("waystation: {error:#}");
            ExitCode::from(cli::FAILED)
        }
    }
}

fn carry_out(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(at) => run(&at),
        Command::Demo { keep } => demo(keep),
        Command::Check(at) => Ok(cli::check::run(&at)),
        Command::Queue { verb, talk } => Ok(runtime()?.block_on(cli::queue::run(verb, &talk))),
        Command::Commitment { verb, talk } => Ok(runtime()?.block_on(cli::commitment::run(verb, &talk))),
        Command::Lanes { talk } => Ok(runtime()?.block_on(cli::queue::lanes(&talk))),
        Command::Alarms { verb, talk } => Ok(runtime()?.block_on(cli::alarms::run(verb, &talk))),
        Command::Reload { talk } => Ok(runtime()?.block_on(cli::queue::reload(&talk))),
        Command::Probe { question, talk } => Ok(runtime()?.block_on(cli::probe::run(question, &talk))),
        Command::Cert { verb, talk } => Ok(runtime()?.block_on(cli::cert::run(verb, &talk))),
        Command::Map { question, talk } => Ok(runtime()?.block_on(cli::map::run(question, &talk))),
        Command::Trace { question, talk } => Ok(runtime()?.block_on(cli::custody::trace(question, &talk))),
        Command::Ledger { verb } => Ok(runtime()?.block_on(cli::ledger::ledger(verb))),
        Command::Reconcile(question) => Ok(runtime()?.block_on(cli::custody::reconcile(question))),
        Command::Send(args) => send(&args),
        Command::Synthesise(args) => Ok(cli::synthesise::run(&args)),
        Command::Rules { verb } => Ok(runtime()?.block_on(cli::rules::run(verb))),
        Command::Spool { verb } => Ok(runtime()?.block_on(cli::spool::run(verb))),
        Command::TranscodeWorker(worker) => Ok(cli::transcode::run(&worker)),
        Command::Completions { shell } => Ok(cli::papers::completions(shell)),
        Command::Man { folder } => Ok(cli::papers::man(&folder)),
        Command::Version => {
            match waystation::base::clock::released() {
                Some(released) => println!("{}, released {}", cli::version(), released.iso()),
                None => println!("{}", cli::version()),
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The box itself, until it is told to stop. Exit code 0 after an orderly stop.
fn run(at: &cli::Where) -> anyhow::Result<ExitCode> {
    // First of all, while there is one thread.
    let passed = Passed::from_environment();
    let files = config::files_or_default(&at.config);
    let report = config::report(&files);
    // With the rules that were in force last, a rule folder that is refused is no reason not to start.
    let may_start = |config: &config::Config| waystation::rules::may_stand_in(&config.rules, &config.node.state);
    let Some(config) = report.config.or_else(|| report.but_for_rules.filter(may_start)) else {
        cli::check::print(&report.problems);
        return Ok(ExitCode::from(cli::FAILED));
    };
    start_log(&config.log)?;
    for problem in &report.problems {
        tracing::warn!(%problem, "configuration");
    }
    let unforced = config::Unforced::new(&config, &files);
    let runtime = runtime()?;
    let ended = runtime.block_on(app::run(config, unforced, passed));
    // Dropped, it would wait for every thread that hangs on a disk. All that can be flushed is flushed by now.
    runtime.shutdown_timeout(app::END_BOUND);
    match ended {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            // In the log's own format: a collector that reads JSON must see this line above all.
            tracing::error!(%error, "the box stopped");
            Ok(ExitCode::from(cli::FAILED))
        }
    }
}

/// The demo, in a folder of its own, which stays: its last lines say how to look into it, and to remove it.
fn demo(keep: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let folder = match keep {
        Some(folder) => folder,
        None => tempfile::tempdir().context("a temporary folder cannot be made")?.keep(),
    };
    let held = runtime()?.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        // A signal drops the demo, and with it its boxes: they would run for ever.
        tokio::select! {
            held = rehearse::demo::run(&folder, |line| println!("{line}")) => held,
            _ = terminate.recv() => bail!("told to stop"),
            _ = interrupt.recv() => bail!("told to stop"),
        }
    })?;
    Ok(if held {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(cli::FAILED)
    })
}

fn send(args: &rehearse::modality::SendArgs) -> anyhow::Result<ExitCode> {
    let done = runtime()?.block_on(rehearse::modality::run(args))?;
    println!("{done}");
    Ok(if done.is_success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(cli::FAILED)
    })
}

fn start_log(config: &telemetry::log::Config) -> anyhow::Result<()> {
    telemetry::log::start(config).context("logging")
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot start")
}
