//! Explores one of the named configurations: `everlock-model --config NAME`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use everlock_model::configs::{self, Named};
use everlock_model::run::Bounds;

/// Explores the protocol exhaustively.
#[derive(Parser)]
struct Arguments {
    /// Which configurations; all that run in a minute or so without.
    #[arg(long)]
    config: Vec<String>,
    /// Ends each after about so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Lists the configurations.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        for Named { name, about, .. } in configs::all() {
            println!("{name}: {about}");
        }
        return ExitCode::SUCCESS;
    }
    let wanted = |named: &Named| {
        if arguments.config.is_empty() {
            named.short
        } else {
            arguments.config.iter().any(|name| name == named.name)
        }
    };
    let chosen: Vec<_> = configs::all().into_iter().filter(wanted).collect();
    if chosen.len() < arguments.config.len() || chosen.is_empty() {
        println!("no such configuration; --list names them");
        return ExitCode::FAILURE;
    }
    let bounds = Bounds {
        time: arguments.seconds.map(Duration::from_secs),
        ..Bounds::default()
    };
    let mut outcome = ExitCode::SUCCESS;
    for Named {
        name, about, what, ..
    } in chosen
    {
        println!("{name}: {about}");
        let found = what.explore(bounds);
        println!("  {}", found.summary());
        for (property, path) in &found.violated {
            println!("  VIOLATED {property}\n{path}");
            outcome = ExitCode::FAILURE;
        }
        if !found.never.is_empty() {
            println!("  never seen: {:?}", found.never);
            if found.exhausted {
                outcome = ExitCode::FAILURE;
            }
        }
    }
    outcome
}
