//! `everlock completions` and `everlock man`: both made from the command line as it is parsed.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgMatches, Args, Command};
use clap_complete::Shell;

use super::{command, failed, parsed};

const NAME: &str = "everlock";

#[derive(Args)]
struct CompletionsArgs {
    /// Whose completions to print
    shell: Shell,
}

#[derive(Args)]
struct ManArgs {
    /// Write a page for each command into this directory, in place of the first one to standard
    /// output
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn commands() -> [Command; 2] {
    let completions = Command::new("completions").about("Print completions for a shell");
    let man = Command::new("man").about("Print the manual page, or write all of them");
    [
        CompletionsArgs::augment_args(completions),
        ManArgs::augment_args(man),
    ]
}

pub(super) fn completions(matches: &ArgMatches) -> ExitCode {
    let CompletionsArgs { shell } = parsed(matches);
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut shown(), NAME, &mut script);
    written(&io::stdout().write_all(&script), "the completions")
}

pub(super) fn man(matches: &ArgMatches) -> ExitCode {
    let ManArgs { dir } = parsed(matches);
    let done = match dir {
        Some(dir) => clap_mangen::generate_to(shown(), dir),
        None => clap_mangen::Man::new(shown()).render(&mut io::stdout()),
    };
    written(&done, "the manual")
}

/// The command line without what is only meant for itself.
fn shown() -> Command {
    let hidden = |command: &Command| command.is_hide_set();
    let all = command();
    let mut shown = Command::new(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .about(super::ABOUT);
    for subcommand in all.get_subcommands().filter(|command| !hidden(command)) {
        shown = shown.subcommand(subcommand.clone());
    }
    shown
}

/// Whoever stops reading halfway has what they wanted.
fn written(done: &io::Result<()>, what: &str) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => failed(&format!("{what} can't be written: {error}")),
    }
}
