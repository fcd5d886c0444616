//! The command line: one file or folder per subcommand, and what they share. Every failure is
//! reported as one line.
#![expect(clippy::doc_markdown, reason = "the comments are the text of --help")]

mod audit;
mod billing;
mod configuration_docs;
mod dev;
mod doctor;
mod health;
mod migrate;
mod owner_connection;
mod plan;
mod schema;
mod serve;
mod server;
mod tenant;
mod token;
mod user;

use std::io::Write;

pub use configuration_docs::configuration_docs;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind};

/// The multi-tenant core of a SaaS product: a GraphQL API with tenant isolation enforced by
/// PostgreSQL.
///
/// Without a command, runs dev. Every setting is an environment variable and a flag; see tenantry
/// serve --help.
#[derive(Debug, Parser)]
#[command(name = "tenantry", version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Dev(dev::Dev),
    Serve(serve::Serve),
    Migrate(migrate::Migrate),
    Plan(plan::Plan),
    Billing(billing::Billing),
    Audit(audit::Audit),
    User(user::User),
    Tenant(tenant::Tenant),
    Doctor(doctor::Doctor),
    Health(health::Health),
    Token(token::Token),
    Schema(schema::Schema),
}

/// Why a command failed, as one line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

impl Failure {
    fn new(message: impl std::fmt::Display) -> Self {
        Self(message.to_string())
    }
}

impl From<crate::error::Error> for Failure {
    fn from(error: crate::error::Error) -> Self {
        Self(error.cause())
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::new(error)
    }
}

impl From<pg::Error> for Failure {
    fn from(error: pg::Error) -> Self {
        let parts = [error.detail(), error.hint()].into_iter().flatten();
        Self(parts.fold(error.to_string(), |text, part| format!("{text}. {part}")))
    }
}

/// Parses the arguments and runs their command. Call it on the main thread.
///
/// # Errors
///
/// Returns one line that says what is wrong.
pub fn run() -> Result<std::process::ExitCode, Failure> {
    let parsed = without_empty(Cli::command())
        .try_get_matches()
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error)
            if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) =>
        {
            return error.print().map(|()| std::process::ExitCode::SUCCESS).map_err(Failure::new);
        }
        Err(error) => return Err(one_line(&error)),
    };
    match cli.command {
        None => {
            let matches = without_empty(dev::Dev::command()).try_get_matches_from(["tenantry"]);
            let command = matches.and_then(|matches| dev::Dev::from_arg_matches(&matches));
            command.map_err(|error| one_line(&error))?.run()
        }
        Some(Command::Dev(command)) => command.run(),
        Some(Command::Serve(command)) => command.run(),
        Some(Command::Migrate(command)) => command.run(),
        Some(Command::Plan(command)) => command.run(),
        Some(Command::Billing(command)) => command.run(),
        Some(Command::Audit(command)) => command.run(),
        Some(Command::User(command)) => command.run(),
        Some(Command::Tenant(command)) => command.run(),
        Some(Command::Doctor(command)) => command.run(),
        Some(Command::Health(command)) => command.run(),
        Some(Command::Token(command)) => command.run(),
        Some(Command::Schema(command)) => command.run(),
    }
    .map(|()| std::process::ExitCode::SUCCESS)
}

/// Treats an empty variable as unset, because files that list all variables leave the unused ones
/// empty.
fn without_empty(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|argument| {
        let empty =
            argument.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
        if empty { argument.env(None::<&str>) } else { argument }
    });
    command.mut_subcommands(without_empty)
}

/// Returns the first paragraph of clap's message, which names the setting.
fn one_line(error: &clap::Error) -> Failure {
    let text = error.to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    Failure::new(line.strip_prefix("error: ").unwrap_or(&line))
}

/// Prints a line. Ignores a closed pipe, on which `println!` would panic.
fn say(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A number with its noun, for example "1 fault" or "2 faults".
fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::new)
}
