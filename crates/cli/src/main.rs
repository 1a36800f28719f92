//! The `trunkline` program.

mod arguments;
mod config_check;
mod console;
mod demo;
mod exit;
mod health;
mod help;
mod input;
mod interrupt;
mod lag;
mod lines;
mod logging;
mod metrics;
mod publish;
mod session;
mod subscribe;
mod terminal;

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use clap_complete::Shell;

use arguments::{Arguments, Command, ConfigCommand};
use exit::Exit;

fn main() -> ExitCode {
    // Parsing prints the help and the usage errors itself, and ends with status 0 or 2.
    let arguments = Arguments::parse();
    if let Err(error) = logging::start() {
        terminal::complain(&format!("error: {error}"));
        return Exit::Usage.into();
    }
    let exit = match arguments.command {
        Command::Demo(options) => demo::run(&options),
        Command::Publish(options) => publish::run(&options),
        Command::Subscribe(options) => subscribe::run(&options),
        Command::Health(options) => health::run(&options),
        Command::Lag(options) => lag::run(&options),
        Command::Metrics(options) => metrics::run(&options),
        Command::Config { command: ConfigCommand::Check(options) } => config_check::run(&options),
        Command::Completions { shell } => completions(shell),
    };
    exit.into()
}

fn completions(shell: Shell) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "trunkline", &mut script);
    terminal::write_out(&mut io::stdout().lock(), &script, Exit::Fine)
}
