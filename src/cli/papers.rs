//! What the package ships beside the binary: completions of the shells and man pages, both from the same arguments that the
//! program parses, so that they cannot say anything else.
use super::{Cli, fail};
use clap::CommandFactory;
use clap_complete::Generator;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// A shell that can complete.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// The completions of a shell, on standard output.
pub fn completions(shell: Shell) -> ExitCode {
    let text = match shell {
        Shell::Bash => script(clap_complete::Shell::Bash),
        Shell::Zsh => script(clap_complete::Shell::Zsh),
        Shell::Fish => script(clap_complete::Shell::Fish),
    };
    match std::io::stdout().lock().write_all(&text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("standard output: {error}")),
    }
}

fn script(generator: impl Generator) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(generator, &mut Cli::command(), "waystation", &mut text);
    text
}

/// `waystation.1` and a page for each verb, into a folder. A build with planted faults makes the pages of the shipped one.
pub fn man(folder: &Path) -> ExitCode {
    // `help` shows what the pages say: it has none of its own, for each verb once more.
    let command = Cli::command()
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true);
    let written = std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(command, folder));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{}: {error}", folder.display())),
    }
}
